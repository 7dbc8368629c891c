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
    /// The engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
