//! What lies between a coordinator and a store: the network, and whatever is wrong with the store.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use pairdb::ports::StoreError;

use crate::describe::Said;
use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::network::{Answered, Network, Route};
use crate::pause::pause;
use crate::rng::Rng;

/// How long an adapter of a store waits before it calls the store unavailable.
const STORE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// One coordinator's way to a store.
#[derive(Clone)]
pub struct StoreLink {
    /// The coordinator.
    pub from: Endpoint,
    /// The store.
    pub to: Endpoint,
    /// The store, for people.
    pub name: &'static str,
    /// The network.
    pub network: Network,
    /// What goes wrong at the store.
    pub faults: Faults,
    /// Decides which calls it goes wrong for.
    pub rng: Arc<Mutex<Rng>>,
}

impl StoreLink {
    /// Asks the store; `question` is its doing, `said` the same for people.
    pub async fn ask<A: Debug + Send + 'static>(
        &self,
        said: impl FnOnce() -> Said,
        mut question: impl FnMut() -> Option<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let (fails, before, silent) = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let failing = rng.chance(self.faults.store_trouble_permille(self.to));
            (failing, rng.chance(500), rng.chance(300))
        };
        let recorder = self.network.recorder().clone();
        let call = recorder.call(self.from, self.to, said);
        let route = Route {
            from: self.from,
            to: self.to,
            may_repeat: false,
            counted: false,
            call,
        };
        let deliver = move || {
            let (answer, answered) = oneshot::channel();
            let arrival = recorder.arrived(call);
            let failed = |text: &str| Said {
                refused: true,
                ..Said::new("failed", text)
            };
            if fails && before {
                recorder.answered(arrival, || failed("before it was done"));
                let _ = answer.send(None);
                return Some(answered);
            }
            let result = question()?;
            recorder.answered(arrival, || match fails {
                true => failed("after it was done"),
                false => Said::new("ok", format!("{result:?}")),
            });
            let _ = answer.send((!fails).then_some(result));
            Some(answered)
        };
        let mut call = Box::pin(self.network.call(route, deliver).fuse());
        let mut timer = Box::pin(pause(STORE_TIMEOUT).fuse());
        let cause = futures::select_biased! {
            answer = call => {
                let cause = match answer {
                    Ok(Answered { answer: Some(answer), .. }) => return Ok(answer),
                    Ok(Answered { answer: None, .. }) => "it failed",
                    Err(_) => "no connection",
                };
                if silent {
                    timer.await;
                }
                cause
            }
            () = timer => "no answer",
        };
        Err(StoreError::Unavailable {
            store: self.name,
            cause: cause.into(),
        })
    }

    /// Whether the client of this store asks again by itself after a failure.
    #[must_use]
    pub fn asks_again(&self) -> bool {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.chance(500)
    }

    /// Whether a watcher is told that it missed an event.
    #[must_use]
    pub fn lags(&self) -> bool {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = rng.chance(300);
        drop(rng);
        is_told && self.faults.blocked(self.to, self.from).is_none()
    }

    /// Whether an event of the store arrives.
    #[must_use]
    pub fn tells(&self) -> bool {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let slips = rng.chance(self.faults.lost_event_permille());
        drop(rng);
        !slips
            && self.faults.blocked(self.to, self.from).is_none()
            && self.faults.store_trouble_permille(self.to) == 0
    }
}
