//! The name of one logical write of a client.

use std::fmt;

/// Names what a client asked for once, however many replicas stamped it: a retry at a second replica gets another
/// [`Dot`](super::Dot) and the same write id.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WriteId(pub u128);

impl fmt::Display for WriteId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}
