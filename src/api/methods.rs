//! The methods of the coordinator's service: what each needs, and what it means when one has no answer in time.
//!
//! A test in `observe.rs` holds the list to the service's descriptor.

use super::auth::Right;
use crate::proto::v1::ErrorCode;

/// A method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    /// As the service calls it, and metrics.
    pub(super) name: &'static str,
    /// What its sender must have.
    pub(super) right: Right,
    /// Whether it changes something.
    pub(super) changes: bool,
    /// What it waits for, if it waits too long.
    pub(super) waits_for: ErrorCode,
}

const OWNERS: ErrorCode = ErrorCode::QuorumNotReached;
const STORE: ErrorCode = ErrorCode::StoreUnavailable;

/// All of them, the most frequent first.
pub(super) static METHODS: [Method; 21] = [
    looks("ReadKeyValue", Right::Read, OWNERS),
    changes("WriteKeyValue", Right::Write, OWNERS),
    changes("DeleteKeyValue", Right::Write, OWNERS),
    changes("AddStorageNode", Right::Admin, STORE),
    changes("CancelMigration", Right::Admin, STORE),
    changes("ChangeNodes", Right::Admin, STORE),
    changes("CreateApiKey", Right::Admin, STORE),
    changes("CreateTenant", Right::Admin, STORE),
    looks("GetConvergence", Right::Admin, STORE),
    looks("GetMigrationStatus", Right::Admin, STORE),
    looks("GetTenant", Right::Read, STORE),
    looks("ListApiKeys", Right::Admin, STORE),
    looks("ListMigrations", Right::Admin, STORE),
    looks("ListStorageNodes", Right::Admin, STORE),
    changes("PaceMigration", Right::Admin, STORE),
    looks("PlanNodes", Right::Admin, STORE),
    changes("RemoveStorageNode", Right::Admin, STORE),
    changes("RevokeApiKey", Right::Admin, STORE),
    changes("SetSiblingLimits", Right::Admin, STORE),
    changes("UpdateReplicationFactor", Right::Admin, STORE),
    looks("VerifyPage", Right::Admin, STORE),
];

/// The method of this name.
pub(super) fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

const fn looks(name: &'static str, right: Right, waits_for: ErrorCode) -> Method {
    Method {
        name,
        right,
        changes: false,
        waits_for,
    }
}

const fn changes(name: &'static str, right: Right, waits_for: ErrorCode) -> Method {
    Method {
        changes: true,
        ..looks(name, right, waits_for)
    }
}
