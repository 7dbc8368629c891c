//! Background tasks.

use std::future::Future;

/// Starts tasks that outlive the call that starts them.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// Runs `task` to its end, or to the end of the process. `name` shows up in diagnostics.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static);

    /// The same for a task that nothing can go on without: it returns only when it was told to. One that panics instead
    /// ends the process, where there is a process; whatever else it does, it must not be dead in silence.
    fn keep(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static);
}
