//! Which attempts coordinators made of each write, and which of the owners they heard before they went on.

use std::collections::BTreeMap;

use pairdb::ports::{Operation, Request};
use pairdb::version::{Record, Stamp, WriteId};

use crate::endpoint::Endpoint;
use crate::op::Time;

/// A call about a write, by the write and its place among the calls about it.
pub type CallOf = (WriteId, usize);

/// Every call to stamp or join a write, by the write.
#[derive(Clone, Default, Debug)]
pub struct Attempts(BTreeMap<WriteId, Vec<Call>>);

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
            let calls = self.0.entry(write).or_default();
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

    /// The answers have come.
    pub(crate) fn heard(&mut self, calls: Vec<CallOf>, now: Time) {
        for (write, index) in calls {
            let call = self
                .0
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
        let calls = self.0.get(&write).map_or(&[][..], Vec::as_slice);
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
