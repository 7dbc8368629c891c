//! Background tasks on the current tokio runtime.
//!
//! A task that panics is reported and ends; nothing else does, unless it was one to [keep](Spawn::keep). The tasks are
//! counted, so that a process that stops can wait for those still at work. How many there may be is for those who start
//! them to bound.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::Instrument;

use crate::adapters::vitals::{self, Vitals, message};
use crate::ports::Spawn;

/// Spawns on the tokio runtime it is called in. Copies share one count.
#[derive(Clone, Debug)]
pub struct TokioSpawn {
    tasks: Arc<Tasks>,
    vitals: Vitals,
}

#[derive(Debug, Default)]
struct Tasks {
    running: AtomicUsize,
    ended: Notify,
}

/// Counts a task for as long as it is held, so that a task dropped with its runtime is counted out as well.
struct Running(Arc<Tasks>);

impl Default for TokioSpawn {
    fn default() -> Self {
        Self::new()
    }
}

impl TokioSpawn {
    /// With no tasks yet. The process can't go on without those that are to be kept.
    #[must_use]
    pub fn new() -> Self {
        Self::with_vitals(Vitals::process())
    }

    /// With no tasks yet. What is to be kept and ends unasked is told to `vitals`.
    #[must_use]
    pub fn with_vitals(vitals: Vitals) -> Self {
        Self {
            tasks: Arc::default(),
            vitals,
        }
    }

    /// How many tasks have been spawned and not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.running.load(Ordering::Acquire)
    }

    /// Completes when no task is running.
    pub async fn idle(&self) {
        loop {
            let ended = self.tasks.ended.notified();
            if self.running() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Running {
    fn new(tasks: &Arc<Tasks>) -> Self {
        tasks.running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(tasks))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

impl Spawn for TokioSpawn {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(&self.tasks);
        let task = async move {
            let _running = running;
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                tracing::error!(
                    task = name,
                    panic = message(&*panic),
                    "a background task panicked"
                );
            }
        };
        // Its span is a child of the one that is current here, so what a request caused stays in the request's trace.
        let task = task.instrument(tracing::debug_span!("task", name));
        // A request that is dropped after its runtime starts nothing any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(task);
        }
    }

    fn keep(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(&self.tasks);
        let kept = vitals::keep(self.vitals.clone(), name, task);
        let task = async move {
            let _running = running;
            kept.await;
        };
        tokio::spawn(task.instrument(tracing::debug_span!("task", name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::tokio::TokioClock;
    use crate::ports::conformance;

    #[tokio::test]
    async fn conforms() {
        conformance::spawn(&TokioSpawn::new(), &TokioClock::new()).await;
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let spawn = TokioSpawn::new();
        let (done, answer) = tokio::sync::oneshot::channel();
        spawn.spawn("panics", async { panic!("on purpose") });
        spawn.spawn("lives", async move { done.send(()).unwrap() });
        answer.await.unwrap();
        spawn.idle().await;
        assert_eq!(spawn.running(), 0);
    }

    #[test]
    fn outside_of_a_runtime_nothing_is_started() {
        let spawn = TokioSpawn::new();
        spawn.spawn("late", async {});
        assert_eq!(spawn.running(), 0);
    }

    #[tokio::test]
    async fn a_panic_of_what_is_to_be_kept_is_told_of() {
        let vitals = Vitals::default();
        let spawn = TokioSpawn::with_vitals(vitals.clone());
        spawn.keep("returns", async {});
        spawn.idle().await;
        assert_eq!(vitals.failure(), None);
        spawn.keep("panics", async { panic!("on purpose") });
        assert_eq!(vitals.failed().await, "panics panicked: on purpose");
    }

    #[tokio::test]
    async fn idle_waits_for_the_last_task() {
        let spawn = TokioSpawn::new();
        spawn.idle().await;
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        spawn.spawn("waits", async move {
            let _ = gone.await;
        });
        assert_eq!(spawn.running(), 1);
        assert!(spawn.idle().now_or_never().is_none());
        go.send(()).unwrap();
        spawn.idle().await;
    }
}
