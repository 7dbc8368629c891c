//! The actor of a version vector: one incarnation of a replica.

use std::fmt;

/// A replica's incarnation: a random id made durable before its first use.
///
/// A replica takes a new one whenever it can't prove that it still holds every dot it ever gave out, so an actor never
/// names two writes with one counter.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Actor(pub u64);

impl Actor {
    /// The first four hex digits, for people: `node-1#3f9a`.
    pub fn short(self) -> String {
        format!("{:04x}", self.0 >> 48)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_with_all_its_digits_or_the_first_four() {
        let actor = Actor(0x3f9a_0000_0000_0001);
        assert_eq!(actor.to_string(), "3f9a000000000001");
        assert_eq!(actor.short(), "3f9a");
        assert_eq!(Actor(7).to_string(), "0000000000000007");
        assert_eq!(Actor(7).short(), "0000");
    }
}
