//! Whether what is asked for is so already, or is on its way by a change that was asked for before.
//!
//! So whoever does not know whether a request was heard may repeat it, and gets the same answer. What is on its way is
//! never called so already. A node that is gone counts as removed only where a migration that is kept removed it: it
//! may be the wrong name.

use super::migration::after_all;
use crate::placement::{ChangeId, ChangeRequest, Node, NodeChange, NodeId, NodeStatus, Topology};
use crate::ports::{Migration, MigrationStatus};

/// What is known of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// Everything is so, since this migration has ended where one brought it about.
    So(Option<ChangeId>),
    /// A migration that is not over brings it about, after so many others.
    OnItsWay(Box<Migration>, usize),
}

/// What there is to judge by.
pub(super) struct Cluster<'a> {
    /// The stored topology.
    pub(super) stored: &'a Topology,
    /// Migrations that are not over, those asked for first first.
    pub(super) open: &'a [Migration],
    /// Those that are over, the last one first.
    pub(super) over: &'a [Migration],
}

impl Cluster<'_> {
    /// What is known of `request`; `None`: it is news.
    pub(super) fn known(&self, request: &ChangeRequest) -> Option<Known> {
        let asked = |migration: &Migration| migration.request == *request;
        if let Some(known) = self.on_its_way(asked) {
            return Some(known);
        }
        if request.nodes.is_empty() || !request.factors.is_empty() {
            return None;
        }
        let after = after_all(self.stored, self.open);
        let mut changes = request.nodes.iter();
        if !changes.all(|change| self.comes_about(change, &after)) {
            return None;
        }
        let left: Vec<&NodeChange> = request.nodes.iter().filter(|it| !self.is_so(it)).collect();
        if left.is_empty() {
            return Some(Known::So(self.brought_about(request)));
        }
        self.on_its_way(|migration| {
            let mut named = migration.request.named();
            named.any(|id| left.iter().any(|change| change.node() == id))
        })
    }

    /// The last of the migrations that are not over, and not to be cancelled, which is one of these.
    fn on_its_way(&self, is_it: impl Fn(&Migration) -> bool) -> Option<Known> {
        let mut open = self.open.iter().enumerate().rev();
        let (ahead, migration) = open.find(|(_, it)| !it.cancel && is_it(it))?;
        Some(Known::OnItsWay(Box::new(migration.clone()), ahead))
    }

    /// Whether a change is so when all that was asked for has ended.
    fn comes_about(&self, change: &NodeChange, after: &Topology) -> bool {
        is_so(change, after)
            && match change {
                NodeChange::Add(_) | NodeChange::Set { .. } => true,
                NodeChange::Remove { id, force } | NodeChange::Replace { id, force, .. } => {
                    match self.stored.node(id) {
                        // It leaves already, and is now to be given up: that is news.
                        Some(_) => !force || self.gives_up(id),
                        None => self.was_removed(change),
                    }
                }
            }
    }

    fn is_so(&self, change: &NodeChange) -> bool {
        is_so(change, self.stored)
    }

    fn gives_up(&self, lost: &NodeId) -> bool {
        let change = self.stored.change.as_deref();
        let by_change = change.is_some_and(|change| change.given_up.contains(lost));
        let mut open = self.open.iter().filter(|migration| !migration.cancel);
        let by_force = |migration: &Migration| {
            let mut leavers = migration.request.leavers();
            leavers.any(|(id, force)| id == lost && force)
        };
        by_change || open.any(by_force)
    }

    /// Whether a node that is gone is known to have been taken out.
    fn was_removed(&self, change: &NodeChange) -> bool {
        let by_its_seat = match change {
            NodeChange::Replace { id, by, .. } => {
                let by = self.stored.node(&by.id);
                by.is_some_and(|by| by.seat() == id.as_str())
            }
            _ => false,
        };
        by_its_seat || self.over.iter().any(|it| has_removed(it, change.node()))
    }

    /// The migration that brought all this about, if one is known.
    fn brought_about(&self, request: &ChangeRequest) -> Option<ChangeId> {
        let mut over = self.over.iter();
        let found = over.find(|migration| {
            migration.status == MigrationStatus::Completed
                && request.nodes.iter().any(|change| {
                    migration.request.nodes.contains(change)
                        || has_removed(migration, change.node())
                })
        });
        found.map(|migration| migration.id.clone())
    }
}

fn has_removed(migration: &Migration, node: &NodeId) -> bool {
    let mut leavers = migration.request.leavers();
    migration.status == MigrationStatus::Completed && leavers.any(|(id, _)| id == node)
}

/// Whether the nodes of a topology are as a change would have them.
fn is_so(change: &NodeChange, topology: &Topology) -> bool {
    let is_there = |node: &Node| {
        topology.node(&node.id).is_some_and(|known| {
            (&known.host, known.port) == (&node.host, node.port)
                && known.status == NodeStatus::Active
        })
    };
    match change {
        NodeChange::Add(node) => {
            let known = topology.node(&node.id);
            let share = |node: &Node| (node.virtual_nodes, node.zone.clone());
            is_there(node) && known.is_some_and(|known| share(known) == share(node))
        }
        NodeChange::Remove { id, .. } => topology.node(id).is_none(),
        NodeChange::Replace { id, by, .. } => topology.node(id).is_none() && is_there(by),
        NodeChange::Set {
            id,
            virtual_nodes,
            zone,
        } => topology.node(id).is_some_and(|known| {
            let zone = zone.as_deref();
            virtual_nodes.is_none_or(|count| known.virtual_nodes == count)
                && zone.is_none_or(|zone| known.zone.as_deref().unwrap_or_default() == zone)
        }),
    }
}

#[cfg(test)]
#[path = "asked_already_test.rs"]
mod tests;
