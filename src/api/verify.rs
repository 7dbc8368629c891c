//! What verification found, as messages.

use crate::coordinator::{Difference, Holds, Unverified, Verified};
use crate::placement::NodeId;
use crate::proto::v1;

/// All of it.
pub(super) fn response(found: Verified) -> v1::VerifyPageResponse {
    v1::VerifyPageResponse {
        keys: found.keys,
        trees: found.trees,
        differences: found.differences.into_iter().map(difference).collect(),
        unverified: found.unverified.into_iter().map(unverified).collect(),
        next: found.next.unwrap_or_default(),
        partition: found.partition.into(),
        partitions: found.partitions,
    }
}

fn difference(difference: Difference) -> v1::KeyDifference {
    v1::KeyDifference {
        tenant_id: difference.key.tenant().into(),
        key: difference.key.key().into(),
        owners: difference.owners.into_iter().map(owner).collect(),
    }
}

fn owner((node, holds): (NodeId, Holds)) -> v1::OwnerRecord {
    let owner = v1::OwnerRecord {
        node_id: node.as_str().into(),
        ..Default::default()
    };
    match holds {
        Holds::Nothing => v1::OwnerRecord {
            state: "nothing".into(),
            ..owner
        },
        Holds::Unknown => v1::OwnerRecord {
            state: "unknown".into(),
            ..owner
        },
        Holds::Damaged(cause) => v1::OwnerRecord {
            state: "damaged".into(),
            cause,
            ..owner
        },
        Holds::Record {
            hash,
            siblings,
            deleted,
            stamp,
        } => v1::OwnerRecord {
            state: if deleted { "deleted" } else { "value" }.into(),
            hash: hash.to_be_bytes().to_vec().into(),
            siblings: u32::try_from(siblings).unwrap_or(u32::MAX),
            stamp_unix_ms: i64::try_from(stamp.wall_ms()).unwrap_or(i64::MAX),
            ..owner
        },
    }
}

fn unverified(unverified: Unverified) -> v1::Unverified {
    v1::Unverified {
        name: unverified.what,
        trees: unverified.trees,
        cause: unverified.cause,
    }
}
