//! What storage nodes were asked for, by record: who was asked, and how writes were to overwrite.
//!
//! It tells requests that should never have been made, whatever came of them: for a record that is nobody's, at a node
//! that does not own it, by the rules of another tenant, under a topology that nobody published.

use std::collections::{BTreeMap, BTreeSet};

use pairdb::placement::Epoch;
use pairdb::ports::{Operation, Overwrites, RecordKey, Request};

use crate::endpoint::Endpoint;

/// All that was asked for.
#[derive(Clone, Default, Debug)]
pub struct Asked {
    /// By record.
    pub records: BTreeMap<RecordKey, AskedOfRecord>,
    /// The newest epoch that a request was routed by, leaving out those of nodes that were misled.
    pub newest_epoch: Epoch,
}

/// What was asked for one record.
#[derive(Clone, Default, Debug)]
pub struct AskedOfRecord {
    /// Who was asked.
    pub nodes: BTreeSet<Endpoint>,
    /// Whom coordinators asked, by which epoch.
    pub routed: BTreeSet<(Epoch, Endpoint)>,
    /// Whom they asked to accept a write, by which epoch.
    pub accepting: BTreeSet<(Epoch, Endpoint)>,
    /// Whether a write was to overwrite all that is held, as under `last_write_wins`.
    pub overwrites_all: bool,
    /// Whether a write was to overwrite what its context covers, as under `siblings`.
    pub overwrites_covered: bool,
}

impl Asked {
    /// `from` has a request about `key` arrive at `who`.
    pub fn note(&mut self, from: Endpoint, who: Endpoint, key: &RecordKey, request: &Request) {
        if !self.records.contains_key(key) {
            self.records.insert(key.clone(), AskedOfRecord::default());
        }
        let Some(asked) = self.records.get_mut(key) else {
            return;
        };
        asked.nodes.insert(who);
        let by_coordinator = matches!(from, Endpoint::Coordinator(_));
        if by_coordinator {
            asked.routed.insert((request.epoch, who));
        }
        if let Operation::Accept(stamp) = &request.operation {
            if by_coordinator {
                asked.accepting.insert((request.epoch, who));
            }
            match stamp.overwrites {
                Overwrites::All(_) => asked.overwrites_all = true,
                Overwrites::Covered(_) => asked.overwrites_covered = true,
            }
        }
    }
}

/// The record that an operation is about, if it is about one.
#[must_use]
pub fn record_of(operation: &Operation) -> Option<&RecordKey> {
    match operation {
        Operation::Accept(stamp) => Some(&stamp.key),
        Operation::Join { key, .. } | Operation::Read { key } => Some(key),
        _ => None,
    }
}
