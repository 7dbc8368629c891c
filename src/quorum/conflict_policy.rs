//! What a tenant wants done about concurrent writes of a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How conflicts are settled, at the edges only: records are joined alike under either.
#[derive(
    Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPolicy {
    /// A read returns the version with the greatest stamp.
    #[default]
    LastWriteWins,
    /// A read returns every version that no other overwrote.
    Siblings,
}

impl ConflictPolicy {
    const POLICIES: [Self; 2] = [Self::LastWriteWins, Self::Siblings];

    /// The name as the wire and the metadata store have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LastWriteWins => "last_write_wins",
            Self::Siblings => "siblings",
        }
    }
}

impl fmt::Display for ConflictPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A conflict policy that isn't one.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a conflict policy is last_write_wins or siblings")]
pub struct UnknownConflictPolicy;

impl FromStr for ConflictPolicy {
    type Err = UnknownConflictPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownConflictPolicy> {
        Self::POLICIES
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or(UnknownConflictPolicy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_the_same_names() {
        for policy in ConflictPolicy::POLICIES {
            let name = policy.as_str();
            assert_eq!(name.parse(), Ok(policy));
            assert_eq!(serde_json::to_value(policy).unwrap(), name);
            assert_eq!(
                serde_json::from_value::<ConflictPolicy>(name.into()).unwrap(),
                policy
            );
        }
        assert_eq!(ConflictPolicy::default().as_str(), "last_write_wins");
    }

    #[test]
    fn other_names_are_refused() {
        let error = "newest".parse::<ConflictPolicy>().unwrap_err().to_string();
        assert_eq!(error, "a conflict policy is last_write_wins or siblings");
    }
}
