//! How long tests wait.

use std::time::{Duration, Instant};

/// No step of a test takes longer, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tries until there is something; `what` says in vain for what, else.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < give_up, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
