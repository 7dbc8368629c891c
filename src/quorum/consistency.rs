//! The consistency levels a client may ask for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::mutant::{self, Mutant};

/// How many of a key's owners have to answer.
#[derive(
    Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Any one.
    One,
    /// More than half.
    #[default]
    Quorum,
    /// Every one.
    All,
}

impl Consistency {
    const LEVELS: [Self; 3] = [Self::One, Self::Quorum, Self::All];

    /// How many answers this is for a replication factor of `r`.
    pub fn required(self, r: usize) -> usize {
        let required = match self {
            Self::One => 1,
            Self::Quorum => r / 2 + 1,
            Self::All => r,
        };
        let short = usize::from(required > 1 && mutant::on(Mutant::QuorumShort));
        required - short
    }

    /// The name as the wire has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A consistency level that isn't one.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("consistency is one, quorum or all")]
pub struct UnknownConsistency;

impl FromStr for Consistency {
    type Err = UnknownConsistency;

    /// Takes a name in any case.
    fn from_str(name: &str) -> Result<Self, UnknownConsistency> {
        Self::LEVELS
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(name))
            .ok_or(UnknownConsistency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_answers() {
        let required = |level: Consistency| [1, 2, 3, 4, 5, 10].map(|r| level.required(r));
        assert_eq!(required(Consistency::One), [1, 1, 1, 1, 1, 1]);
        assert_eq!(required(Consistency::Quorum), [1, 2, 2, 3, 3, 6]);
        assert_eq!(required(Consistency::All), [1, 2, 3, 4, 5, 10]);
    }

    #[test]
    fn two_quorums_meet() {
        for r in 1..=10 {
            assert!(2 * Consistency::Quorum.required(r) > r);
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!("QUORUM".parse(), Ok(Consistency::Quorum));
        for level in Consistency::LEVELS {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        for name in ["", "two", "quorum "] {
            let error = name.parse::<Consistency>().unwrap_err().to_string();
            assert_eq!(error, "consistency is one, quorum or all");
        }
    }

    #[test]
    fn serde_has_the_same_names() {
        for level in Consistency::LEVELS {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
            assert_eq!(
                serde_json::from_value::<Consistency>(level.as_str().into()).unwrap(),
                level
            );
        }
    }
}
