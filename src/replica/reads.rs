//! The read loop: one engine read for all reads that wait.
//!
//! It goes on when writes can't. Every record is checked before it is served.

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;

use super::ReplicaSettings;
use super::queue::EndsWithLoop;
use super::shared::Shared;
use super::slot::damaged;
use crate::buggify::{self, Site};
use crate::mutant::{self, Mutant};
use crate::ports::{Clock, RecordKey, Refusal, ReplicaWorld, Reply, Space, StorageEngine};
use crate::version::Record;

/// So many records are held at once at most, whatever their length, before they are handed on.
const BATCH_MAX: usize = 64;

/// Runs until the queue is closed and empty. `finished` is dropped then.
pub(super) async fn run<W: ReplicaWorld>(
    shared: Arc<Shared<W>>,
    settings: ReplicaSettings,
    finished: oneshot::Sender<()>,
) {
    let _ends = EndsWithLoop(&shared.reads);
    let mut waiting = Vec::new();
    let batch_max = || match buggify::on(Site::BatchOfOne) {
        true => 1,
        false => settings.batch_max.min(BATCH_MAX),
    };
    while shared
        .reads
        .take(&mut waiting, batch_max(), usize::MAX)
        .await
    {
        buggify::pause(Site::PauseBeforeRead, |pause| {
            shared.world.clock().sleep(pause)
        })
        .await;
        let keys = waiting
            .iter()
            .map(|read| read.key.as_bytes().clone())
            .collect();
        match shared.world.storage().read(Space::Records, keys).await {
            Ok(found) => {
                for (read, record) in waiting.drain(..).zip(found) {
                    // A fence that was raised meanwhile counts: once that was answered, older epochs are not.
                    let reply = shared
                        .admit(&read.asked)
                        .and_then(|()| check(&read.key, record));
                    if reply == Err(Refusal::Damaged) {
                        shared.met_damage(&read.key);
                    }
                    let _ = read.answer.send(reply); // nobody there: the caller gave up
                }
            }
            Err(error) => {
                for read in waiting.drain(..) {
                    let _ = read
                        .answer
                        .send(Err(Refusal::Unavailable(error.to_string())));
                }
            }
        }
    }
    drop(finished);
}

fn check(key: &RecordKey, record: Option<Bytes>) -> Result<Reply, Refusal> {
    if let Some(record) = &record
        && let Err(error) = Record::decode(record.clone())
        && !mutant::on(Mutant::DamagedServed)
    {
        damaged(key, &error);
        return Err(Refusal::Damaged);
    }
    Ok(Reply::Found { record })
}
