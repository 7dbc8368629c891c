//! Puts the fragments of one long message together again.
//!
//! The fragments of one message follow each other, so there is never more than one incomplete message. It is paid for
//! from the process's budget; when there is no room for it, it is given up, and the rest of it is skipped.

use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep_until};

use crate::adapters::front::{Arriving, Budget, Segments, Share};
use crate::proto::v1::Fragment;

/// The next fragment of a message that was begun comes by then: whoever sends has nothing to wait for.
const NEXT_FRAGMENT: Duration = Duration::from_secs(20);

/// The other end does not keep to the protocol; the stream can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum BadFragment {
    /// Fragments of two messages are mixed.
    #[error("a fragment of another message before the last of this one")]
    Mixed,
    /// More bytes than one message may have.
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
    /// A message was begun and does not go on.
    #[error("a message that does not go on")]
    Stuck,
}

/// What a fragment makes.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// A part.
    Part,
    /// The last part of this message.
    Whole(u64, Bytes),
    /// There is no room for this message. It is told once.
    GivenUp(u64),
}

/// The message that is coming in.
pub(super) struct Assembler {
    bytes_max: usize,
    budget: Budget,
    partial: Option<Partial>,
}

struct Partial {
    id: u64,
    bytes: Segments,
    /// `None`: it was given up.
    paid: Option<Arriving>,
    length: usize,
    last_came: Instant,
}

impl Assembler {
    /// For messages of at most `bytes_max`.
    pub(super) const fn new(bytes_max: usize, budget: Budget) -> Self {
        Self {
            bytes_max,
            budget,
            partial: None,
        }
    }

    /// Takes the next fragment.
    pub(super) fn add(&mut self, fragment: &Fragment) -> Result<Added, BadFragment> {
        let begun = self.partial.take();
        let is_new = begun.is_none();
        let mut partial = begun.unwrap_or_else(|| Partial {
            id: fragment.id,
            bytes: Segments::default(),
            paid: self.budget.arriving(Share::Inner).ok(),
            length: 0,
            last_came: Instant::now(),
        });
        if partial.id != fragment.id {
            return Err(BadFragment::Mixed);
        }
        partial.length += fragment.data.len();
        if partial.length > self.bytes_max {
            return Err(BadFragment::TooLong(self.bytes_max));
        }
        partial.last_came = Instant::now();
        let was_paid = is_new || partial.paid.is_some();
        let fits = |paid: &Arriving| paid.grow(fragment.data.len()).is_ok();
        partial.paid = partial.paid.filter(fits);
        if partial.paid.is_some() {
            partial.bytes.push(&fragment.data);
        } else {
            partial.bytes = Segments::default();
        }
        let Partial { id, .. } = partial;
        if !fragment.last {
            let given_up = was_paid && partial.paid.is_none();
            self.partial = Some(partial);
            return Ok(if given_up {
                Added::GivenUp(id)
            } else {
                Added::Part
            });
        }
        let held = partial.paid.map(Arriving::whole);
        Ok(match held {
            Some(Ok(held)) => Added::Whole(id, held.over(partial.bytes.into_bytes())),
            _ if was_paid => Added::GivenUp(id),
            _ => Added::Part,
        })
    }

    /// Completes when what is coming in has to give way or does not go on: then it is to be given up. Never, while
    /// nothing is coming in.
    pub(super) async fn in_trouble(&self) -> Result<(), BadFragment> {
        let Some(partial) = &self.partial else {
            return std::future::pending().await;
        };
        let stuck = sleep_until(partial.last_came + NEXT_FRAGMENT);
        let Some(paid) = &partial.paid else {
            stuck.await;
            return Err(BadFragment::Stuck);
        };
        tokio::select! {
            biased;
            () = paid.evicted() => Ok(()),
            () = stuck => Err(BadFragment::Stuck),
        }
    }

    /// Gives up what is coming in; returns its id.
    pub(super) fn give_up(&mut self) -> Option<u64> {
        let partial = self.partial.as_mut()?;
        partial.paid.take()?;
        partial.bytes = Segments::default();
        Some(partial.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(id: u64, data: &'static str, last: bool) -> Fragment {
        Fragment {
            id,
            data: data.into(),
            last,
        }
    }

    #[test]
    fn the_parts_make_the_whole() {
        let mut assembler = Assembler::new(100, Budget::unlimited());
        for id in [7, 8] {
            assert_eq!(assembler.add(&fragment(id, "ab", false)), Ok(Added::Part));
            assert_eq!(assembler.add(&fragment(id, "", false)), Ok(Added::Part));
            assert_eq!(
                assembler.add(&fragment(id, "c", true)),
                Ok(Added::Whole(id, Bytes::from("abc")))
            );
        }
        assert_eq!(
            assembler.add(&fragment(9, "", true)),
            Ok(Added::Whole(9, Bytes::new()))
        );
    }

    #[test]
    fn mixed_parts_are_an_error() {
        let mut assembler = Assembler::new(100, Budget::unlimited());
        assert_eq!(assembler.add(&fragment(1, "a", false)), Ok(Added::Part));
        assert_eq!(
            assembler.add(&fragment(2, "b", true)),
            Err(BadFragment::Mixed)
        );
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut assembler = Assembler::new(3, Budget::unlimited());
        assert_eq!(assembler.add(&fragment(1, "ab", false)), Ok(Added::Part));
        assert_eq!(
            assembler.add(&fragment(1, "cd", false)),
            Err(BadFragment::TooLong(3))
        );
        assert_eq!(
            assembler.add(&fragment(1, "abcd", true)),
            Err(BadFragment::TooLong(3))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_there_is_no_room_for_is_given_up_and_skipped() {
        let budget = Budget::new(4 * 1024);
        let mut assembler = Assembler::new(1_000_000, budget.clone());
        let long = Fragment {
            id: 1,
            data: vec![0; 3000].into(),
            last: false,
        };
        assert_eq!(assembler.add(&long), Ok(Added::GivenUp(1)));
        assert_eq!(assembler.add(&fragment(1, "x", false)), Ok(Added::Part));
        assert_eq!(budget.used().0, 0);
        assert_eq!(assembler.add(&fragment(1, "x", true)), Ok(Added::Part));
        // What is there gives way to what comes later.
        assert_eq!(assembler.add(&fragment(2, "ab", false)), Ok(Added::Part));
        let later = budget.arriving(Share::Inner).unwrap();
        later.grow(1000).unwrap();
        assert_eq!(assembler.in_trouble().await, Ok(()));
        assert_eq!(assembler.give_up(), Some(2));
        assert_eq!(assembler.give_up(), None, "told once");
        assert_eq!(assembler.add(&fragment(2, "cd", true)), Ok(Added::Part));
        drop(later);
        // And what is whole is paid for until it is gone.
        let Ok(Added::Whole(3, whole)) = assembler.add(&fragment(3, "ab", true)) else {
            panic!("it is whole");
        };
        assert!(budget.used().0 > 2);
        drop(whole);
        assert_eq!(budget.used().0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_on_is_not_kept() {
        let mut assembler = Assembler::new(100, Budget::unlimited());
        assert_eq!(assembler.add(&fragment(1, "ab", false)), Ok(Added::Part));
        let began = Instant::now();
        assert_eq!(assembler.in_trouble().await, Err(BadFragment::Stuck));
        assert_eq!(began.elapsed(), NEXT_FRAGMENT);
    }
}
