//! A read that waits for the read loop, and who waits for its answer.

use futures::channel::oneshot;

use crate::placement::Epoch;
use crate::ports::{RecordKey, Refusal, Reply};

/// The record of a key is asked for, by an epoch.
pub(super) struct Read {
    pub(super) epoch: Epoch,
    pub(super) key: RecordKey,
    pub(super) answer: oneshot::Sender<Result<Reply, Refusal>>,
}
