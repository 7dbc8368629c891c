//! Records against a model that forgets nothing.
//!
//! The model is the set of all writes and, for each replica, which of them it knows and which of those it knows to be
//! overwritten: plain sets, no vectors and no counters. Replicas write, clients read and write back what they were
//! shown, messages are delivered late, repeatedly and in any order. After every step each replica's record must say
//! exactly what its sets say: the causally maximal writes and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Actor, Content, Context, Dot, HybridClock, Record, Version, WriteId};

const REPLICAS: usize = 3;
const CLIENTS: usize = 3;
const BINDING: u64 = 42;

#[derive(Clone, Debug)]
enum Step {
    /// A client writes at a replica. `everything`: whatever is there (last write wins), else what its context covers.
    Write {
        replica: usize,
        client: usize,
        everything: bool,
        delete: bool,
        other_keys: u64,
    },
    /// A client is shown what a replica holds: whatever it is, or nothing less than it was shown before.
    Read {
        replica: usize,
        client: usize,
        floor: bool,
    },
    /// A replica sends what it holds.
    Send { replica: usize },
    /// A message arrives: any one ever sent.
    Deliver { message: Index, replica: usize },
    /// A replica can't prove what it gave out, and goes on as somebody new.
    NewIncarnation { replica: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (replica, client) = (|| 0..REPLICAS, || 0..CLIENTS);
    prop_oneof![
        5 => (replica(), client(), prop::bool::weighted(0.2), any::<bool>(), 0..3_u64).prop_map(
            |(replica, client, everything, delete, other_keys)|
                Step::Write { replica, client, everything, delete, other_keys }
        ),
        4 => (replica(), client(), any::<bool>())
            .prop_map(|(replica, client, floor)| Step::Read { replica, client, floor }),
        4 => replica().prop_map(|replica| Step::Send { replica }),
        6 => (any::<Index>(), replica()).prop_map(|(message, replica)| Step::Deliver { message, replica }),
        1 => replica().prop_map(|replica| Step::NewIncarnation { replica }),
    ]
}

/// What somebody knows, as sets.
#[derive(Clone, Default)]
struct Known {
    writes: BTreeSet<Dot>,
    overwritten: BTreeSet<Dot>,
}

impl Known {
    fn learn(&mut self, other: &Known) {
        self.writes.extend(&other.writes);
        self.overwritten.extend(&other.overwritten);
    }

    fn maximal(&self) -> Vec<Dot> {
        self.writes.difference(&self.overwritten).copied().collect()
    }
}

struct Replica {
    actor: Actor,
    counter: u64,
    record: Bytes,
    known: Known,
}

struct Client {
    context: Bytes,
    knows: BTreeSet<Dot>,
}

struct World {
    replicas: Vec<Replica>,
    clients: Vec<Client>,
    messages: Vec<(Bytes, Known)>,
    writes: BTreeMap<Dot, Version>,
    clock: HybridClock,
    incarnations: u64,
}

impl World {
    fn new() -> World {
        let replica = |actor| Replica {
            actor: Actor(actor),
            counter: 0,
            record: Record::default().encode(),
            known: Known::default(),
        };
        let client = |_| Client {
            context: Context::default().encode(BINDING),
            knows: BTreeSet::new(),
        };
        World {
            replicas: (0..REPLICAS as u64).map(replica).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            messages: Vec::new(),
            writes: BTreeMap::new(),
            clock: HybridClock::default(),
            incarnations: REPLICAS as u64,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write {
                replica,
                client,
                everything,
                delete,
                other_keys,
            } => {
                let client = &mut self.clients[client];
                let replica = &mut self.replicas[replica];
                let context = Context::decode(&client.context, BINDING).unwrap();
                let record = Record::decode(replica.record.clone()).unwrap();
                if context
                    .written
                    .is_some_and(|dot| !record.seen().covers(dot))
                {
                    return; // behind: the replica can't tell what the client's own last write overwrote
                }

                replica.counter += 1 + other_keys;
                let dot = Dot {
                    actor: replica.actor,
                    counter: replica.counter,
                };
                let value = Bytes::from(self.writes.len().to_string());
                let version = Version {
                    dot,
                    write_id: WriteId(self.writes.len() as u128),
                    stamp: self.clock.tick(0),
                    content: if delete {
                        Content::Tombstone
                    } else {
                        Content::Value(value)
                    },
                };
                self.writes.insert(dot, version.clone());
                let record = record.overwrite(version, &context.shown, |old| {
                    everything || context.covers(old.dot)
                });
                replica.record = record.encode();

                let known = &mut replica.known;
                if everything {
                    known.overwritten.extend(&known.writes);
                }
                known.overwritten.extend(&client.knows);
                known.writes.extend(&client.knows);
                known.writes.insert(dot);

                // Alone, the write has overwritten all that was seen. Beside siblings, the client knows of itself only.
                let alone = matches!(record.siblings(), [only] if only.dot == dot);
                let context = if alone {
                    client.knows = known.writes.clone();
                    Context {
                        shown: record.seen().clone(),
                        written: None,
                    }
                } else {
                    client.knows.insert(dot);
                    Context {
                        shown: context.shown,
                        written: Some(dot),
                    }
                };
                client.context = context.encode(BINDING);
            }
            Step::Read {
                replica,
                client,
                floor,
            } => {
                let Replica { record, known, .. } = &self.replicas[replica];
                let client = &mut self.clients[client];
                let context = Context::decode(&client.context, BINDING).unwrap();
                let record = Record::decode(record.clone()).unwrap();
                let covered = context.is_covered_by(record.seen());
                assert_eq!(
                    covered,
                    known.writes.is_superset(&client.knows),
                    "the floor is exact"
                );
                if covered || !floor {
                    client.context = Context {
                        shown: record.seen().clone(),
                        written: None,
                    }
                    .encode(BINDING);
                    client.knows = known.writes.clone();
                }
            }
            Step::Send { replica } => {
                let Replica { record, known, .. } = &self.replicas[replica];
                self.messages.push((record.clone(), known.clone()));
            }
            Step::Deliver { message, replica } => {
                if !self.messages.is_empty() {
                    let (record, known) = message.get(&self.messages).clone();
                    self.deliver(record, &known, replica);
                }
            }
            Step::NewIncarnation { replica } => {
                self.replicas[replica].actor = Actor(self.incarnations);
                self.replicas[replica].counter = 0;
                self.incarnations += 1;
            }
        }
    }

    fn deliver(&mut self, record: Bytes, known: &Known, replica: usize) {
        let replica = &mut self.replicas[replica];
        let held = Record::decode(replica.record.clone()).unwrap();
        replica.record = held.join(&Record::decode(record).unwrap()).encode();
        replica.known.learn(known);
    }

    fn check(&self) {
        for Replica { record, known, .. } in &self.replicas {
            let record = Record::decode(record.clone()).unwrap();
            let dots: Vec<Dot> = record
                .siblings()
                .iter()
                .map(|version| version.dot)
                .collect();
            assert_eq!(
                dots,
                known.maximal(),
                "the siblings are the causally maximal writes"
            );
            for version in record.siblings() {
                assert_eq!(
                    version, &self.writes[&version.dot],
                    "a value is what was written"
                );
            }
            for dot in self.writes.keys() {
                assert_eq!(
                    record.seen().covers(*dot),
                    known.writes.contains(dot),
                    "{dot} is seen if it is known"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn laws_of_histories(steps in vec(step(), 1..40), backwards in any::<bool>()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }

        // Whatever was lost, once everybody has told everybody, all are equal.
        for replica in 0..REPLICAS {
            world.step(Step::Send { replica });
        }
        let mut messages = world.messages.clone();
        if backwards {
            messages.reverse();
        }
        for (record, known) in &messages {
            for replica in 0..REPLICAS {
                world.deliver(record.clone(), known, replica);
            }
        }
        world.check();
        prop_assert!(world.replicas.iter().all(|replica| replica.record == world.replicas[0].record));
    }
}
