//! SIGINT and SIGTERM: the first asks for an orderly stop, the second ends the process at once.

use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::exit::Failure;
use super::super::output;

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// The signals that stop a server.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// Takes the signals over, so that from now on they don't end the process.
    pub fn new() -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind).map_err(|error| Failure::local(format!("can't wait for signals: {error}")))
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    /// Completes with the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs an orderly stop; another signal ends the process at once.
    pub async fn or_at_once<T>(mut self, stop: impl Future<Output = T>) -> T {
        tokio::select! {
            stopped = stop => stopped,
            () = self.next() => {
                output::note("stopped at once, without draining");
                process::exit(INTERRUPTED)
            }
        }
    }
}
