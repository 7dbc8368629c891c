//! The trees of all storage nodes, walked in the order of their names.
//!
//! Each node lists its trees page by page; a page for each node is all that is kept. What is found of a tree is what
//! each of its owners says of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ask::ask;
use super::routing::Routing;
use super::tenants::TenantCache;
use crate::placement::{Epoch, NodeId};
use crate::ports::{CoordinatorWorld, Digest, Instant, Roots, TenantId, TreeName, TreePage};
use crate::quorum::ConflictPolicy;

/// All nodes' trees, as far as they were walked.
pub(super) struct Listings {
    routing: Arc<Routing>,
    nodes: Vec<Listing>,
}

/// The trees of one node, as far as they were listed.
struct Listing {
    index: u16,
    page: VecDeque<(TreeName, Digest)>,
    last: Option<TreeName>,
    more: bool,
    /// It did not answer: what it has is unknown from here on.
    silent: bool,
}

/// What comes next in a round.
pub(super) enum Next {
    /// Nothing.
    End,
    /// A tree that no tenant can have: nothing in it was ever acknowledged to anybody.
    Nobodys(TreeName),
    /// A tree whose owners can't be told now.
    Unknown(TreeName),
    /// A tree.
    Tree(Found),
}

/// One tree and what its owners say of it.
pub(super) struct Found {
    pub(super) tree: TreeName,
    /// Its tenant's.
    pub(super) policy: ConflictPolicy,
    /// Its tenant's, unless that changes.
    pub(super) factor: u8,
    /// All of them, old and new ones while the partition moves.
    pub(super) owners: Vec<u16>,
    /// Whether the partition moves.
    pub(super) is_moving: bool,
    /// `None`: the owner did not answer.
    pub(super) digests: Vec<Option<Digest>>,
    /// Those of the owners that give up their copies: they need not be given anything.
    pub(super) leaving: Vec<u16>,
    /// Whether nothing is concluded from it once an owner turns out to have lost its disk meanwhile. So what they said
    /// may be built on.
    pub(super) is_guarded: bool,
}

impl Listings {
    /// From the first one on.
    pub(super) fn new(routing: Arc<Routing>) -> Self {
        let nodes = 0..routing.topology().nodes.len() as u16;
        // What a node holds that is given up counts no more.
        let listed = nodes.filter(|index| !routing.is_given_up(*index));
        Self {
            nodes: listed.map(Listing::new).collect(),
            routing,
        }
    }

    /// Nodes that were listed to the end of what was walked.
    pub(super) fn heard(&self) -> impl Iterator<Item = &NodeId> {
        let heard = self.nodes.iter().filter(|listing| !listing.silent);
        heard.map(|listing| &self.routing.node(listing.index).id)
    }

    /// Whether some node was not.
    pub(super) fn has_silent(&self) -> bool {
        self.nodes.iter().any(|listing| listing.silent)
    }

    /// Gets the pages that are needed to go on. The error is a newer epoch that a node knows.
    pub(super) async fn fill<W: CoordinatorWorld>(&mut self, world: &W) -> Result<(), Epoch> {
        for listing in &mut self.nodes {
            listing.fill(world, &self.routing).await?;
        }
        Ok(())
    }

    /// The least tree of all that are listed.
    pub(super) async fn next<W: CoordinatorWorld>(
        &mut self,
        tenants: &TenantCache<W>,
        deadline: Instant,
    ) -> Next {
        let fronts = self.nodes.iter().filter_map(|listing| listing.page.front());
        let Some(tree) = fronts.map(|(tree, _)| tree).min().cloned() else {
            return Next::End;
        };
        let digests = self.nodes.iter_mut();
        let digests: BTreeMap<u16, Option<Digest>> = digests
            .map(|listing| (listing.index, listing.take(&tree)))
            .collect();
        let tenant = match TenantId::new(tree.tenant()) {
            Ok(tenant) => tenant,
            Err(_) => return Next::Nobodys(tree),
        };
        let Ok(tenant) = tenants.get(&tenant, &self.routing, deadline).await else {
            return Next::Unknown(tree);
        };
        let factor = tenant.replication_factor;
        let owners = self
            .routing
            .owners_of(tree.partition(), tree.tenant(), factor);
        // Who is copied to gets it from the change, at the pace of that.
        let owners: Vec<u16> = owners.read_nodes().collect();
        let of_owner = |index: &u16| digests.get(index).copied().flatten();
        Next::Tree(Found {
            digests: owners.iter().map(of_owner).collect(),
            owners,
            is_moving: self.routing.moves(tree.partition()),
            leaving: Vec::new(),
            is_guarded: false,
            policy: tenant.conflict_policy,
            factor,
            tree,
        })
    }
}

impl Listing {
    const fn new(index: u16) -> Self {
        Self {
            index,
            page: VecDeque::new(),
            last: None,
            more: true,
            silent: false,
        }
    }

    /// Gets the next page if there is none. The error is a newer epoch that the node knows.
    async fn fill<W: CoordinatorWorld>(
        &mut self,
        world: &W,
        routing: &Arc<Routing>,
    ) -> Result<(), Epoch> {
        while self.page.is_empty() && self.more && !self.silent {
            let after = self.last.clone();
            match ask(world, routing, self.index, Roots { after }).await {
                Ok(TreePage { roots, more }) => {
                    self.last = roots.last().map(|(tree, _)| tree.clone());
                    self.more = more && self.last.is_some();
                    self.page = roots.into();
                }
                Err(Some(newer)) => return Err(newer),
                Err(None) => self.silent = true,
            }
        }
        Ok(())
    }

    /// What the node has of `tree`, which is not after any that it lists; `None`: it does not say. It is listed no more
    /// then.
    fn take(&mut self, tree: &TreeName) -> Option<Digest> {
        match self.page.front() {
            Some((front, digest)) if front == tree => {
                let digest = *digest;
                self.page.pop_front();
                Some(digest)
            }
            // A page that was listed says that the tree is not there, up to where it ends.
            _ if self.silent && self.page.is_empty() => None,
            _ => Some(Digest::default()),
        }
    }
}

impl Found {
    pub(super) fn has_silent(&self) -> bool {
        self.digests.iter().any(Option::is_none)
    }

    /// Whether all owners that answered have the same.
    pub(super) fn is_equal(&self) -> bool {
        let mut known = self.digests.iter().flatten();
        let first = known.next();
        known.all(|digest| Some(digest) == first)
    }

    /// What an owner said that it has; `None`: nothing, or it is no owner.
    pub(super) fn said_of(&self, index: u16) -> Option<Digest> {
        let mut both = self.owners.iter().zip(&self.digests);
        both.find(|(owner, _)| **owner == index)
            .and_then(|(_, digest)| *digest)
    }

    pub(super) fn answering(&self) -> impl Iterator<Item = u16> {
        let both = self.owners.iter().zip(&self.digests);
        both.filter(|(_, digest)| digest.is_some())
            .map(|(index, _)| *index)
    }
}
