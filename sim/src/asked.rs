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
    /// Whether a write was to overwrite all that is held, as under `last_write_wins`.
    pub overwrites_all: bool,
    /// Whether a write was to overwrite what its context covers, as under `siblings`.
    pub overwrites_covered: bool,
}

impl Asked {
    /// A request about `key` has arrived at `who`.
    pub fn note(&mut self, who: Endpoint, key: &RecordKey, request: &Request) {
        if !self.records.contains_key(key) {
            self.records.insert(key.clone(), AskedOfRecord::default());
        }
        let Some(asked) = self.records.get_mut(key) else {
            return;
        };
        asked.nodes.insert(who);
        if let Operation::Accept(stamp) = &request.operation {
            match stamp.overwrites {
                Overwrites::All(_) => asked.overwrites_all = true,
                Overwrites::Covered(_) => asked.overwrites_covered = true,
            }
        }
    }
}
