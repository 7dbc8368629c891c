//! Which owners' answers coordinators had of what they read, by which epoch.
//!
//! What this is not: who was asked ([`crate::asked`]), or what the answers said ([`crate::seen`]). It tells who a read
//! can rely on. An answer of a node that counts for no quorum is none of these.

use std::collections::{BTreeMap, BTreeSet};

use pairdb::placement::Epoch;
use pairdb::ports::{Operation, RecordKey, Reply, Request};

use crate::endpoint::Endpoint;
use crate::op::Time;

/// All answers to reads that coordinators have heard.
#[derive(Clone, Default, Debug)]
pub struct Readings(BTreeMap<RecordKey, Vec<(Reading, Time)>>);

/// A coordinator reads a record at a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    by: Endpoint,
    who: Endpoint,
    key: RecordKey,
    epoch: Epoch,
}

impl Reading {
    /// What `from` asks of `who`, if it is one.
    #[must_use]
    pub fn of(from: Endpoint, who: Endpoint, request: &Request) -> Option<Self> {
        let Operation::Read { key } = &request.operation else {
            return None;
        };
        matches!(from, Endpoint::Coordinator(_)).then(|| Self {
            by: from,
            who,
            key: key.clone(),
            epoch: request.epoch,
        })
    }
}

impl Readings {
    /// The coordinator has this answer.
    pub fn heard(&mut self, reading: Reading, reply: &Reply, now: Time) {
        if matches!(reply, Reply::Found { .. }) {
            let key = reading.key.clone();
            self.0.entry(key).or_default().push((reading, now));
        }
    }

    /// By epoch, whose answers a coordinator got of a record from `from` to `to`; `None`: any coordinator.
    #[must_use]
    pub fn answering(
        &self,
        by: Option<Endpoint>,
        key: &RecordKey,
        (from, to): (Time, Time),
    ) -> BTreeMap<Epoch, BTreeSet<Endpoint>> {
        let mut answering: BTreeMap<Epoch, BTreeSet<Endpoint>> = BTreeMap::new();
        for (reading, at) in self.0.get(key).into_iter().flatten() {
            if (from..=to).contains(at) && by.is_none_or(|by| by == reading.by) {
                let who = answering.entry(reading.epoch).or_default();
                who.insert(reading.who);
            }
        }
        answering
    }
}
