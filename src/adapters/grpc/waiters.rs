//! Who waits for which answer on one connection.
//!
//! A slab: an id is a slot and the slot's generation, so a late or repeated answer to a call that is gone finds
//! nobody, even after the slot was taken by another call.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::lock;
use crate::ports::{CallError, Instant, Reply};

/// What a call ends with.
pub(super) type Answer = Result<Reply, CallError>;

/// The calls of one connection.
pub(super) struct Waiters {
    in_flight_max: usize,
    slab: Mutex<Slab>,
}

#[derive(Default)]
struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No call is overdue before this; spares most sweeps a look at every slot.
    earliest: Option<Instant>,
    /// Set when the connection is over; nobody waits any more.
    over: Option<String>,
}

struct Slot {
    generation: u32,
    state: State,
}

enum State {
    Free,
    Waiting {
        expires: Instant,
        waker: Option<Waker>,
    },
    Answered(Answer),
}

/// Why a call can't wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NotRegistered {
    /// Too many do.
    Full,
    /// The connection is over, for this reason.
    Over(String),
}

impl Waiters {
    /// Nobody yet, and at most so many.
    pub(super) fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight_max,
            slab: Mutex::default(),
        }
    }

    /// A place for one more call.
    pub(super) fn register(self: &Arc<Self>, expires: Instant) -> Result<Ticket, NotRegistered> {
        let mut slab = lock(&self.slab);
        if let Some(reason) = &slab.over {
            return Err(NotRegistered::Over(reason.clone()));
        }
        let state = State::Waiting {
            expires,
            waker: None,
        };
        slab.earliest = Some(
            slab.earliest
                .map_or(expires, |earliest| earliest.min(expires)),
        );
        let id = if let Some(index) = slab.free.pop() {
            let slot = &mut slab.slots[index as usize];
            slot.state = state;
            id_of(index, slot.generation)
        } else if slab.slots.len() < self.in_flight_max {
            slab.slots.push(Slot {
                generation: 0,
                state,
            });
            id_of((slab.slots.len() - 1) as u32, 0)
        } else {
            return Err(NotRegistered::Full);
        };
        Ok(Ticket {
            waiters: Arc::clone(self),
            id,
        })
    }

    /// Hands out answers. Those that nobody waits for are dropped.
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = (u64, Answer)>) {
        let mut wakers = Vec::new();
        let mut slab = lock(&self.slab);
        for (id, answer) in answers {
            wakers.extend(slab.slot(id).and_then(|slot| slot.answer(answer)));
        }
        drop(slab);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends every call that is overdue.
    pub(super) fn expire(&self, now: Instant) {
        if lock(&self.slab)
            .earliest
            .is_none_or(|earliest| earliest > now)
        {
            return;
        }
        self.end(
            |expires| expires <= now,
            &CallError::NoAnswer("the deadline passed".into()),
        );
    }

    /// Ends every call: the connection is over.
    pub(super) fn close(&self, reason: &str) {
        lock(&self.slab).over = Some(reason.into());
        self.end(|_| true, &CallError::NoAnswer(reason.into()));
    }

    /// How many calls wait.
    pub(super) fn len(&self) -> usize {
        let slab = lock(&self.slab);
        slab.slots.len() - slab.free.len()
    }

    fn end(&self, which: impl Fn(Instant) -> bool, error: &CallError) {
        let mut wakers = Vec::new();
        let mut slab = lock(&self.slab);
        let mut earliest: Option<Instant> = None;
        for slot in &mut slab.slots {
            if let State::Waiting { expires, .. } = slot.state {
                if which(expires) {
                    wakers.extend(slot.answer(Err(error.clone())));
                } else {
                    earliest = Some(earliest.map_or(expires, |earliest| earliest.min(expires)));
                }
            }
        }
        slab.earliest = earliest;
        drop(slab);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Slab {
    /// The slot of this id, unless it belongs to another by now.
    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        let (index, generation) = (id as u32, (id >> 32) as u32);
        self.slots
            .get_mut(index as usize)
            .filter(|slot| slot.generation == generation)
    }
}

impl Slot {
    fn answer(&mut self, answer: Answer) -> Option<Waker> {
        match &mut self.state {
            State::Waiting { waker, .. } => {
                let waker = waker.take();
                self.state = State::Answered(answer);
                waker
            }
            State::Free | State::Answered(_) => None,
        }
    }
}

const fn id_of(index: u32, generation: u32) -> u64 {
    (generation as u64) << 32 | index as u64
}

/// One call's place. Resolves to its answer; gives the place up when dropped.
pub(super) struct Ticket {
    waiters: Arc<Waiters>,
    id: u64,
}

impl Ticket {
    /// The id that the request carries.
    pub(super) const fn id(&self) -> u64 {
        self.id
    }
}

impl Future for Ticket {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let mut slab = lock(&self.waiters.slab);
        let Some(slot) = slab.slot(self.id) else {
            return Poll::Ready(Err(CallError::NoAnswer("polled after its end".into())));
        };
        match &mut slot.state {
            State::Waiting { waker, .. } => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            state => match std::mem::replace(state, State::Free) {
                State::Answered(answer) => Poll::Ready(answer),
                _ => Poll::Ready(Err(CallError::NoAnswer("polled after its end".into()))),
            },
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slab = lock(&self.waiters.slab);
        if let Some(slot) = slab.slot(self.id) {
            slot.generation = slot.generation.wrapping_add(1);
            let state = std::mem::replace(&mut slot.state, State::Free);
            slab.free.push(self.id as u32);
            drop(slab);
            drop(state); // a waker or a long reply: not under the lock
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn adopted(adopted: bool) -> Answer {
        Ok(Reply::Adopted { adopted })
    }

    #[test]
    fn an_answer_reaches_its_call() {
        let waiters = Arc::new(Waiters::new(10));
        let mut first = waiters.register(Instant::NEVER).unwrap();
        let mut second = waiters.register(Instant::NEVER).unwrap();
        assert_eq!((&mut first).now_or_never(), None);
        waiters.answer([(second.id(), adopted(true)), (first.id(), adopted(false))]);
        assert_eq!((&mut first).now_or_never(), Some(adopted(false)));
        assert_eq!((&mut second).now_or_never(), Some(adopted(true)));
        assert_eq!(waiters.len(), 2);
        drop((first, second));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn a_late_answer_finds_nobody() {
        let waiters = Arc::new(Waiters::new(1));
        let gone = waiters.register(Instant::NEVER).unwrap();
        let old = gone.id();
        drop(gone);
        let mut next = waiters.register(Instant::NEVER).unwrap();
        assert_eq!(old as u32, next.id() as u32, "the same slot");
        waiters.answer([(old, adopted(false)), (u64::MAX, adopted(false))]);
        assert_eq!((&mut next).now_or_never(), None);
        waiters.answer([(next.id(), adopted(true)), (next.id(), adopted(false))]);
        assert_eq!(
            next.now_or_never(),
            Some(adopted(true)),
            "the first answer stands"
        );
    }

    #[test]
    fn an_unclaimed_answer_frees_its_slot() {
        let waiters = Arc::new(Waiters::new(1));
        let ticket = waiters.register(Instant::NEVER).unwrap();
        waiters.answer([(ticket.id(), adopted(true))]);
        drop(ticket);
        assert_eq!(waiters.len(), 0);
        assert!(waiters.register(Instant::NEVER).is_ok());
    }

    #[test]
    fn there_are_only_so_many() {
        let waiters = Arc::new(Waiters::new(1));
        let one = waiters.register(Instant::NEVER).unwrap();
        assert_eq!(
            waiters.register(Instant::NEVER).err(),
            Some(NotRegistered::Full)
        );
        drop(one);
        assert!(waiters.register(Instant::NEVER).is_ok());
    }

    #[test]
    fn the_overdue_end() {
        let waiters = Arc::new(Waiters::new(10));
        let (soon, later) = (
            waiters.register(Instant(5)).unwrap(),
            waiters.register(Instant(6)).unwrap(),
        );
        waiters.expire(Instant(5));
        assert!(matches!(
            soon.now_or_never(),
            Some(Err(CallError::NoAnswer(_)))
        ));
        assert_eq!(later.now_or_never(), None);
    }

    #[test]
    fn the_end_of_the_connection_ends_all() {
        let waiters = Arc::new(Waiters::new(10));
        let ticket = waiters.register(Instant::NEVER).unwrap();
        waiters.close("broken");
        assert_eq!(
            ticket.now_or_never(),
            Some(Err(CallError::NoAnswer("broken".into())))
        );
        assert_eq!(
            waiters.register(Instant::NEVER).err(),
            Some(NotRegistered::Over("broken".into()))
        );
    }
}
