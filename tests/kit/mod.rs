//! What the tests of the program share: one command of it ([`Program`]), a server process ([`Server`]), and
//! coordinators and storage nodes that are a cluster ([`Cluster`]).
//!
//! - A process sees no `PAIRDB_*` variable that its test did not give it.
//! - No process outlives its test, however that ends, and what it wrote is shown where the test fails.
//! - Nothing is waited for without end: each wait has its time ([`PATIENCE`]), and a test program that hangs all the
//!   same ends, with what its servers wrote ([`watch`]).
//!
//! What this is not: a second way into the product. Tests use what users use; where one asks a storage node directly,
//! it says so.

#![allow(
    dead_code,
    unused_imports,
    clippy::print_stderr,
    reason = "every test program uses some of it; logs are shown where a test fails"
)]

mod cluster;
mod environment;
mod http;
mod log;
mod not_tried;
mod partitions;
mod patience;
mod power_loss;
mod program;
mod server;
mod small_disk;
mod trace;
pub mod watch;

pub use cluster::{Cluster, on_stores};
pub use environment::number;
pub use http::get as http_get;
pub use not_tried::not_tried;
pub use partitions::few_partitions;
pub use patience::{PATIENCE, until};
pub use power_loss::{Disk, Names};
pub use program::{Done, PROGRAM, Program};
pub use server::{Client, Server};
pub use small_disk::SmallDisk;
pub use trace::{Call, Event, Recording};
