//! What a watcher of the metadata gets: the events, and word of those it missed.

use std::future::ready;

use futures::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::ports::MetadataEvent;

/// How many events a slow watcher may lag behind before it misses some.
pub(super) const EVENTS_MAX: usize = 256;

/// Events from now on. Where the watcher lagged and some are gone, it is told so in their place.
pub(super) fn watched(
    events: &broadcast::Sender<MetadataEvent>,
) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
    BroadcastStream::new(events.subscribe()).filter_map(|event| {
        ready(Some(match event {
            Ok(event) => event,
            Err(BroadcastStreamRecvError::Lagged(_)) => MetadataEvent::Missed,
        }))
    })
}
