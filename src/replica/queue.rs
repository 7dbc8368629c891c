//! A bounded queue from many callers to one loop.
//!
//! The loop takes whatever waits, up to a batch: while it works, callers gather, and the busier it is the more of them
//! share a batch. No timer decides how long to gather.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use crate::marks::{self, Mark};
use crate::ports::Refusal;

/// Items with what each costs, in the order they came.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: AtomicWaker,
    len_max: usize,
    cost_max: usize,
}

struct State<T> {
    waiting: VecDeque<(usize, T)>,
    cost: usize,
    closed: bool,
}

/// Why an item was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rejected {
    /// There is no room.
    Full,
    /// No more items are taken.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(len_max: usize, cost_max: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            cost: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            ready: AtomicWaker::new(),
            len_max: len_max.max(1),
            cost_max,
        }
    }

    /// Adds an item. One that alone costs more than there is room for is taken when nothing else waits.
    pub(super) fn push(&self, item: T, cost: usize) -> Result<(), Rejected> {
        let mut state = self.lock();
        if state.closed {
            return Err(Rejected::Closed);
        }
        let first = state.waiting.is_empty();
        if !first
            && (state.waiting.len() >= self.len_max
                || state.cost.saturating_add(cost) > self.cost_max)
        {
            return Err(Rejected::Full);
        }
        state.cost += cost;
        state.waiting.push_back((cost, item));
        drop(state);
        if first {
            self.ready.wake();
        }
        Ok(())
    }

    /// Adds an item that has room in any case. False: no more items are taken.
    pub(super) fn push_anyway(&self, item: T) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.waiting.push_back((0, item));
        drop(state);
        self.ready.wake();
        true
    }

    /// Takes no more items after `last`, which has room in any case. False: it was closed before.
    pub(super) fn close(&self, last: Option<T>) -> bool {
        let mut state = self.lock();
        let was_open = !std::mem::replace(&mut state.closed, true);
        if was_open {
            state.waiting.extend(last.map(|last| (0, last)));
        }
        drop(state);
        self.ready.wake();
        was_open
    }

    /// Waits for items and moves up to `len_max` of them, and up to about `cost_max` in cost, into `into`. False: it is
    /// closed and empty.
    pub(super) async fn take(&self, into: &mut Vec<T>, len_max: usize, cost_max: usize) -> bool {
        poll_fn(|context| {
            self.ready.register(context.waker());
            let mut state = self.lock();
            if state.waiting.is_empty() {
                return if state.closed {
                    Poll::Ready(false)
                } else {
                    Poll::Pending
                };
            }
            let mut cost = 0;
            while into.len() < len_max.max(1)
                && let Some((next, _)) = state.waiting.front()
                && (into.is_empty() || cost + next <= cost_max)
                && let Some((next, item)) = state.waiting.pop_front()
            {
                cost += next;
                into.push(item);
            }
            state.cost -= cost;
            Poll::Ready(true)
        })
        .await
    }

    /// Takes no more items and drops those that wait, which tells whoever waits for their answers.
    fn abandon(&self) {
        self.close(None);
        let waiting = {
            let mut state = self.lock();
            state.cost = 0;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by the loop that takes items: once it has ended, however it did, nobody waits for it.
pub(super) struct EndsWithLoop<'a, T>(pub(super) &'a Queue<T>);

impl<T> Drop for EndsWithLoop<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What to tell who asked for what was not taken.
pub(super) fn rejected(rejected: Rejected) -> Refusal {
    match rejected {
        Rejected::Full => {
            marks::reached(Mark::QueueFull);
            Refusal::Overloaded
        }
        Rejected::Closed => Refusal::Unavailable("the node is stopping".into()),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take(queue: &Queue<u32>, len_max: usize, cost_max: usize) -> Option<Vec<u32>> {
        let mut taken = Vec::new();
        let open = queue.take(&mut taken, len_max, cost_max).now_or_never()?;
        assert_eq!(open, !taken.is_empty());
        Some(taken)
    }

    #[test]
    fn gives_batches_in_order() {
        let queue = Queue::new(10, 100);
        assert_eq!(take(&queue, 2, 100), None);
        for n in 0..5 {
            queue.push(n, 10).unwrap();
        }
        assert_eq!(take(&queue, 2, 100), Some(vec![0, 1]));
        assert_eq!(take(&queue, 9, 15), Some(vec![2]), "bounded by cost");
        assert_eq!(take(&queue, 9, 5), Some(vec![3]), "at least one");
        assert_eq!(take(&queue, 9, 100), Some(vec![4]));
    }

    #[test]
    fn is_bounded_in_length_and_cost() {
        let queue = Queue::new(2, 100);
        queue.push(1, 500).unwrap();
        assert_eq!(queue.push(2, 1), Err(Rejected::Full));
        assert_eq!(take(&queue, 1, 1), Some(vec![1]));
        queue.push(1, 1).unwrap();
        queue.push(2, 1).unwrap();
        assert_eq!(queue.push(3, 1), Err(Rejected::Full));
        assert!(queue.push_anyway(4));
        assert_eq!(take(&queue, 9, 9), Some(vec![1, 2, 4]));
    }

    #[test]
    fn closing_lets_the_last_one_in_and_ends_when_empty() {
        let queue = Queue::new(1, 1);
        queue.push(1, 1).unwrap();
        assert!(queue.close(Some(2)));
        assert!(!queue.close(Some(3)));
        assert_eq!(queue.push(4, 0), Err(Rejected::Closed));
        assert_eq!(take(&queue, 9, 9), Some(vec![1, 2]));
        assert_eq!(take(&queue, 9, 9), Some(vec![]));
    }

    #[test]
    fn when_its_loop_has_ended_nobody_waits() {
        let queue = Queue::new(10, 100);
        let (answer, mut answered) = futures::channel::oneshot::channel::<()>();
        queue.push(answer, 1).unwrap();
        drop(EndsWithLoop(&queue));
        assert!(answered.try_recv().is_err());
        let (answer, _answered) = futures::channel::oneshot::channel();
        assert_eq!(queue.push(answer, 1), Err(Rejected::Closed));
    }

    #[tokio::test]
    async fn wakes_the_one_who_waits() {
        let queue = std::sync::Arc::new(Queue::new(1, 1));
        let taker = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move {
                let mut taken = Vec::new();
                while queue.take(&mut taken, 9, 9).await {}
                taken
            }
        });
        tokio::task::yield_now().await;
        queue.push(7, 1).unwrap();
        tokio::task::yield_now().await;
        queue.close(None);
        assert_eq!(taker.await.unwrap(), [7]);
    }
}
