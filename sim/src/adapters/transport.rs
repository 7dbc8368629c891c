//! The worlds of coordinators and storage nodes, and what lies between them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use madsim::runtime::NodeHandle;
use pairdb::placement::Node;
use pairdb::ports::{
    CallError, Caller, Clock, CoordinatorWorld, Instant, Operation, Refusal, Release,
    ReplicaTransport, ReplicaWorld, Reply, Request,
};
use pairdb::replica::Replica;

use super::clock::SimClock;
use super::room::TransportRoom;
use super::{SimDisk, SimIdempotency, SimMetadata, SimRandom, SimSpawn};
use crate::describe;
use crate::endpoint::Endpoint;
use crate::network::{Answered, Lost, Network, Route};
use crate::readings::Reading;
use crate::recorder::CallId;
use crate::tap::Tap;

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

    fn speaks(&self) -> Release {
        self.transport.speaks
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

    fn speaks(&self) -> Release {
        self.transport.speaks
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
        (from, speaks): (Endpoint, Release),
        who: Endpoint,
        request: Request,
        tap: &Tap,
        call: CallId,
    ) -> Option<oneshot::Receiver<Result<Reply, CallError>>> {
        let (node, replica) = self.lock().get(&who)?.clone();
        let tap = tap.clone();
        let arrival = tap.recorder().arrived(call);
        let (answer, answered) = oneshot::channel();
        let (caller, request) = match in_common((from, speaks), replica.speaks(), request) {
            Ok(understood) => understood,
            Err(error) => {
                let _ = answer.send(Err(error));
                return Some(answered);
            }
        };
        drop(node.spawn(async move {
            let watched = tap.arrived(from, who, &request);
            let result = replica.handle_from(caller, request.clone()).await;
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

/// What is asked in the release that both ends speak, as they find out when they connect.
fn in_common(
    (from, speaks): (Endpoint, Release),
    other: Release,
    request: Request,
) -> Result<(Caller, Request), CallError> {
    let not_sent = || CallError::NotSent("no version in common".into());
    let release = speaks.agreed(other).ok_or_else(not_sent)?;
    let name = from.id().into();
    let older = || CallError::Refused(Refusal::Unavailable("the node has to be upgraded".into()));
    let operation = release.question(request.operation).ok_or_else(older)?;
    let request = Request {
        operation,
        ..request
    };
    Ok((Caller { release, name }, request))
}

/// One process's way to the storage nodes.
#[derive(Clone)]
pub struct SimTransport {
    /// The release that the process speaks.
    pub speaks: Release,
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
    /// What it has room for.
    pub room: TransportRoom,
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
                Operation::Accept(_) | Operation::Join { .. }
            ),
            call,
        };
        let asked = tap.asks(self.from, &request);
        let reading = Reading::of(self.from, to, &request);
        let listener = tap.clone();
        let from = (self.from, self.speaks);
        let place = self.room.take(to, &request, self.network.faults());
        let deliver = move || services.deliver(from, to, request.clone(), &tap, call);
        let mut call = Box::pin(self.network.call(route, deliver).fuse());
        let clock = self.clock.clone();
        async move {
            if clock.now() >= deadline {
                return Err(CallError::NotSent(
                    "the deadline passed before it was sent".into(),
                ));
            }
            let place = place?;
            let mut timer = Box::pin(clock.sleep_until(deadline + place.late()).fuse());
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
            let answer = place.hear(answer);
            if let Ok(reply) = &answer {
                listener.heard(asked);
                reading.into_iter().for_each(|it| listener.read(it, reply));
            }
            answer
        }
    }
}
