//! A read that waits for the read loop, and who waits for its answer.

use futures::channel::oneshot;

use super::fences::Asked;
use crate::ports::{RecordKey, Refusal, Reply};

/// The record of a key is asked for.
pub(super) struct Read {
    pub(super) asked: Asked,
    pub(super) key: RecordKey,
    pub(super) answer: oneshot::Sender<Result<Reply, Refusal>>,
}
