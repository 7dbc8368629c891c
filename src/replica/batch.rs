//! A batch of changes, applied in memory.
//!
//! Each operation sees what those before it in the batch left, so operations on one key take effect one after the other.
//! Nothing of it is anybody else's before the batch is durable.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ReplicaSettings;
use super::ledger::Ledger;
use super::recent::{self, Known, Name, RecentWrites};
use super::slot::Slot;
use super::stamp::{self, Limits, Outcome};
use crate::marks::{self, Mark};
use crate::placement::Epoch;
use crate::ports::{Put, Random, RecordKey, Refusal, Reply, Space, StampRequest};
use crate::sabotage::{self, Sabotage};
use crate::version::{Dot, Record};

pub(super) struct Batch<'a, R> {
    pub(super) ledger: Ledger,
    slots: BTreeMap<RecordKey, Slot>,
    recent: &'a RecentWrites,
    stamped: BTreeMap<Name, Known>,
    random: &'a R,
    siblings_max: usize,
}

/// What a batch comes to.
pub(super) struct Applied {
    pub(super) ledger: Ledger,
    pub(super) stamped: BTreeMap<Name, Known>,
    pub(super) puts: Vec<Put>,
}

impl<'a, R: Random> Batch<'a, R> {
    /// `slots` has every key that the batch works on.
    pub(super) fn new(
        ledger: Ledger,
        slots: BTreeMap<RecordKey, Slot>,
        recent: &'a RecentWrites,
        random: &'a R,
        settings: &ReplicaSettings,
    ) -> Self {
        Self {
            ledger,
            slots,
            recent,
            stamped: BTreeMap::new(),
            random,
            siblings_max: settings.siblings_max,
        }
    }

    pub(super) fn stamp(&mut self, request: StampRequest) -> Result<Reply, Refusal> {
        let slot = slot(&mut self.slots, &request.key)?;
        let held = slot.record()?;
        self.ledger.notice(held.seen(), self.random);
        if self
            .ledger
            .never_gave_of(stamp::context(&request.overwrites))
        {
            return Err(Refusal::Malformed(
                "the context covers writes that this node never stamped".into(),
            ));
        }
        let name = recent::name(request.write_id, request.key.as_bytes());
        let remembered = self
            .stamped
            .get(&name)
            .copied()
            .or_else(|| self.recent.get(name));
        let limits = Limits {
            siblings_max: self.siblings_max,
            horizon: self.recent.horizon(),
        };
        match stamp::stamp(held, remembered, request, limits, || self.ledger.give())? {
            Outcome::Known(dot) => Ok(Reply::Stamped {
                dot,
                record: slot.bytes(),
            }),
            Outcome::Behind => Ok(Reply::Behind),
            Outcome::Superseded(greatest) => Ok(Reply::Superseded {
                greatest,
                record: slot.bytes(),
            }),
            Outcome::Applied(known, record) => {
                self.ledger.stamped(known.stamp);
                self.stamped.insert(name, known);
                let bytes = record.encode();
                let answered = match sabotage::on(Sabotage::StampedWithoutSiblings) {
                    true => alone(&record, known.dot).encode(),
                    false => bytes.clone(),
                };
                slot.set(record, bytes);
                Ok(Reply::Stamped {
                    dot: known.dot,
                    record: answered,
                })
            }
        }
    }

    pub(super) fn join(&mut self, key: &RecordKey, encoded: Bytes) -> Result<Reply, Refusal> {
        let slot = slot(&mut self.slots, key)?;
        let held = slot.record()?;
        if slot.is(&encoded) {
            return Ok(Reply::Joined {
                greatest: held.greatest_rank(),
            });
        }
        let incoming = Record::decode(encoded.clone())
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        self.ledger.notice(incoming.seen(), self.random);
        let joined = match () {
            () if sabotage::on(Sabotage::JoinReplacesRecord) => incoming.clone(),
            () if sabotage::on(Sabotage::JoinKeepsOwn) && !held.is_empty() => held.clone(),
            () => held.join(&incoming),
        };
        let greatest = joined.greatest_rank();
        if joined == *held {
            marks::reached(Mark::JoinKnewMore);
        } else if joined != incoming {
            marks::reached(Mark::JoinedBoth);
        }
        if joined != *held {
            let bytes = if joined == incoming {
                encoded
            } else {
                joined.encode()
            };
            slot.set(joined, bytes);
        }
        Ok(Reply::Joined { greatest })
    }

    /// `stored` is how many records were held before the batch.
    pub(super) fn adopt_if_empty(&mut self, epoch: Epoch, stored: u64) -> Result<Reply, Refusal> {
        let current = self.ledger.identity.epoch;
        if epoch < current {
            return Err(Refusal::StaleEpoch { current });
        }
        let adopted = stored == 0 && !self.slots.values().any(Slot::is_dirty);
        if adopted {
            self.ledger.adopt(epoch);
        }
        Ok(Reply::Adopted { adopted })
    }

    pub(super) fn finish(self) -> Applied {
        let records = self.slots.into_iter().filter_map(|(key, slot)| {
            let value = Some(slot.into_change()?);
            Some(Put {
                space: Space::Records,
                key: key.as_bytes().clone(),
                value,
            })
        });
        let mut records: Vec<Put> = records.collect();
        if sabotage::on(Sabotage::BatchLosesEffect) && records.len() > 1 {
            records.pop();
        }
        let puts = records.into_iter().chain(self.ledger.put()).collect();
        Applied {
            ledger: self.ledger,
            stamped: self.stamped,
            puts,
        }
    }
}

/// A write without its siblings.
fn alone(record: &Record, dot: Dot) -> Record {
    let own = record.siblings().iter().filter(|v| v.dot == dot).cloned();
    Record::new(record.seen().clone(), own.collect()).unwrap_or_default()
}

fn slot<'s>(
    slots: &'s mut BTreeMap<RecordKey, Slot>,
    key: &RecordKey,
) -> Result<&'s mut Slot, Refusal> {
    let slot = slots
        .get_mut(key)
        .ok_or_else(|| Refusal::Unavailable("the record was not loaded".into()))?;
    if slot.is_damaged() {
        marks::reached(Mark::DamagedNotOverwritten);
    }
    if slot.is_dirty() {
        marks::reached(Mark::BatchSameKey);
    }
    Ok(slot)
}
