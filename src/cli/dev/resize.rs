//! Another number of storage nodes for the cluster of `pairdb dev`: who joins, who leaves, and how it is told.
//!
//! What it is not: the change itself, which is asked for and carried out as in every cluster.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::coordinator::MigrationView;
use crate::placement::{ChangeId, ChangeRequest, Node, NodeChange, NodeId, Topology};
use crate::ports::{Migration, MigrationStatus};

/// The most storage nodes.
pub const NODES_MAX: u16 = 64;

/// The name of the storage node with this number.
pub fn numbered(number: u32) -> Option<NodeId> {
    NodeId::new(format!("node-{number}")).ok()
}

/// The number in a storage node's name, if it has one.
fn number(id: &NodeId) -> Option<u32> {
    id.as_str().strip_prefix("node-")?.parse().ok()
}

/// Who joins or leaves, so that there are as many as wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Steps {
    before: usize,
    joining: Vec<NodeId>,
    leaving: Vec<NodeId>,
}

impl Steps {
    /// From what there will be when all that is asked for already has come true. `None`: it is so already.
    ///
    /// The lowest numbers join, and the highest leave.
    pub fn to(wanted: u16, stored: &Topology, open: &[Migration]) -> Option<Self> {
        let wanted = usize::from(wanted);
        let will_be = after_all(stored, open);
        let before = will_be.len();
        let names: BTreeSet<&NodeId> = will_be.iter().chain(&stored.nodes).map(|n| &n.id).collect();
        let (mut joining, mut leaving) = (Vec::new(), Vec::new());
        if wanted > before {
            let free = (1..).filter_map(numbered);
            let free = free.filter(|id| !names.contains(id));
            joining = free.take(wanted - before).collect();
        } else {
            leaving = will_be.iter().map(|node| node.id.clone()).collect();
            leaving.sort_by_key(|id| (number(id).unwrap_or(u32::MAX), id.clone()));
            leaving.drain(..wanted);
        }
        let is_something = !(joining.is_empty() && leaving.is_empty());
        is_something.then_some(Self {
            before,
            joining,
            leaving,
        })
    }

    /// How many there were.
    pub const fn before(&self) -> usize {
        self.before
    }

    /// Those that have to be started.
    pub fn joining(&self) -> &[NodeId] {
        &self.joining
    }

    /// The change, with those that join where they are now.
    pub fn request(&self, joining: Vec<Node>) -> ChangeRequest {
        let leave = |id: &NodeId| NodeChange::Remove {
            id: id.clone(),
            force: false,
        };
        let joining = joining.into_iter().map(NodeChange::Add);
        ChangeRequest {
            nodes: joining.chain(self.leaving.iter().map(leave)).collect(),
            factors: Vec::new(),
        }
    }
}

/// The nodes that there will be when the change under way and all that wait have ended.
fn after_all(stored: &Topology, open: &[Migration]) -> Vec<Node> {
    let mut nodes = match stored.change.as_deref() {
        Some(change) => change.target.clone(),
        None => stored.nodes.clone(),
    };
    let waiting = open
        .iter()
        .filter(|migration| migration.status == MigrationStatus::Pending);
    for migration in waiting {
        if let Ok((target, _)) = migration.request.applied_to(&nodes) {
            nodes = target;
        }
    }
    nodes
}

/// What came of asking for another number of nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resized {
    before: usize,
    wanted: usize,
    migration: Option<String>,
}

impl Resized {
    /// It is so already.
    pub fn already(wanted: u16) -> Self {
        Self::new(wanted.into(), wanted, None)
    }

    /// It becomes so, at once or by a migration.
    pub fn new(before: usize, wanted: u16, migration: Option<ChangeId>) -> Self {
        Self {
            before,
            wanted: wanted.into(),
            migration: migration.map(|id| id.as_str().to_owned()),
        }
    }

    /// Whether nothing had to be changed.
    pub const fn is_already(&self) -> bool {
        self.before == self.wanted
    }

    /// The migration that moves data, if any has to move.
    pub fn migration(&self) -> Option<&str> {
        self.migration.as_deref()
    }
}

impl fmt::Display for Resized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, wanted) = (self.before, self.wanted);
        match (&self.migration, self.is_already()) {
            (_, true) => write!(f, "there are {wanted} storage nodes, or will be"),
            (None, false) => write!(
                f,
                "from {before} to {wanted} storage nodes; no data had to move"
            ),
            (Some(id), false) => {
                write!(
                    f,
                    "from {before} to {wanted} storage nodes: migration {id} moves the data"
                )
            }
        }
    }
}

/// How far a migration has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    id: String,
    status: MigrationStatus,
    partitions: (u64, u64),
    waits_for: Option<String>,
    error: Option<String>,
}

impl Progress {
    /// Of a migration as it is now.
    pub fn of(view: &MigrationView) -> Self {
        let progress = view.migration.progress;
        Self {
            id: view.migration.id.to_string(),
            status: view.migration.status,
            partitions: (progress.partitions_done, progress.partitions),
            waits_for: view.waits_for.clone(),
            error: view.migration.error.clone(),
        }
    }

    /// Whether there will be no more.
    pub const fn is_over(&self) -> bool {
        !self.status.is_open()
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, all) = self.partitions;
        let status = self.status.as_str().replace('_', " ");
        write!(f, "migration {}: {status}", self.id)?;
        if self.status == MigrationStatus::InProgress {
            write!(f, ", {done} of {all} partitions")?;
        }
        match (&self.error, &self.waits_for) {
            (Some(why), _) => write!(f, ": {why}"),
            (None, Some(what)) => write!(f, "; waits for {what}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Epoch, NodeStatus};

    fn node(id: &str) -> Node {
        Node {
            id: NodeId::new(id).unwrap(),
            host: "127.0.0.1".into(),
            port: 1,
            virtual_nodes: 4,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        }
    }

    fn topology(names: &[&str]) -> Topology {
        let nodes = names.iter().map(|name| node(name));
        Topology::new(Epoch(1), 8, nodes.collect()).unwrap()
    }

    fn waiting(change: NodeChange) -> Migration {
        Migration::asked(
            ChangeId::of_number(1),
            ChangeRequest {
                nodes: vec![change],
                factors: Vec::new(),
            },
            0,
        )
    }

    /// Who joins and who leaves.
    fn steps(wanted: u16, stored: &Topology, open: &[Migration]) -> (Vec<String>, Vec<String>) {
        let steps = Steps::to(wanted, stored, open);
        let names = |ids: &[NodeId]| ids.iter().map(|id| id.as_str().to_owned()).collect();
        steps.map_or_else(Default::default, |s| (names(&s.joining), names(&s.leaving)))
    }

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_lowest_numbers_join_and_the_highest_leave() {
        let stored = topology(&["node-1", "node-10", "node-2", "other"]);
        assert_eq!(Steps::to(4, &stored, &[]), None);
        let none = named(&[]);
        let joining = named(&["node-3", "node-4"]);
        assert_eq!(steps(6, &stored, &[]), (joining, none.clone()));
        let leaving = named(&["node-2", "node-10", "other"]);
        assert_eq!(steps(1, &stored, &[]), (none, leaving));
    }

    #[test]
    fn what_is_asked_for_already_counts() {
        let stored = topology(&["node-1", "node-2", "node-3"]);
        let fourth = [waiting(NodeChange::Add(node("node-4")))];
        assert_eq!(Steps::to(4, &stored, &fourth), None);
        assert_eq!(steps(5, &stored, &fourth).0, ["node-5"]);
        assert_eq!(steps(3, &stored, &fourth).1, ["node-4"]);
        let third = NodeId::new("node-3").unwrap();
        let leaves = [waiting(NodeChange::Remove {
            id: third,
            force: false,
        })];
        assert_eq!(Steps::to(2, &stored, &leaves), None);
        assert_eq!(
            steps(3, &stored, &leaves).0,
            ["node-4"],
            "node-3 still runs"
        );
    }

    #[test]
    fn a_change_names_all_of_them() {
        let steps = Steps::to(2, &topology(&["node-1", "node-2", "node-3"]), &[]).unwrap();
        let removal = NodeChange::Remove {
            id: NodeId::new("node-3").unwrap(),
            force: false,
        };
        assert_eq!(steps.request(Vec::new()).nodes, [removal]);
        let steps = Steps::to(2, &topology(&["node-1"]), &[]).unwrap();
        assert_eq!(steps.joining(), [NodeId::new("node-2").unwrap()]);
        let joining = vec![node("node-2")];
        let added = NodeChange::Add(node("node-2"));
        assert_eq!(steps.request(joining).nodes, [added]);
    }
}
