//! What an exchange between the owners of a tree proves, sentence by sentence: over real storage nodes.

use super::super::test_cluster::{Mood, TestCluster, TestWorld};
use super::super::{Coordinator, CoordinatorSettings};
use super::*;
use crate::adapters::memory::MemoryStorage;
use crate::placement::PartitionId;
use crate::ports::{Durability, JoinSource, Operation, RecordKey, TenantId};
use crate::version::Stamp;

/// The tree of one key, which one owner alone has. Nobody compares owners but the test.
struct Scene {
    cluster: TestCluster,
    coordinator: Coordinator<TestWorld>,
}

impl Scene {
    /// The first owner has it.
    fn new() -> Self {
        Self::with(0)
    }

    /// This owner has it.
    fn with(holder: usize) -> Self {
        let cluster = TestCluster::new();
        let coordinator = cluster.coordinator_with(CoordinatorSettings {
            anti_entropy_pause: std::time::Duration::from_secs(100_000),
            ..CoordinatorSettings::default()
        });
        let scene = Self {
            cluster,
            coordinator,
        };
        let owner = scene.owner(holder);
        let stamp = Stamp::new(5, 0);
        let coordinator = &scene.coordinator;
        scene.cluster.plant(coordinator, &owner, "k", stamp, "v");
        scene
    }

    fn routing(&self) -> Arc<Routing> {
        self.coordinator.status().topologies.routing()
    }

    fn owner(&self, owner: usize) -> NodeId {
        self.cluster.owners(&self.coordinator, "lww", "k")[owner].clone()
    }

    fn is(&self, owner: usize, mood: Mood) {
        self.cluster.set_mood(&self.owner(owner), mood);
    }

    /// What comes of it when the owners were listed with these digests.
    fn tended(&self, digests: [Option<Digest>; 3]) -> Tended {
        let (routing, progress) = (self.routing(), Arc::default());
        let key = self.cluster.record_key(&self.coordinator, "lww", "k");
        let owners = routing.owners_of(key.partition(), key.tenant(), 3);
        let found = Found {
            tree: key.tree(),
            policy: ConflictPolicy::LastWriteWins,
            factor: 3,
            owners: owners.read_nodes().collect(),
            is_moving: false,
            digests: digests.to_vec(),
            leaving: Vec::new(),
            is_guarded: false,
        };
        let world = self.cluster.world().clone();
        let exchange = Exchange { world, progress };
        self.cluster.run(exchange.tend(routing, found))
    }

    fn holders(&self) -> Vec<usize> {
        let holds = |owner: &usize| !self.cluster.record(&self.owner(*owner)).is_empty();
        (0..3).filter(holds).collect()
    }
}

const NOTHING: Option<Digest> = Some(Digest { sum: 0, records: 0 });
const SOMETHING: Option<Digest> = Some(Digest { sum: 7, records: 1 });

#[test]
fn owners_that_exchanged_to_the_end_have_what_any_of_them_had() {
    let scene = Scene::new();
    let tended = scene.tended([SOMETHING, NOTHING, NOTHING]);
    assert!(tended.whole && tended.lacking.is_empty());
    assert_eq!(tended.moved.0, 2, "each of the others got it");
    assert_eq!(scene.holders(), [0, 1, 2]);
}

#[test]
fn what_the_last_of_them_has_gets_to_the_others_by_way_of_the_first() {
    let scene = Scene::with(2);
    let tended = scene.tended([NOTHING, NOTHING, SOMETHING]);
    assert_eq!(scene.holders(), [0, 1, 2]);
    assert!(tended.whole && tended.moved.0 == 2);
}

#[test]
fn owners_that_were_listed_alike_have_what_any_of_them_had() {
    let tended = Scene::new().tended([SOMETHING; 3]);
    assert!(tended.whole && tended.moved == (0, 0));
}

#[test]
fn an_owner_that_was_not_listed_may_have_more_whether_the_others_differ_or_not() {
    let scene = Scene::new();
    let tended = scene.tended([SOMETHING, None, NOTHING]);
    assert_eq!(scene.holders(), [0, 2]);
    assert!(!tended.whole, "the others differed");
    assert!(
        !scene.tended([SOMETHING, None, SOMETHING]).whole,
        "the others were equal"
    );
}

#[test]
fn an_exchange_that_does_not_come_to_its_end_proves_nothing() {
    for away in [1, 2] {
        let scene = Scene::new();
        scene.is(away, Mood::Down);
        assert!(!scene.tended([SOMETHING, NOTHING, NOTHING]).whole);
        assert_eq!(scene.holders(), [0, 3 - away], "the others did exchange");
        scene.is(away, Mood::Fine);
        assert!(scene.tended([SOMETHING, SOMETHING, NOTHING]).whole);
        assert_eq!(scene.holders(), [0, 1, 2]);
    }
}

/// Those that are refilled take from each other what it would have refused, and give it back again.
#[test]
fn an_owner_that_knows_what_was_purged_exchanges_with_those_that_are_refilled() {
    let scene = Scene::new();
    let (cluster, coordinator) = (&scene.cluster, &scene.coordinator);
    let planted = cluster.record(&scene.owner(0)).encode();
    for lost in [0, 1] {
        let disk = MemoryStorage::new(Durability::Always);
        let (owner, nodes) = (scene.owner(lost), cluster.nodes());
        cluster.run(nodes.restart_on(&owner, disk));
    }
    cluster.purge_planted(coordinator, &scene.owner(2), "k", Stamp::new(5, 0));
    let join = Operation::Join {
        key: cluster.record_key(coordinator, "lww", "k"),
        record: planted,
        judged: None,
        source: JoinSource::Exchange,
    };
    assert!(cluster.ask(&scene.owner(0), join).is_ok());
    cluster.pass(std::time::Duration::from_secs(3)); // until they are asked how they are
    let tended = scene.tended([SOMETHING, NOTHING, NOTHING]);
    assert_eq!(scene.holders(), [0; 0]);
    assert!(tended.whole);
}

/// What node 0 does, where each node said that it holds so much.
fn way(said: &[u64], is_guarded: bool, leaving: &[u16]) -> (Vec<u16>, Vec<u16>) {
    let digest = |said: &u64| {
        let sum = u128::from(*said);
        Some(Digest {
            sum,
            records: *said,
        })
    };
    let owners: Vec<u16> = (0..said.len() as u16).collect();
    let found = Found {
        tree: RecordKey::new(PartitionId(1), &TenantId::new("t").expect("a name"), "k").tree(),
        policy: ConflictPolicy::Siblings,
        factor: 3,
        digests: said.iter().map(digest).collect(),
        is_moving: true,
        leaving: leaving.to_vec(),
        is_guarded,
        owners,
    };
    let Way { gathers, gives } = Way::of(&found, 0, &found.owners[1..]);
    (gathers, gives)
}

#[test]
fn who_has_nothing_is_only_given_to_where_all_who_have_something_have_the_same() {
    assert_eq!(way(&[7, 7, 7, 0, 0], true, &[]), (vec![], vec![3, 4]));
}

#[test]
fn everybody_is_given_what_was_gathered_but_the_last_one_that_it_is_from() {
    assert_eq!(way(&[7, 7, 5, 0], true, &[]), (vec![2], vec![1, 3]));
    assert_eq!(way(&[7, 6, 5, 7], true, &[]), (vec![1, 2], vec![1, 3]));
    assert_eq!(way(&[0, 7, 7], true, &[]), (vec![1, 2], vec![1]));
}

#[test]
fn who_leaves_is_given_nothing() {
    assert_eq!(way(&[7, 7, 5, 4], true, &[2, 3]), (vec![2, 3], vec![1]));
    assert_eq!(way(&[7, 7, 7], true, &[2]), (vec![], vec![]));
}

#[test]
fn what_owners_said_is_not_built_on_where_nobody_looks_whether_they_lost_it() {
    assert_eq!(way(&[7, 7, 0], false, &[]), (vec![1, 2], vec![1]));
}
