//! A change of owners as a world's operator asks for it, by the processes that it is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;

/// What is asked for: all of it is one change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangePlan {
    /// Storage nodes that join: spares, or nodes that were removed before. The operator gives one of these an empty
    /// disk first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Endpoint>,
    /// Whether a node that was removed before is added with what it holds, against all advice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_disks: bool,
    /// Those that leave, and hand over what they hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Endpoint>,
    /// Those that leave and are taken for lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub give_up: Vec<Endpoint>,
    /// Those whose place another one takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<Replacement>,
    /// Those that take another share, or are elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Setting>,
    /// Tenants that get another replication factor.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub factors: BTreeMap<String, u8>,
}

/// One node takes the place of another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Who leaves.
    pub who: Endpoint,
    /// Who joins.
    pub by: Endpoint,
    /// Whether the one that leaves is taken for lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// A node's share and place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Whose.
    pub who: Endpoint,
    /// Its places on the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_nodes: Option<u32>,
    /// Its zone; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl ChangePlan {
    /// Who joins by it.
    pub fn joining(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let by = self.replace.iter().map(|replacement| replacement.by);
        self.add.iter().copied().chain(by)
    }

    /// Those that are taken for lost.
    pub fn given_up(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let replaced = self.replace.iter().filter(|replacement| replacement.force);
        let replaced = replaced.map(|replacement| replacement.who);
        self.give_up.iter().copied().chain(replaced)
    }

    /// Who leaves by it.
    pub fn leaving(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let replaced = self.replace.iter().map(|replacement| replacement.who);
        let leaving = self.remove.iter().chain(&self.give_up);
        leaving.copied().chain(replaced)
    }
}
