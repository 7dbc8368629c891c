//! The program as its users meet it: real processes, real ports, real disks, and everything through the command line.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of processes waits for them"
)]

mod collector;
mod commands;
mod joins;
#[path = "../kit/mod.rs"]
mod kit;
mod nodes;
mod processes;
mod resizes;
mod restarts;
mod shrinks;
mod started;
mod switches;
mod tenants;
mod traces;
mod usage;

use kit::Server;
use tempfile::TempDir;

/// A whole cluster in one process, with its data in a folder of its own.
struct Dev {
    server: Server,
    directory: TempDir,
}

impl Dev {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = Server::dev(directory.path());
        Self { server, directory }
    }
}

impl Dev {
    /// One whose owners change in a second.
    fn with_few_partitions() -> Self {
        let directory = TempDir::new().unwrap();
        kit::few_partitions(&directory.path().join("metadata.sqlite"));
        let server = Server::dev(directory.path());
        Self { server, directory }
    }
}

impl std::ops::Deref for Dev {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
