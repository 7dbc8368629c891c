//! What one process has room for on its way to storage nodes, and when it looks for calls that are overdue: the bounds
//! of the transport of production.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pairdb::ports::{CallError, Operation, Refusal, Reply, Request};
use pairdb::version::Content;

use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::rng::Rng;
use crate::world::{TransportPlan, World};

/// The room of one life of a process. Copies share it.
#[derive(Clone)]
pub struct TransportRoom(Arc<Room>);

struct Room {
    plan: TransportPlan,
    calls_late_us_max: u64,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    in_flight: BTreeMap<Endpoint, usize>,
}

/// A call's place, until it is dropped.
pub struct Place {
    room: Arc<Room>,
    to: Endpoint,
    /// Whether there is no room for the answer.
    is_deaf: bool,
    /// By how much later than its deadline the call ends.
    late: Duration,
}

impl TransportRoom {
    /// The room that a world gives; `rng` decides what there is none for.
    #[must_use]
    pub fn new(world: &World, rng: Rng) -> Self {
        Self(Arc::new(Room {
            plan: world.transport.clone(),
            calls_late_us_max: world.time.calls_late_us_max,
            state: Mutex::new(State {
                rng,
                in_flight: BTreeMap::new(),
            }),
        }))
    }

    /// A place for one more call to a node.
    ///
    /// # Errors
    /// There is none.
    pub fn take(
        &self,
        to: Endpoint,
        request: &Request,
        faults: &Faults,
    ) -> Result<Place, CallError> {
        let Room {
            plan,
            calls_late_us_max,
            ..
        } = &*self.0;
        let mut state = self.0.state();
        let (mut is_deaf, mut is_dumb) = (false, false);
        if plan.no_room_permille > 0 && !faults.are_healed() {
            is_dumb = state.rng.chance(plan.no_room_permille);
            is_deaf = state.rng.chance(plan.no_room_permille);
        }
        let late = match calls_late_us_max {
            0 => Duration::ZERO,
            most => Duration::from_micros(state.rng.between(0, *most)),
        };
        if request_bytes(request) > plan.message_bytes_max {
            return Err(CallError::NotSent("the request is too long".into()));
        }
        let in_flight = state.in_flight.entry(to).or_default();
        if is_dumb || *in_flight >= plan.in_flight_max {
            return Err(CallError::NoRoom { sent: false });
        }
        *in_flight += 1;
        drop(state);
        Ok(Place {
            room: Arc::clone(&self.0),
            to,
            is_deaf,
            late,
        })
    }
}

impl Room {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// By how much later than its deadline the call ends.
    #[must_use]
    pub const fn late(&self) -> Duration {
        self.late
    }

    /// What is heard of an answer.
    ///
    /// # Errors
    /// It is not sent, or there is no room for it.
    pub fn hear(&self, answer: Result<Reply, CallError>) -> Result<Reply, CallError> {
        match answer {
            Ok(reply) if reply_bytes(&reply) > self.room.plan.message_bytes_max => {
                let why = "the reply is too long to be sent";
                Err(Refusal::StorageFailed(why.into()).into())
            }
            Ok(_) if self.is_deaf => Err(CallError::NoRoom { sent: true }),
            answer => answer,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(in_flight) = self.room.state().in_flight.get_mut(&self.to) {
            *in_flight -= 1;
        }
    }
}

/// How many bytes of a request may be values.
fn request_bytes(request: &Request) -> usize {
    match &request.operation {
        Operation::Accept(accept) => match &accept.content {
            Content::Value(value) => value.len(),
            Content::Tombstone => 0,
        },
        Operation::Join { record, .. } => record.len(),
        _ => 0,
    }
}

/// How many bytes of a reply may be values.
fn reply_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Accepted { record, .. } | Reply::Superseded { record, .. } => record.len(),
        Reply::Found { record } => record.as_ref().map_or(0, |record| record.len()),
        Reply::Refilling(reply) => reply_bytes(reply),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pairdb::placement::{Epoch, NodeId};

    use super::*;
    use crate::world::NetworkPlan;

    const NODE: Endpoint = Endpoint::Storage(1);

    fn room(plan: TransportPlan) -> TransportRoom {
        let world = World {
            transport: plan,
            ..World::default()
        };
        TransportRoom::new(&world, Rng::new(1, "room"))
    }

    fn probe() -> Request {
        Request {
            node: NodeId::new("node-1").expect("a node's id"),
            epoch: Epoch(1),
            operation: Operation::Probe,
        }
    }

    fn found(bytes: usize) -> Reply {
        let record = Some(Bytes::from(vec![0; bytes]));
        Reply::Found { record }
    }

    #[test]
    fn a_call_keeps_its_place_until_it_is_over() {
        let faults = Faults::new(NetworkPlan::default());
        let room = room(TransportPlan {
            in_flight_max: 1,
            ..TransportPlan::default()
        });
        let take = |to| room.take(to, &probe(), &faults);
        let first = take(NODE).expect("there is room for one");
        assert_eq!(take(NODE).err(), Some(CallError::NoRoom { sent: false }));
        assert!(take(Endpoint::Storage(2)).is_ok(), "each node has its own");
        drop(first);
        assert!(take(NODE).is_ok());
    }

    #[test]
    fn a_reply_that_is_too_long_is_not_sent() {
        let faults = Faults::new(NetworkPlan::default());
        let room = room(TransportPlan {
            message_bytes_max: 10,
            ..TransportPlan::default()
        });
        let place = room.take(NODE, &probe(), &faults).expect("room");
        assert_eq!(place.hear(Ok(found(10))), Ok(found(10)));
        let long = Reply::Refilling(Box::new(found(11)));
        let heard = place.hear(Ok(long));
        assert!(matches!(
            heard,
            Err(CallError::Refused(Refusal::StorageFailed(_)))
        ));
    }

    #[test]
    fn once_faults_have_ended_there_is_room() {
        let faults = Faults::new(NetworkPlan::default());
        let room = room(TransportPlan {
            no_room_permille: 1_000,
            ..TransportPlan::default()
        });
        let refused = room.take(NODE, &probe(), &faults).err();
        assert_eq!(refused, Some(CallError::NoRoom { sent: false }));
        faults.heal();
        let place = room.take(NODE, &probe(), &faults).expect("room");
        assert_eq!(place.hear(Ok(found(1))), Ok(found(1)));
    }
}
