//! The tokio runtime of a serving process, its log and its traces.

use super::super::exit::Failure;
use super::logging;
use crate::adapters::trace::Exporter;
use crate::config::{Config, RuntimeKind};

/// Runs `work` to its end on a runtime of the configured kind, with the log and traces as configured. In traces it is the instance
/// `instance` of `service`.
pub fn run<W>(
    service: &'static str,
    instance: &str,
    config: &Config,
    work: W,
) -> Result<(), Failure>
where
    W: Future<Output = Result<(), Failure>>,
{
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
        let outcome = work.await;
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        outcome
    });
    runtime.shutdown_background(); // a look-up of a name that nobody answers is not waited for
    outcome
}
