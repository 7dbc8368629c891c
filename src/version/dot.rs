//! The name of one write.

use std::fmt;

use super::Actor;

/// Names one write for ever: the `counter`-th that `actor` stamped, over all keys.
///
/// Counters start at 1, strictly increase and are never reused; between two writes of one key there may be gaps.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dot {
    /// Who stamped the write.
    pub actor: Actor,
    /// Which of its writes it is; at least 1.
    pub counter: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.actor, self.counter)
    }
}
