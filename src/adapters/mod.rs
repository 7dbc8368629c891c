//! Adapters: the ports carried out with real things.
//!
//! One folder per thing: the tokio runtime, memory, SQLite, PostgreSQL, Redis, gRPC, TLS, what all
//! listeners have in common, the embedded engine, traces. What an adapter must do is
//! said by its port in [`ports`](crate::ports) and checked by that port's suite in
//! [`ports::conformance`](crate::ports::conformance). Adapters are put together only at the composition root.
//!
//! What this is not: no adapter decides anything about replication, and none knows the coordinator.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "adapters are where the outside world is touched"
)]

pub(crate) mod directories;
pub mod files;
pub mod fjall;
pub mod front;
pub mod grpc;
pub(crate) mod log_pace;
pub mod memory;
mod places;
pub mod postgres;
pub mod redis;
pub mod sql_migrations;
mod sql_rows;
pub mod sqlite;
pub mod tls;
pub mod tokio;
pub mod trace;
pub mod vitals;
mod watched;
