//! gRPC between coordinators and storage nodes: the [`ReplicaTransport`](crate::ports::ReplicaTransport) and its
//! other end.
//!
//! What it is: one connection and one long `Exchange` stream for each (coordinator, node), each message a batch of
//! whatever is waiting. A call per operation would cost five times the CPU. Two tasks a connection, none an operation.
//! What this is not: it decides nothing about replication, and knows neither coordinator nor replica.
//!
//! ```text
//! call ─ Session ─ Outbox ═ RequestBatch ═▶ exchange ─ RequestHandler
//!           └ Waiters ◀═ ReplyBatch ═ Outbox ┘
//! ```
//!
//! Invariants:
//! - A call ends by its deadline (a sweep looks every few milliseconds), or at once when its connection breaks.
//! - A call that says "not sent" did not run and never will: no part of it left, or a fragment is missing for ever.
//! - An answer reaches the call it belongs to or nobody: an id is a slot and a generation, and a connection's ids mean
//!   nothing on the next one.
//! - Nothing waits behind something long: what is longer than 64 KiB is cut into fragments, one a message, in both
//!   directions. A second stream for long requests would leave short replies waiting behind long ones.
//! - Two programs talk only in a version that both understand, and find that out before anything is sent.
//! - Everything is bounded: calls in flight, bytes that wait, bytes of one message, requests at work for one stream;
//!   and all of it together by the process's budget.

mod assembler;
mod convert;
mod exchange;
mod health;
mod intake;
mod maintenance;
mod malformed;
mod only_grpc;
mod outbox;
mod paths;
mod peer;
mod server;
mod session;
mod settings;
mod transport;
mod waiters;
mod wire_version;

#[cfg(test)]
mod grpc_test;
#[cfg(test)]
mod tls_test;
#[cfg(test)]
mod versions_test;

pub use health::{HealthService, Serving, Stopping, health};
pub use only_grpc::OnlyGrpc;
pub use server::serve_storage;
pub use settings::{StorageFrontSettings, TransportSettings};
pub use transport::GrpcTransport;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. What these mutexes guard is never left half-changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
