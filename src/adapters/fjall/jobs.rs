//! A queue from async callers to threads.
//!
//! Its length is bounded by those who push: each job holds a place of a semaphore.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Jobs in the order they came.
pub(super) struct Jobs<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    waiting: VecDeque<J>,
    closed: bool,
}

/// What a thread that waits for jobs wakes up to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Wake {
    /// There are jobs.
    Jobs,
    /// There are none, and the deadline has passed.
    Deadline,
    /// There are none, and none will come.
    Closed,
}

impl<J> Default for Jobs<J> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<J> Jobs<J> {
    /// Adds a job, or gives it back when the queue is closed.
    pub(super) fn push(&self, job: J) -> Result<(), J> {
        let mut state = self.lock();
        if state.closed {
            return Err(job);
        }
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// No more jobs come in; those that wait are still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// No more jobs come in, and those that wait are dropped.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped); // wakes their callers
        self.changed.notify_all();
    }

    /// Waits for jobs and moves all of them into `into`.
    pub(super) fn take_all(&self, into: &mut VecDeque<J>, deadline: Option<Instant>) -> Wake {
        let mut state = self.lock();
        loop {
            if !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, into);
                return Wake::Jobs;
            }
            if state.closed {
                return Wake::Closed;
            }
            let Some(deadline) = deadline else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            if now >= deadline {
                return Wake::Deadline;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, deadline - now)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for one job; `None` when there are none and none will come.
    pub(super) fn take_one(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by a thread that takes jobs: should it panic, nobody waits for it for ever.
pub(super) struct AbandonOnPanic<'a, J>(pub(super) &'a Jobs<J>);

impl<J> Drop for AbandonOnPanic<'_, J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_ends() {
        let jobs = Jobs::default();
        for n in 0..3 {
            jobs.push(n).unwrap();
        }
        assert_eq!(jobs.take_one(), Some(0));
        let mut taken = VecDeque::new();
        assert_eq!(jobs.take_all(&mut taken, None), Wake::Jobs);
        assert_eq!(taken, [1, 2]);
        assert_eq!(
            jobs.take_all(&mut taken, Some(Instant::now())),
            Wake::Deadline
        );
        jobs.push(3).unwrap();
        jobs.close();
        assert_eq!(jobs.push(4), Err(4));
        assert_eq!(jobs.take_one(), Some(3));
        assert_eq!(jobs.take_one(), None);
        assert_eq!(jobs.take_all(&mut taken, None), Wake::Closed);
    }

    #[test]
    fn a_panic_lets_nobody_wait() {
        let jobs = Jobs::default();
        jobs.push(1).unwrap();
        let panicked = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _guard = AbandonOnPanic(&jobs);
                panic!("on purpose");
            });
            thread.join().is_err()
        });
        assert!(panicked);
        assert_eq!(jobs.take_one(), None);
        assert_eq!(jobs.push(2), Err(2));
    }
}
