//! Which release of the program a process is of, as far as others have to know: what it understands, and what it writes
//! for others to read.
//!
//! While a cluster is upgraded two releases run side by side. A process *speaks* its own release; two that talk to each
//! other speak the older one's ([`Release::agreed`]). What the older one does not know is not asked of it, and it is
//! answered in its own words. A process of the simulation may speak the release before; production speaks its own.
//!
//! What this is not: bytes. Adapters write what is decided here, and say over the wire which versions a process speaks.

use std::fmt;
use std::sync::Arc;

use crate::mutant::{self, Mutant};

/// A release, by what it brought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Release {
    /// Nothing of changes of owners: while a partition moves it relies on the old owners alone.
    BeforeChangesOfOwners,
    /// All that this version knows.
    #[default]
    Current,
}

/// The wire versions that a process understands, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The newest, which it speaks of its own.
    pub newest: u32,
    /// The oldest that it still understands.
    pub oldest: u32,
}

/// Who asks, as far as the other end knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// What is spoken with it: the older one's release.
    pub release: Release,
    /// Its name, or where it is; for people. Empty: nobody of whom one has to know.
    pub name: Arc<str>,
}

impl Window {
    /// The version that both speak: the newest that both understand, if there is one.
    #[must_use]
    pub fn agreed(self, other: Self) -> Option<u32> {
        let common = self.newest.min(other.newest);
        let oldest = self.oldest.max(other.oldest);
        match mutant::on(Mutant::WindowTooNarrow) {
            true => (self == other).then_some(common),
            false => (common >= oldest).then_some(common),
        }
    }
}

impl Release {
    /// What the other end understands that told of these versions, or of none.
    #[must_use]
    pub fn told(newest: Option<u32>, oldest: Option<u32>) -> Window {
        let silent = match mutant::on(Mutant::SilentTakenForCurrent) {
            true => Self::Current,
            false => Self::BeforeChangesOfOwners, // the last one that told nothing
        };
        let newest = newest.unwrap_or(silent.wire_version());
        let oldest = oldest.unwrap_or(newest);
        Window { newest, oldest }
    }

    /// What a process of it tells of itself: the newest and the oldest wire version that it understands.
    #[must_use]
    pub const fn tells(self) -> Option<(u32, u32)> {
        let Window { newest, oldest } = self.window();
        match self {
            Self::BeforeChangesOfOwners => None,
            Self::Current => Some((newest, oldest)),
        }
    }

    /// The wire version that it is the newest to speak.
    #[must_use]
    pub const fn wire_version(self) -> u32 {
        match self {
            Self::BeforeChangesOfOwners => 1,
            Self::Current => 2,
        }
    }

    /// What somebody who talks in this wire version knows.
    #[must_use]
    pub const fn of_wire_version(version: u32) -> Self {
        match version < Self::Current.wire_version() {
            true => Self::BeforeChangesOfOwners,
            false => Self::Current,
        }
    }

    /// What a process of it understands: its own version, and the one before.
    #[must_use]
    pub const fn window(self) -> Window {
        let newest = self.wire_version();
        match self {
            Self::BeforeChangesOfOwners => Window { newest, oldest: 1 },
            Self::Current => Window {
                newest,
                oldest: newest - 1,
            },
        }
    }

    /// What a process of this release speaks with one of `other`, which tells of itself what it does, if they
    /// understand each other. (One that tells nothing does not ask what the other end tells, either.)
    #[must_use]
    pub fn agreed(self, other: Self) -> Option<Self> {
        let (older, newer) = (self.min(other), self.max(other));
        let told = older.tells();
        let told = Self::told(told.map(|it| it.0), told.map(|it| it.1));
        let agreed = newer.window().agreed(told);
        agreed.map(Self::of_wire_version)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BeforeChangesOfOwners => "before changes of owners",
            Self::Current => "current",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Release::{BeforeChangesOfOwners as Before, Current};
    use super::*;

    fn window(oldest: u32, newest: u32) -> Window {
        Window { newest, oldest }
    }

    #[test]
    fn neighbours_speak_what_the_older_one_does() {
        assert_eq!(Before.window(), window(1, 1));
        assert_eq!(Current.window(), window(1, 2));
        assert_eq!(Current.agreed(Before), Some(Before));
        assert_eq!(Before.agreed(Current), Some(Before));
        assert_eq!(Before.agreed(Before), Some(Before));
        assert_eq!(Current.agreed(Current), Some(Current));
        assert_eq!(Release::told(None, None), window(1, 1));
        assert_eq!(Release::told(Some(3), None), window(3, 3));
        assert_eq!(Release::told(Some(3), Some(2)), window(2, 3));
        assert_eq!(window(1, 2).agreed(window(2, 3)), Some(2));
        assert_eq!(window(1, 2).agreed(window(3, 4)), None);
        assert_eq!(window(3, 4).agreed(window(1, 2)), None);
        for release in [Before, Current] {
            let version = release.wire_version();
            assert_eq!(Release::of_wire_version(version), release);
        }
    }
}
