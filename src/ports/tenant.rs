//! A tenant as the metadata store keeps it.

use std::fmt;
use std::sync::Arc;

use crate::quorum::{ConflictPolicy, Consistency};

/// A tenant's name: 1 to 255 bytes of printable text without ':'.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TenantId(Arc<str>);

/// Why a string is not a tenant's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TenantIdError {
    /// The empty string.
    #[error("is empty; it must have 1 to 255 bytes")]
    Empty,
    /// More than 255 bytes.
    #[error("has {0} bytes; at most 255 are allowed")]
    TooLong(usize),
    /// A control character or ':'.
    #[error("has the character {0:?}; printable text without ':' is allowed")]
    Forbidden(char),
}

impl TenantId {
    /// Checks and keeps the name.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, TenantIdError> {
        let name = name.into();
        Self::check(&name).map(|()| Self(name))
    }

    /// Checks the name.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn check(name: &str) -> Result<(), TenantIdError> {
        if name.is_empty() {
            return Err(TenantIdError::Empty);
        }
        if name.len() > 255 {
            return Err(TenantIdError::TooLong(name.len()));
        }
        match name.chars().find(|c| c.is_control() || *c == ':') {
            Some(c) => Err(TenantIdError::Forbidden(c)),
            None => Ok(()),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many unresolved siblings a tenant's keys may have. Siblings pile up when a client writes without the context of
/// what it read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SiblingLimits {
    /// A key with as many is told of in the log and in a metric; 1 to `max`.
    pub warn: u16,
    /// A write that would leave more is refused, as long as its context does not resolve them; up to
    /// [`SiblingLimits::HIGHEST`].
    pub max: u16,
}

impl SiblingLimits {
    /// No key may have more.
    pub const HIGHEST: u16 = 256;

    /// Checks the two. `None`: they are not in their ranges.
    #[must_use]
    pub fn new(warn: u32, max: u32) -> Option<Self> {
        let (warn, max) = (u16::try_from(warn).ok()?, u16::try_from(max).ok()?);
        (1 <= warn && warn <= max && max <= Self::HIGHEST).then_some(Self { warn, max })
    }
}

impl Default for SiblingLimits {
    fn default() -> Self {
        Self {
            warn: 16,
            max: Self::HIGHEST,
        }
    }
}

/// A tenant and its settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// The name.
    pub id: TenantId,
    /// How many owners hold each key, 1 to 10.
    pub replication_factor: u8,
    /// How concurrent writes are shown.
    pub conflict_policy: ConflictPolicy,
    /// Used when a request names no consistency; `None` leaves it to the server.
    pub default_consistency: Option<Consistency>,
    /// How many unresolved siblings its keys may have.
    pub siblings: SiblingLimits,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub updated_at: i64,
    /// For optimistic locking: starts at 1 and grows by one with each change.
    pub version: u64,
}

impl Tenant {
    /// The tenant that every new installation has: `default`, three owners, last write wins.
    #[must_use]
    pub fn default_at(unix_seconds: i64) -> Self {
        Self {
            id: TenantId(Arc::from("default")),
            replication_factor: 3,
            conflict_policy: ConflictPolicy::LastWriteWins,
            default_consistency: None,
            siblings: SiblingLimits::default(),
            created_at: unix_seconds,
            updated_at: unix_seconds,
            version: 1,
        }
    }
}
