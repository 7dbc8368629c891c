//! SIGINT and SIGTERM: the first asks for an orderly stop, the second ends the process at once. So does, if that is
//! wished, the end of standard input: it comes with the end of whoever started the process and holds the other end,
//! however that one ends.

use std::process;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::super::exit::Failure;
use super::super::output;

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const INTERRUPTED: i32 = 130;

/// The signals that stop a server.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
    /// Completes once with the end of the input; `None` when that is not wished, or is over.
    input_ends: Option<oneshot::Receiver<()>>,
}

impl StopSignal {
    /// Takes the signals over, so that from now on they don't end the process. With `end_with_input` the end of
    /// standard input, which is read by nobody else, is one of them.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(end_with_input: bool) -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind).map_err(|error| Failure::local(format!("can't wait for signals: {error}")))
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            input_ends: end_with_input.then(input_ends),
        })
    }

    /// Completes with the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = over(&mut self.input_ends) => {}
        }
    }

    /// Runs an orderly stop; another signal ends the process at once.
    pub async fn or_at_once<T>(mut self, stop: impl Future<Output = T>) -> T {
        self.input_ends = None; // whoever holds it may go while we stop
        tokio::select! {
            stopped = stop => stopped,
            () = self.next() => {
                output::note("stopped at once, without draining");
                process::exit(INTERRUPTED)
            }
        }
    }
}

/// Completes when it does, once.
async fn over(input_ends: &mut Option<oneshot::Receiver<()>>) {
    match input_ends {
        Some(ends) => {
            let _ = ends.await;
            *input_ends = None;
        }
        None => std::future::pending().await,
    }
}

fn input_ends() -> oneshot::Receiver<()> {
    let (tell, ends) = oneshot::channel();
    tokio::spawn(async move {
        let mut input = tokio::io::stdin();
        let mut dropped = [0; 64];
        while input.read(&mut dropped).await.is_ok_and(|read| read > 0) {}
        let _ = tell.send(()); // nobody there: it stops already
    });
    ends
}
