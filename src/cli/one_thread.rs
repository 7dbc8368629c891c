//! Commands that need no more than one thread.

use super::exit::Failure;

/// Does this on the thread that asks for it.
pub(super) fn on_one_thread(
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("can't start: {error}")))?
        .block_on(work)
}
