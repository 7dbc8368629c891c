//! The end of the background tasks, which sleep most of the time: told once, heard at once.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, Shared, select};

/// A signal that stays given.
pub struct Stop {
    give: Mutex<Option<oneshot::Sender<()>>>,
    given: Shared<oneshot::Receiver<()>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Not given yet.
    #[must_use]
    pub fn new() -> Self {
        let (give, given) = oneshot::channel();
        Self {
            give: Mutex::new(Some(give)),
            given: given.shared(),
        }
    }

    /// Gives it.
    pub fn now(&self) {
        let mut give = self.give.lock().unwrap_or_else(PoisonError::into_inner);
        give.take(); // a dropped sender completes the receiver
    }

    /// What `future` gives, or `None` as soon as the signal is given.
    pub async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match select(self.given.clone(), pin!(future)).await {
            Either::Left(_) => None,
            Either::Right((value, _)) => Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn ends_a_wait_at_once_and_for_ever() {
        let stop = Stop::new();
        assert_eq!(stop.or(ready(1)).now_or_never(), Some(Some(1)));
        let mut waiting = pin!(stop.or(pending::<u8>()));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        stop.now();
        stop.now();
        assert_eq!(waiting.now_or_never(), Some(None));
        assert_eq!(stop.or(ready(1)).now_or_never(), Some(None));
    }
}
