//! Why a storage node does not open.

use crate::placement::NodeId;
use crate::ports::StorageError;

/// Why a storage node does not open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The data is another node's.
    #[error("the data directory belongs to the node {found}, and this is {asked}")]
    OtherNode {
        /// Whose data it is.
        found: NodeId,
        /// Who was to be opened.
        asked: NodeId,
    },
    /// The node's identity is there and can't be read. Who gave out which dots is unknown, so no write may be accepted.
    #[error("the node's identity is damaged: {0}")]
    DamagedIdentity(&'static str),
    /// A newer version of this program wrote the data.
    #[error(
        "the data is of data version {found}, which a newer version of pairdb wrote; this one understands 1 to {understood}"
    )]
    NewerData {
        /// The data's version.
        found: u8,
        /// The newest that this program understands.
        understood: u8,
    },
    /// The engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl OpenError {
    /// What a person can do about it, where it does not follow from the words.
    #[must_use]
    pub const fn way_out(&self) -> Option<&'static str> {
        match self {
            Self::NewerData { .. } => Some(
                "start the version that wrote it, or a newer one; there is no way back with this data, but the node's other \
                 owners refill an empty directory: see deploy/runbooks/upgrade.md",
            ),
            Self::OtherNode { .. } | Self::DamagedIdentity(_) | Self::Storage(_) => None,
        }
    }
}
