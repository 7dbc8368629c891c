//! Which mutant is on in this process. Woven into both builds of the core, and never built where it stands.
//!
//! `PAIRDB_WOVEN=N` turns mutant N on. `PAIRDB_WOVEN=reach` turns none on, and writes the number of each mutant whose
//! code is reached to the file `PAIRDB_WOVEN_REACHED`, once.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

const UNREAD: u32 = u32::MAX;
const REACH: u32 = u32::MAX - 1;
const NONE: u32 = u32::MAX - 2;

static CHOSEN: AtomicU32 = AtomicU32::new(UNREAD);
static REACHED: Mutex<Vec<bool>> = Mutex::new(Vec::new());

/// Whether this mutant is on.
#[inline]
pub fn on(mutant: u32) -> bool {
    let chosen = CHOSEN.load(Ordering::Relaxed);
    chosen == mutant || (chosen >= REACH && is_chosen(mutant))
}

#[cold]
fn is_chosen(mutant: u32) -> bool {
    if CHOSEN.load(Ordering::Relaxed) == UNREAD {
        let chosen = match std::env::var("PAIRDB_WOVEN").as_deref() {
            Err(_) => NONE,
            Ok("reach") => REACH,
            Ok(number) => number.parse().expect("the number of a mutant"),
        };
        CHOSEN.store(chosen, Ordering::Relaxed);
    }
    let chosen = CHOSEN.load(Ordering::Relaxed);
    if chosen == REACH {
        note(mutant as usize);
    }
    chosen == mutant
}

fn note(mutant: usize) {
    let mut reached = REACHED.lock().unwrap();
    if reached.len() <= mutant {
        reached.resize(mutant + 1, false);
    }
    if std::mem::replace(&mut reached[mutant], true) {
        return;
    }
    let path = std::env::var("PAIRDB_WOVEN_REACHED").expect("a file");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{mutant}").unwrap();
}
