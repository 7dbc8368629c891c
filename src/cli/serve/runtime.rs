//! The tokio runtime of a serving process.

use super::super::exit::Failure;
use crate::config::RuntimeKind;

/// Runs `work` to its end on a runtime of the wanted kind.
pub fn run<T>(
    kind: RuntimeKind,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut builder = match kind {
        RuntimeKind::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        RuntimeKind::CurrentThread => tokio::runtime::Builder::new_current_thread(),
    };
    builder
        .enable_all()
        .thread_name("pairdb-worker")
        .build()
        .map_err(|error| Failure::local(format!("can't start the runtime: {error}")))?
        .block_on(work)
}
