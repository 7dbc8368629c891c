//! What a process can't go on without: loops, threads and tasks that end only when they are told to.
//!
//! A loop that has ended otherwise (by a panic, or because what it lives on is gone) leaves a process that takes
//! requests and answers none, or answers and repairs nothing, while its probes say that all is well. So whatever is to
//! last holds a [`Vital`], or runs under [`keep`]; the first that ends unasked ends the process ([`Vitals::failed`],
//! which the command waits for), and whoever supervises the process starts it again. Nothing that was acknowledged is
//! lost by that.
//!
//! What this is not: a panic in the work for one request is that request's failure alone, and is no matter of this.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

/// What must not end. Copies share it.
#[derive(Clone, Debug)]
pub struct Vitals {
    state: Arc<Mutex<State>>,
    failed: Shared<oneshot::Receiver<String>>,
}

#[derive(Debug)]
struct State {
    /// Tells of the first failure.
    tell: Option<oneshot::Sender<String>>,
}

/// Held by what must not end. Dropped without a word it has failed.
#[must_use]
#[derive(Debug)]
pub struct Vital {
    vitals: Vitals,
    name: &'static str,
}

impl Default for Vitals {
    fn default() -> Self {
        let (tell, failed) = oneshot::channel();
        Self {
            state: Arc::new(Mutex::new(State { tell: Some(tell) })),
            failed: failed.shared(),
        }
    }
}

impl Vitals {
    /// Those of this process.
    #[must_use]
    pub fn process() -> Self {
        static PROCESS: LazyLock<Vitals> = LazyLock::new(Vitals::default);
        PROCESS.clone()
    }

    /// From now on `name` must not end unasked.
    pub fn hold(&self, name: &'static str) -> Vital {
        Vital {
            vitals: self.clone(),
            name,
        }
    }

    /// Something has ended that should not.
    pub fn fail(&self, name: &str, cause: &str) {
        tracing::error!(
            task = name,
            cause,
            "what this process can't go on without has ended unasked"
        );
        let tell = self.lock().tell.take();
        if let Some(tell) = tell {
            let _ = tell.send(format!("{name} {cause}")); // received as long as this is there
        }
    }

    /// Completes with what ended, when something has that should not.
    pub async fn failed(&self) -> String {
        match self.failed.clone().await {
            Ok(what) => what,
            Err(oneshot::Canceled) => std::future::pending().await,
        }
    }

    /// What has ended, if something has that should not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failed.peek().cloned()?.ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vital {
    /// It ends as it was told to.
    pub fn ends(self) {
        std::mem::forget(self);
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        let cause = match std::thread::panicking() {
            true => "panicked",
            false => "ended",
        };
        self.vitals.fail(self.name, cause);
    }
}

/// Runs `task`, which returns only when it was told to. Should it panic instead, the process must not go on. A task
/// that is dropped was given up by whoever holds it, which is his affair.
pub async fn keep(vitals: Vitals, name: &'static str, task: impl Future<Output = ()>) {
    #[cfg(test)]
    let task = doom::mortal(name, task);
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        vitals.fail(name, &format!("panicked: {}", message(&*panic)));
    }
}

/// What a bug would do to what must not end, in tests: whatever has this name panics.
#[cfg(test)]
pub(crate) mod doom {
    use std::sync::LazyLock;

    use tokio::sync::watch;

    static DOOMED: LazyLock<watch::Sender<&'static str>> = LazyLock::new(|| watch::Sender::new(""));

    /// From now on.
    pub(crate) fn doom(name: &'static str) {
        DOOMED.send_replace(name);
    }

    /// For a thread, which looks now and then.
    pub(crate) fn check(name: &str) {
        assert!(*DOOMED.borrow() != name, "on purpose");
    }

    pub(crate) async fn mortal(name: &'static str, task: impl Future<Output = ()>) {
        let mut doomed = DOOMED.subscribe();
        tokio::select! {
            biased;
            _ = doomed.wait_for(|doomed| *doomed == name) => panic!("on purpose"),
            () = task => {}
        }
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_as_it_was_told_to_is_no_failure() {
        let vitals = Vitals::default();
        vitals.hold("a loop").ends();
        keep(vitals.clone(), "a task", async {}).await;
        drop(keep(vitals.clone(), "given up", std::future::pending()));
        assert_eq!(vitals.failure(), None);
        assert!(vitals.failed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_first_that_ends_unasked_is_told_for_ever() {
        let vitals = Vitals::default();
        keep(vitals.clone(), "a task", async { panic!("on purpose") }).await;
        drop(vitals.hold("a loop"));
        for _ in 0..2 {
            assert_eq!(vitals.failed().await, "a task panicked: on purpose");
        }
        assert!(vitals.failure().is_some());
    }

    #[test]
    fn a_thread_that_panics_is_told_of() {
        let vitals = Vitals::default();
        let vital = vitals.hold("a thread");
        let thread = std::thread::spawn(move || {
            let _vital = vital;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        let failed = vitals.failed().now_or_never();
        assert_eq!(failed.as_deref(), Some("a thread panicked"));
    }
}
