//! Background tasks.

use std::future::Future;

/// Starts tasks that outlive the call that starts them.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// Runs `task` to its end, or to the end of the process. `name` shows up in diagnostics.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static);
}
