//! The worlds of coordinators and storage nodes, and what lies between them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use madsim::runtime::NodeHandle;
use pairdb::placement::Node;
use pairdb::ports::{
    CallError, Clock, CoordinatorWorld, Instant, Operation, ReplicaTransport, ReplicaWorld, Reply,
    Request, StoreError,
};
use pairdb::replica::Replica;

use super::clock::{SimClock, pause};
use super::{SimDisk, SimIdempotency, SimMetadata, SimRandom, SimSpawn};
use crate::describe::{self, Said};
use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::network::{Answered, Lost, Network, Route};
use crate::page::CallId;
use crate::rng::Rng;
use crate::tap::Tap;

/// How long an adapter of a store waits before it calls the store unavailable.
const STORE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A storage node's world.
#[derive(Clone)]
pub struct StorageSide {
    /// Its clocks.
    pub clock: SimClock,
    /// Its randomness.
    pub random: SimRandom,
    /// Its tasks.
    pub spawn: SimSpawn,
    /// Its disk.
    pub disk: SimDisk,
    /// Its way to the other storage nodes.
    pub transport: SimTransport,
}

impl ReplicaWorld for StorageSide {
    type Clock = SimClock;
    type Random = SimRandom;
    type Spawn = SimSpawn;
    type Storage = SimDisk;
    type Transport = SimTransport;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn random(&self) -> &SimRandom {
        &self.random
    }

    fn spawner(&self) -> &SimSpawn {
        &self.spawn
    }

    fn storage(&self) -> &SimDisk {
        &self.disk
    }

    fn transport(&self) -> &SimTransport {
        &self.transport
    }
}

/// A coordinator's world.
#[derive(Clone)]
pub struct CoordinatorSide {
    /// Its clocks.
    pub clock: SimClock,
    /// Its randomness.
    pub random: SimRandom,
    /// Its tasks.
    pub spawn: SimSpawn,
    /// Its way to the storage nodes.
    pub transport: SimTransport,
    /// Its way to the metadata store.
    pub metadata: SimMetadata,
    /// Its way to the idempotency store.
    pub idempotency: SimIdempotency,
}

impl CoordinatorWorld for CoordinatorSide {
    type Clock = SimClock;
    type Random = SimRandom;
    type Spawn = SimSpawn;
    type Transport = SimTransport;
    type Metadata = SimMetadata;
    type Idempotency = SimIdempotency;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn random(&self) -> &SimRandom {
        &self.random
    }

    fn spawner(&self) -> &SimSpawn {
        &self.spawn
    }

    fn transport(&self) -> &SimTransport {
        &self.transport
    }

    fn metadata(&self) -> &SimMetadata {
        &self.metadata
    }

    fn idempotency(&self) -> &SimIdempotency {
        &self.idempotency
    }
}

/// The storage nodes that run now, and the machines they run on. Copies share the table.
#[derive(Clone, Default)]
pub struct Services(Arc<Mutex<Serving>>);

type Serving = BTreeMap<Endpoint, (NodeHandle, Replica<StorageSide>)>;

impl Services {
    /// A storage node serves from now on.
    pub fn put(&self, who: Endpoint, node: NodeHandle, replica: Replica<StorageSide>) {
        self.lock().insert(who, (node, replica));
    }

    /// It serves no more.
    pub fn remove(&self, who: Endpoint) -> Option<Replica<StorageSide>> {
        self.lock().remove(&who).map(|(_, replica)| replica)
    }

    /// Who serves there.
    #[must_use]
    pub fn get(&self, who: Endpoint) -> Option<Replica<StorageSide>> {
        self.lock().get(&who).map(|(_, replica)| replica.clone())
    }

    /// Whether it serves.
    #[must_use]
    pub fn has(&self, who: Endpoint) -> bool {
        self.lock().contains_key(&who)
    }

    /// Hands it a request, if it serves; its answer is looked at by `tap`.
    pub fn deliver(
        &self,
        from: Endpoint,
        who: Endpoint,
        request: Request,
        tap: &Tap,
        call: CallId,
    ) -> Option<oneshot::Receiver<Result<Reply, CallError>>> {
        let (node, replica) = self.lock().get(&who)?.clone();
        let tap = tap.clone();
        let arrival = tap.recorder().arrived(call);
        let (answer, answered) = oneshot::channel();
        drop(node.spawn(async move {
            let watched = tap.arrived(from, who, &request);
            let result = replica.handle(request.clone()).await;
            tap.answered(who, &request, &result, watched);
            let said = || describe::answer_parts(&result);
            tap.recorder().answered(arrival, said);
            let _ = answer.send(result.map_err(CallError::Refused));
        }));
        Some(answered)
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<Endpoint, (NodeHandle, Replica<StorageSide>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One process's way to the storage nodes.
#[derive(Clone)]
pub struct SimTransport {
    /// The process.
    pub from: Endpoint,
    /// Its clock.
    pub clock: SimClock,
    /// The network.
    pub network: Network,
    /// Who is there.
    pub services: Services,
    /// Who looks on.
    pub tap: Tap,
}

impl ReplicaTransport for SimTransport {
    fn call(
        &self,
        node: &Node,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Reply, CallError>> + Send + 'static {
        let (services, tap) = (self.services.clone(), self.tap.clone());
        let to = Endpoint::Storage(node.port as u8);
        let said = || describe::request_parts(&request);
        let call = tap.recorder().call(self.from, to, said);
        let route = Route {
            from: self.from,
            to,
            may_repeat: true,
            counted: matches!(
                request.operation,
                Operation::Stamp(_) | Operation::Join { .. }
            ),
            call,
        };
        let asked = tap.asks(self.from, &request);
        let listener = tap.clone();
        let from = self.from;
        let deliver = move || services.deliver(from, to, request.clone(), &tap, call);
        let mut call = Box::pin(self.network.call(route, deliver).fuse());
        let mut timer = Box::pin(self.clock.sleep_until(deadline).fuse());
        async move {
            let answer = futures::select_biased! {
                answer = call => match answer {
                    // It had no effect the first time. It may have one yet.
                    Ok(Answered { answer: Err(_) | Ok(Reply::Behind), repeated: true }) => {
                        Err(CallError::NoAnswer("connection reset".into()))
                    }
                    Ok(Answered { answer, .. }) => answer,
                    Err(Lost::Refused) => Err(CallError::NotSent("connection refused".into())),
                    Err(Lost::Broken) => Err(CallError::NoAnswer("connection reset".into())),
                },
                () = timer => Err(CallError::NoAnswer("deadline".into())),
            };
            if answer.is_ok() {
                listener.heard(asked);
            }
            answer
        }
    }
}

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
