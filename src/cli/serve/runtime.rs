//! The tokio runtime of a serving process, its files, its log and its traces; and its end when something in it has
//! died.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use super::super::exit::{Exit, Failure};
use super::{files, logging};
use crate::adapters::trace::Exporter;
use crate::adapters::vitals::Vitals;
use crate::config::{Config, RuntimeKind};

/// Runs `work` to its end on a runtime of the configured kind, with the log and traces as configured. In traces it is
/// the instance `instance` of `service`.
///
/// When something has ended that the process can't go on without (see [`vitals`](crate::adapters::vitals)), `work` is
/// left as it is: an orderly stop would wait for what is dead, and nothing that was acknowledged needs it.
pub fn run<W>(
    service: &'static str,
    instance: &str,
    config: &Config,
    work: W,
) -> Result<(), Failure>
where
    W: Future<Output = Result<(), Failure>>,
{
    let open_max = files::prepare();
    let mut builder = match config.server.runtime {
        RuntimeKind::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        RuntimeKind::CurrentThread => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .thread_name("pairdb-worker")
        .build()
        .map_err(|error| Failure::local(format!("can't start the runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let exporter = Exporter::start(&config.tracing, service, instance)
            .map_err(|error| Failure::usage(error.to_string()))?;
        logging::start(&config.logging, exporter.as_ref())?;
        files::warn_of_few(open_max, service, config);
        log_panics();
        let vitals = Vitals::process();
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let outcome = tokio::select! {
            biased;
            outcome = &mut work => outcome.map_err(|_| "its main task panicked".to_owned()),
            what = vitals.failed() => Err(what),
        };
        let outcome = outcome.unwrap_or_else(|what| {
            std::mem::forget(work); // dropping it might wait for what is dead, too
            let what = format!("what this process can't go on without has ended: {what}");
            Err(Failure::new(Exit::Failure, "DIED", what).hint("start it again; the log says more"))
        });
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        outcome
    });
    runtime.shutdown_background(); // a look-up of a name that nobody answers is not waited for
    outcome
}

/// Puts every panic into the log: where it was, but not what it says, which may be a client's data.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        metrics::counter!("process_panics_total").increment(1);
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string);
        tracing::error!(thread = thread.name(), location, "a panic");
    }));
}

#[cfg(test)]
#[path = "runtime_test.rs"]
mod tests;
