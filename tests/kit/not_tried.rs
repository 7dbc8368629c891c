//! What a machine does not let tests try.

use std::io::Write;

/// Where it is set, what can't be tried fails the test: `.ci/run` sets it where the machine can try everything.
const ALL: &str = "TESTS_TRY_ALL";

/// Says so, and fails where everything can be tried.
pub fn not_tried(what: &str) {
    assert!(std::env::var_os(ALL).is_none(), "{what}, and {ALL} is set");
    // Not `eprintln`: that is shown of a test that fails.
    let _ = writeln!(std::io::stderr(), "NOT TRIED: {what}");
}
