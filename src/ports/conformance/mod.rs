//! Conformance suites: what every adapter of a port must do, as code.
//!
//! Each suite takes a way to make fresh adapters and panics at the first thing that is not as the port says. They need
//! no runtime of their own, so production adapters run them in tests and the simulation runs them under its own.
//!
//! What this is not: tests of speed, or of what one adapter does beyond its port.

mod clock;
mod idempotency;
mod metadata;
mod migrations;
mod outcomes;
mod random;
mod spawn;
mod storage;
mod transport;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;

use super::Clock;

pub use clock::clock;
pub use idempotency::idempotency_store;
pub use metadata::{default_tenant, metadata_store};
pub use random::random;
pub use spawn::spawn;
pub use storage::{storage_engine, storage_engine_reopened};
pub use transport::{ScriptedNode, TransportBench, replica_transport};

/// How long anything in a suite may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, but not for ever.
async fn within<T>(clock: &impl Clock, what: &str, future: impl Future<Output = T>) -> T {
    let mut late = pin!(clock.sleep(PATIENCE).fuse());
    let mut future = pin!(future.fuse());
    futures::select_biased! {
        done = future => done,
        () = late => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}
