//! What is tested is what is shipped: the program under test has none of the simulation's switches.

use std::fs;

/// The variable that says which bug is put back, as the symbol table spells it. The simulation's own test of this finds
/// it in the harness.
const SWITCH: &[u8] = b"6mutant6ACTIVE";

#[test]
fn the_program_has_no_switches() {
    let program = fs::read(env!("CARGO_BIN_EXE_pairdb")).unwrap();
    let mut places = program.windows(SWITCH.len());
    assert!(
        !places.any(|place| place == SWITCH),
        "the program under test is compiled with bugs that can be put back"
    );
}
