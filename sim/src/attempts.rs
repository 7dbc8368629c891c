//! Which attempts coordinators made of each write, and which of the owners they heard before they went on.

use std::collections::{BTreeMap, BTreeSet};

use pairdb::placement::Epoch;
use pairdb::ports::{Operation, RecordKey, Request};
use pairdb::version::{Record, Stamp, WriteId};

use crate::asked::record_of;
use crate::endpoint::Endpoint;
use crate::op::Time;

/// A call about a write, by the write and its place among the calls about it.
pub type CallOf = (WriteId, usize);

/// What coordinators asked owners for.
#[derive(Clone, Default, Debug)]
pub struct Attempts {
    /// Every call to stamp or join a write, by the write.
    writes: BTreeMap<WriteId, Vec<Call>>,
    /// By which epochs each coordinator asked for each key, and when.
    routed: BTreeMap<RecordKey, Vec<Routed>>,
}

/// A coordinator asked for a key by an epoch for the first time since it had asked by another one.
#[derive(Clone, Debug)]
struct Routed {
    by: Endpoint,
    epoch: Epoch,
    first: Time,
    last: Time,
}

#[derive(Clone, Debug)]
struct Call {
    from: Endpoint,
    stamp: Stamp,
    stamps: bool,
    sent: Time,
    heard: Option<Time>,
}

impl Attempts {
    /// Somebody is asked.
    pub(crate) fn asks(&mut self, from: Endpoint, request: &Request, now: Time) -> Vec<CallOf> {
        if !matches!(from, Endpoint::Coordinator(_)) {
            return Vec::new();
        }
        if let Some(key) = record_of(&request.operation) {
            self.route(from, key, request.epoch, now);
        }
        let (stamps, writes) = match &request.operation {
            Operation::Accept(stamp) => (true, vec![(stamp.write_id, stamp.stamp)]),
            Operation::Join { record, .. } => {
                let record = Record::decode(record.clone()).unwrap_or_default();
                let siblings = record.siblings().iter();
                let writes = siblings.map(|version| (version.write_id, version.stamp));
                (false, writes.collect())
            }
            _ => return Vec::new(),
        };
        let note = |(write, stamp)| {
            let calls = self.writes.entry(write).or_default();
            calls.push(Call {
                from,
                stamp,
                stamps,
                sent: now,
                heard: None,
            });
            (write, calls.len() - 1)
        };
        writes.into_iter().map(note).collect()
    }

    fn route(&mut self, by: Endpoint, key: &RecordKey, epoch: Epoch, now: Time) {
        if !self.routed.contains_key(key) {
            self.routed.insert(key.clone(), Vec::new());
        }
        let Some(routed) = self.routed.get_mut(key) else {
            return;
        };
        let same = |it: &&mut Routed| it.by == by && it.epoch == epoch;
        match routed.iter_mut().find(same) {
            Some(it) => it.last = now,
            None => routed.push(Routed {
                by,
                epoch,
                first: now,
                last: now,
            }),
        }
    }

    /// By which epochs a coordinator may have asked for a key from `from` to `to`; `None`: any coordinator.
    #[must_use]
    pub fn epochs(
        &self,
        by: Option<Endpoint>,
        key: &RecordKey,
        (from, to): (Time, Time),
    ) -> BTreeSet<Epoch> {
        let routed = self.routed.get(key).into_iter().flatten();
        let during = routed.filter(|it| {
            it.first <= to && it.last >= from && by.is_none_or(|coordinator| coordinator == it.by)
        });
        during.map(|it| it.epoch).collect()
    }

    /// The answers have come.
    pub(crate) fn heard(&mut self, calls: Vec<CallOf>, now: Time) {
        for (write, index) in calls {
            let call = self
                .writes
                .get_mut(&write)
                .and_then(|calls| calls.get_mut(index));
            if let Some(call) = call {
                call.heard.get_or_insert(now);
            }
        }
    }

    /// Whether a coordinator gave a write a greater stamp while an owner that it had asked under a smaller one had not
    /// said how the write stands: it was silent, or refused. (Asked is also who was to join the write in a read repair
    /// by the same coordinator.)
    #[must_use]
    pub fn was_raised_unheard(&self, write: WriteId) -> bool {
        let calls = self.writes.get(&write).map_or(&[][..], Vec::as_slice);
        let raises = calls.iter().filter(|call| call.stamps);
        raises.into_iter().any(|raise| {
            calls.iter().any(|call| {
                call.from == raise.from
                    && call.stamp < raise.stamp
                    && call.sent <= raise.sent
                    && call.heard.is_none_or(|heard| heard > raise.sent)
            })
        })
    }
}
