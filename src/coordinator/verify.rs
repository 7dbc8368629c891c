//! Verification: all owners of all keys are read and compared, for whoever wants to see that they are equal.
//!
//! It goes tree by tree, as anti-entropy does, but believes no digest that was kept: owners list their keys with hashes
//! made of the records as they are stored. What differs is read again after a pause, since a write may have been under
//! way; what still differs then is told with what each owner holds.
//!
//! One call goes a bounded way and says where the next one has to go on; nothing is remembered between them. Memory is
//! bounded by a page for each node. An owner that does not answer is told of: of what it holds nothing is known.
//!
//! What this is not: it mends nothing. And trees are found by the digests that nodes keep: a tree of which all its
//! owners have lost the digests is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::CoordinatorError;
use super::metadata::Metadata;
use super::owners::Owners;
use super::routing::Routing;
use super::tenants::TenantCache;
use super::topologies::Topologies;
use super::validate::invalid;
use crate::mutant::{self, Mutant};
use crate::placement::{Epoch, NodeId};
use crate::ports::{
    Ask, CallError, Clock, CoordinatorWorld, Digest, Instant, KeyHash, KeyPage, Keys, ReadRecord,
    RecordKey, Refusal, Roots, TenantId, TreeName, TreePage,
};
use crate::version::{Record, Stamp};

/// No new page is begun after this time.
const TIME_MAX: Duration = Duration::from_secs(1);
/// One question to one node.
const PATIENCE: Duration = Duration::from_secs(2);
/// Keys that are read again in one call.
const SUSPECTS_MAX: usize = 256;
/// Keys that are read again at the same time.
const AT_ONCE: usize = 8;
/// A write that was under way is over by then, or nearly so.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// How often a call begins again because the topology changed under it.
const TRIES: usize = 3;

/// What one call found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Keys that were compared.
    pub keys: u64,
    /// Trees whose end was reached.
    pub trees: u64,
    /// Keys that owners hold differently.
    pub differences: Vec<Difference>,
    /// What could not be compared.
    pub unverified: Vec<Unverified>,
    /// Where to go on; `None`: everything was looked at.
    pub next: Option<Bytes>,
    /// The partition that was reached, of so many.
    pub partition: u16,
    /// How many partitions there are.
    pub partitions: u32,
}

/// A key that owners hold differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Which one.
    pub key: RecordKey,
    /// What each owner holds, in preference order.
    pub owners: Vec<(NodeId, Holds)>,
}

/// What an owner holds of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holds {
    /// No record.
    Nothing,
    /// A record.
    Record {
        /// [`Digest::hash`] of it.
        hash: u128,
        /// How many siblings it has.
        siblings: usize,
        /// Whether it is nothing but tombstones.
        deleted: bool,
        /// Its greatest stamp.
        stamp: Stamp,
    },
    /// A record that can't be read.
    Damaged(String),
    /// It did not answer.
    Unknown,
}

/// What could not be compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unverified {
    /// A node or a tenant, by name.
    pub what: String,
    /// In so many trees of which something was looked at.
    pub trees: u64,
    /// Why.
    pub cause: String,
}

/// Where a call begins.
enum Place {
    Begin,
    /// After a whole tree.
    After(TreeName),
    /// Within a tree, after a key.
    Within(RecordKey),
}

/// One call under way.
struct Walk {
    routing: Arc<Routing>,
    until: Instant,
    found: Verified,
    /// Nodes that did not answer, by index; they are not asked again in this call.
    silent: BTreeMap<u16, Unverified>,
    /// Tenants that could not be looked up.
    unknown: Vec<Unverified>,
    suspects: Vec<(RecordKey, Vec<u16>)>,
}

/// A node knows a newer topology, and what was found so far may be of other owners.
struct Outdated(Epoch);

/// What each node lists of one window.
type Window = (BTreeSet<TreeName>, bool);

/// Compares what owners hold.
pub(super) struct Verifier<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) metadata: Arc<Metadata<W>>,
    pub(super) topologies: Arc<Topologies<W>>,
    pub(super) tenants: Arc<TenantCache<W>>,
}

impl<W: CoordinatorWorld> Verifier<W> {
    /// Compares owners from `after` on; see [`Coordinator::verify`](super::Coordinator::verify).
    pub(super) async fn verify(
        &self,
        tenant: Option<&TenantId>,
        after: &Bytes,
    ) -> Result<Verified, CoordinatorError> {
        for _ in 0..TRIES {
            match self.verify_on(tenant, Place::parse(after)?).await {
                Ok(found) => return Ok(found),
                Err(Outdated(newer)) => {
                    let deadline = self.metadata.deadline();
                    self.topologies.refresh(newer, deadline).await;
                }
            }
        }
        Err(CoordinatorError::NodeInUse(
            "the topology keeps changing; verify again when it does not".into(),
        ))
    }

    async fn verify_on(
        &self,
        tenant: Option<&TenantId>,
        from: Place,
    ) -> Result<Verified, Outdated> {
        let mut walk = Walk::new(
            self.topologies.routing(),
            self.world.clock().now() + TIME_MAX,
        );
        walk.found.next = self.verify_trees(&mut walk, tenant, from).await?;
        self.look_again(&mut walk).await?;
        Ok(walk.end())
    }

    /// Goes on until the call is full. Returns where that was.
    async fn verify_trees(
        &self,
        walk: &mut Walk,
        tenant: Option<&TenantId>,
        from: Place,
    ) -> Result<Option<Bytes>, Outdated> {
        let mut after = match from {
            Place::Begin => None,
            Place::After(tree) => Some(tree),
            Place::Within(key) => {
                let tree = key.tree();
                if let Some(key) = self.verify_tree(walk, &tree, Some(key)).await? {
                    return Ok(Some(key.as_bytes().clone()));
                }
                Some(tree)
            }
        };
        loop {
            let (trees, more) = self.list_trees(walk, after.as_ref()).await?;
            let last = trees.last().cloned();
            for tree in trees {
                if tenant.is_none_or(|tenant| tenant.as_str() == tree.tenant()) {
                    if let Some(key) = self.verify_tree(walk, &tree, None).await? {
                        return Ok(Some(key.as_bytes().clone()));
                    }
                    if walk.is_full(self.world.clock().now()) {
                        return Ok(Some(tree.as_bytes().clone()));
                    }
                }
            }
            match last {
                Some(last) if more => {
                    walk.found.partition = last.partition().0;
                    if walk.is_full(self.world.clock().now()) {
                        return Ok(Some(last.as_bytes().clone()));
                    }
                    after = Some(last);
                }
                _ => return Ok(None),
            }
        }
    }

    /// The next trees that any node has, and whether there may be more.
    async fn list_trees(
        &self,
        walk: &mut Walk,
        after: Option<&TreeName>,
    ) -> Result<Window, Outdated> {
        let nodes: Vec<u16> = (0..walk.routing.topology().nodes.len() as u16).collect();
        let list = Roots {
            after: after.cloned(),
        };
        let mut trees = BTreeSet::new();
        let mut end: Option<TreeName> = None;
        for (_, TreePage { roots, more }) in self.ask_all(walk, &nodes, &list).await? {
            // Beyond the end of a page that has another one nothing can be said yet.
            if let Some((last, _)) = roots.last().filter(|_| more) {
                end = Some(end.map_or_else(|| last.clone(), |end| end.min(last.clone())));
            }
            trees.extend(roots.into_iter().map(|(tree, _)| tree));
        }
        if let Some(end) = &end
            && !mutant::on(Mutant::VerifyPagesUncut)
        {
            trees.retain(|tree| tree <= end);
        }
        trees.retain(|tree| after.is_none_or(|after| tree > after));
        Ok((trees, end.is_some()))
    }

    /// Compares the owners of a tree, from `after` on. Returns how far that went when it is not the end.
    async fn verify_tree(
        &self,
        walk: &mut Walk,
        tree: &TreeName,
        mut after: Option<RecordKey>,
    ) -> Result<Option<RecordKey>, Outdated> {
        walk.found.partition = tree.partition().0;
        let tenant = match TenantId::new(tree.tenant()) {
            Ok(tenant) => {
                let deadline = self.metadata.deadline();
                self.tenants.get(&tenant, &walk.routing, deadline).await
            }
            Err(_) => Err(CoordinatorError::TenantNotFound(tree.tenant().to_owned())),
        };
        let owners = match tenant {
            Ok(tenant) => {
                let factor = tenant.replication_factor;
                // While a partition is copied its new owners lack what has not come to them yet.
                let owners = walk
                    .routing
                    .owners_of(tree.partition(), tree.tenant(), factor);
                owners.read_nodes().collect::<Vec<u16>>()
            }
            Err(error) => {
                walk.unknown_tenant(tree.tenant(), &error);
                return Ok(None);
            }
        };
        loop {
            let list = Keys {
                tree: tree.clone(),
                leaves: u64::MAX,
                after: after.clone(),
            };
            let mut pages = Vec::with_capacity(owners.len());
            let mut end: Option<RecordKey> = None;
            for (owner, KeyPage { keys, more }) in self.ask_all(walk, &owners, &list).await? {
                // A page that does not go on would never end.
                if let Some(more) = more.filter(|more| after.as_ref() < Some(more)) {
                    end = Some(end.map_or_else(|| more.clone(), |end| end.min(more.clone())));
                }
                pages.push((owner, keys));
            }
            let (keys, differing) = compare(pages, end.as_ref());
            walk.found.keys += keys;
            walk.suspects
                .extend(differing.into_iter().map(|key| (key, owners.clone())));
            let Some(end) = end else {
                walk.found.trees += 1;
                for owner in &owners {
                    if let Some(silent) = walk.silent.get_mut(owner) {
                        silent.trees += 1;
                    }
                }
                return Ok(None);
            };
            if walk.is_full(self.world.clock().now()) {
                return Ok(Some(end));
            }
            after = Some(end);
        }
    }

    /// Reads what differed from each of its owners.
    async fn look_again(&self, walk: &mut Walk) -> Result<(), Outdated> {
        let suspects = std::mem::take(&mut walk.suspects);
        if !suspects.is_empty() {
            self.world.clock().sleep(SECOND_LOOK).await;
        }
        for some in suspects.chunks(AT_ONCE) {
            let reads = some.iter().map(|(key, owners)| {
                let (walk, owners) = (&*walk, owners.iter());
                let reads = owners.map(move |owner| async move {
                    let read = ReadRecord { key: key.clone() };
                    match walk.silent.contains_key(owner) {
                        true => None,
                        false => Some(self.ask_one(walk, *owner, read).await),
                    }
                });
                futures::future::join_all(reads)
            });
            let answers = futures::future::join_all(reads).await;
            for ((key, owners), answers) in some.iter().zip(answers) {
                let mut held = Vec::with_capacity(owners.len());
                for (owner, answer) in owners.iter().zip(answers) {
                    let node = walk.routing.node(*owner).id.clone();
                    let holds = match answer {
                        None => Holds::Unknown,
                        Some(Ok(record)) => holds(key, record),
                        Some(Err(CallError::Refused(Refusal::Damaged))) => {
                            Holds::Damaged(Refusal::Damaged.to_string())
                        }
                        Some(Err(error)) => {
                            walk.is_silent(*owner, error)?;
                            Holds::Unknown
                        }
                    };
                    held.push((node, holds));
                }
                if differ(&held) {
                    walk.found.differences.push(Difference {
                        key: key.clone(),
                        owners: held,
                    });
                }
            }
        }
        Ok(())
    }

    /// Asks all of `nodes` that have answered so far. Those that don't answer now are noted and left out.
    async fn ask_all<A: Ask + Clone>(
        &self,
        walk: &mut Walk,
        nodes: &[u16],
        question: &A,
    ) -> Result<Vec<(u16, A::Answer)>, Outdated> {
        let so_far: &Walk = walk;
        let answering = nodes
            .iter()
            .filter(|node| !so_far.silent.contains_key(node));
        let asked = answering.map(|node| {
            let (node, answer) = (*node, self.ask_one(so_far, *node, question.clone()));
            async move { (node, answer.await) }
        });
        let heard = futures::future::join_all(asked).await;
        let mut answers = Vec::with_capacity(heard.len());
        for (node, answer) in heard {
            match answer {
                Ok(answer) => answers.push((node, answer)),
                Err(error) => walk.is_silent(node, error)?,
            }
        }
        Ok(answers)
    }

    async fn ask_one<A: Ask>(
        &self,
        walk: &Walk,
        node: u16,
        question: A,
    ) -> Result<A::Answer, CallError> {
        let deadline = self.world.clock().now() + PATIENCE;
        let owners = Owners::of_node(self.world.clone(), Arc::clone(&walk.routing), node);
        owners.call_quietly(0, question, deadline).await
    }
}

impl Place {
    fn parse(bytes: &Bytes) -> Result<Self, CoordinatorError> {
        if bytes.is_empty() {
            return Ok(Self::Begin);
        }
        if let Ok(tree) = TreeName::from_bytes(bytes.clone()) {
            return Ok(Self::After(tree));
        }
        match RecordKey::from_bytes(bytes.clone()) {
            Ok(key) => Ok(Self::Within(key)),
            Err(_) => Err(invalid(
                "after",
                "is not what an earlier answer gave as `next`",
            )),
        }
    }
}

impl Walk {
    fn new(routing: Arc<Routing>, until: Instant) -> Self {
        let found = Verified {
            partitions: routing.topology().partitions,
            ..Verified::default()
        };
        Self {
            routing,
            until,
            found,
            silent: BTreeMap::new(),
            unknown: Vec::new(),
            suspects: Vec::new(),
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        now >= self.until || self.suspects.len() >= SUSPECTS_MAX
    }

    fn is_silent(&mut self, node: u16, error: CallError) -> Result<(), Outdated> {
        if let CallError::Refused(Refusal::StaleEpoch { current }) = error {
            return Err(Outdated(current));
        }
        self.silent.entry(node).or_insert_with(|| Unverified {
            what: self.routing.node(node).id.to_string(),
            trees: 0,
            cause: error.to_string(),
        });
        Ok(())
    }

    fn unknown_tenant(&mut self, tenant: &str, error: &CoordinatorError) {
        match self.unknown.iter_mut().find(|known| known.what == tenant) {
            Some(known) => known.trees += 1,
            None => self.unknown.push(Unverified {
                what: tenant.to_owned(),
                trees: 1,
                cause: error.to_string(),
            }),
        }
    }

    fn end(self) -> Verified {
        let mut found = self.found;
        found.unverified = self.silent.into_values().chain(self.unknown).collect();
        found
    }
}

/// How many keys were listed up to `end`, and which of them not by all alike.
fn compare(pages: Vec<(u16, Vec<KeyHash>)>, end: Option<&RecordKey>) -> (u64, Vec<RecordKey>) {
    let owners = pages.len();
    let mut keys: BTreeMap<RecordKey, (usize, BTreeSet<u128>)> = BTreeMap::new();
    for entry in pages.into_iter().flat_map(|(_, keys)| keys) {
        if end.is_none_or(|end| entry.key <= *end) {
            let (listed, hashes) = keys.entry(entry.key).or_default();
            *listed += 1;
            hashes.insert(entry.hash);
        }
    }
    let count = keys.len() as u64;
    let differing = keys
        .into_iter()
        .filter(|(_, (listed, hashes))| *listed != owners || hashes.len() != 1);
    (count, differing.map(|(key, _)| key).collect())
}

fn holds(key: &RecordKey, record: Option<Bytes>) -> Holds {
    let Some(encoded) = record else {
        return Holds::Nothing;
    };
    match Record::decode(encoded.clone()) {
        Err(error) => Holds::Damaged(error.to_string()),
        Ok(record) => Holds::Record {
            hash: Digest::hash(key, &encoded),
            siblings: record.siblings().len(),
            deleted: record.is_deleted(),
            stamp: record.greatest_stamp(),
        },
    }
}

/// Whether those that answered hold it differently, or one of them holds it damaged.
fn differ(held: &[(NodeId, Holds)]) -> bool {
    let mut known = held
        .iter()
        .map(|(_, holds)| holds)
        .filter(|holds| **holds != Holds::Unknown);
    let Some(first) = known.next() else {
        return false;
    };
    matches!(first, Holds::Damaged(_)) || known.any(|holds| holds != first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::PartitionId;

    fn key(name: &str) -> RecordKey {
        RecordKey::new(PartitionId(1), &TenantId::new("t").unwrap(), name)
    }

    #[test]
    fn a_key_differs_when_an_owner_lacks_it_or_holds_something_else() {
        let page = |entries: &[(&str, u128)]| {
            let entries = entries.iter();
            let entries = entries.map(|(name, hash)| KeyHash {
                key: key(name),
                hash: *hash,
            });
            (0, entries.collect())
        };
        let pages = || {
            vec![
                page(&[("a", 1), ("b", 2), ("c", 3), ("z", 9)]),
                page(&[("a", 1), ("b", 7), ("d", 4)]),
            ]
        };
        let all = compare(pages(), None);
        assert_eq!(all, (5, ["b", "c", "d", "z"].map(key).into()));
        let some = compare(pages(), Some(&key("c")));
        assert_eq!(some, (3, ["b", "c"].map(key).into()));
    }

    #[test]
    fn who_does_not_answer_is_neither_equal_nor_different() {
        let node = |name: &str| NodeId::new(name).unwrap();
        let held = |first: Holds, second: Holds| [(node("a"), first), (node("b"), second)];
        assert!(!differ(&held(Holds::Nothing, Holds::Unknown)));
        assert!(!differ(&held(Holds::Unknown, Holds::Unknown)));
        assert!(!differ(&held(Holds::Nothing, Holds::Nothing)));
        let damaged = || Holds::Damaged("d".into());
        assert!(differ(&held(damaged(), damaged())));
        assert!(differ(&held(Holds::Unknown, damaged())));
        assert!(differ(&held(Holds::Nothing, damaged())));
    }

    #[test]
    fn a_place_is_the_name_of_a_tree_or_of_a_record() {
        let key = key("k");
        let parse = |bytes: &Bytes| Place::parse(bytes).ok();
        assert!(matches!(parse(&Bytes::new()), Some(Place::Begin)));
        let tree = key.tree();
        assert!(matches!(parse(tree.as_bytes()), Some(Place::After(found)) if found == tree));
        assert!(matches!(parse(key.as_bytes()), Some(Place::Within(found)) if found == key));
        assert!(parse(&Bytes::from_static(b"?")).is_none());
    }
}
