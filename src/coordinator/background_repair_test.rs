//! How owners become equal when no client asks for it, told as sentences: over real storage nodes, with time by hand.

use std::time::Duration;

use super::owners::Calls;
use super::repair::Stragglers;
use super::tenants::Factor;
use super::test_cluster::{Away, Mood, TestCluster, TestWorld, read, write};
use super::{Coordinator, CoordinatorError, CoordinatorSettings, WriteRequest};
use crate::adapters::memory::MemoryStorage;
use crate::placement::{Epoch, Node, NodeId, NodeStatus};
use crate::ports::{
    Durability, JoinSource, Maintained, Maintenance, Operation, Put, RecordKey, Refusal, Reply,
    Space, StorageEngine,
};
use crate::quorum::Consistency;
use crate::replica::ReplicaSettings;
use crate::version::{Content, Record, Stamp};

const FACTOR: Factor = Factor {
    replicas: 3,
    known_at: Epoch(1),
    met_at: Epoch(1),
};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(60);

/// One key with its three owners, and a coordinator.
struct Scene {
    cluster: TestCluster,
    coordinator: Coordinator<TestWorld>,
    owners: Vec<NodeId>,
}

/// Owners are compared every few seconds.
fn comparing() -> CoordinatorSettings {
    CoordinatorSettings {
        anti_entropy_period: 5 * SECOND,
        anti_entropy_pause: SECOND,
        anti_entropy_lease: 10 * SECOND,
        ..CoordinatorSettings::default()
    }
}

/// Owners are never compared.
fn without_comparing() -> CoordinatorSettings {
    CoordinatorSettings {
        anti_entropy_pause: 100_000 * SECOND,
        ..CoordinatorSettings::default()
    }
}

impl Scene {
    fn new(settings: CoordinatorSettings) -> Self {
        let cluster = TestCluster::with(ReplicaSettings {
            tombstone_grace: GRACE,
            ..ReplicaSettings::default()
        });
        let coordinator = cluster.coordinator_with(settings);
        let owners = cluster.owners(&coordinator, "lww", "k");
        Self {
            cluster,
            coordinator,
            owners,
        }
    }

    fn is(&self, owner: usize, mood: Mood) {
        self.cluster.set_mood(&self.owners[owner], mood);
    }

    fn pass(&self, duration: Duration) {
        self.cluster.pass(duration);
    }

    fn write(&self, value: &str) {
        let request = write("lww", "k", value);
        self.cluster.write(&self.coordinator, request).unwrap();
    }

    fn write_at_all(&self, content: Content) {
        let request = WriteRequest {
            content,
            consistency: Some(Consistency::All),
            ..write("lww", "k", "")
        };
        self.cluster.write(&self.coordinator, request).unwrap();
    }

    fn plant(&self, owner: usize, stamp: u64, value: &str) {
        let (coordinator, owner) = (&self.coordinator, &self.owners[owner]);
        let stamp = Stamp::new(stamp, 0);
        self.cluster.plant(coordinator, owner, "k", stamp, value);
    }

    fn record(&self, owner: usize) -> Record {
        self.cluster.record(&self.owners[owner])
    }

    fn all_have_the_same(&self) -> bool {
        (1..3).all(|owner| self.record(owner) == self.record(0))
    }

    fn shows(&self, value: &str) {
        let shown = self.cluster.read(&self.coordinator, read("lww", "k"));
        assert_eq!(shown, Ok([value.to_owned()].into()));
    }

    fn shows_nothing(&self) {
        let shown = self.cluster.read(&self.coordinator, read("lww", "k"));
        assert!(
            matches!(shown, Err(CoordinatorError::KeyNotFound { .. })),
            "{shown:?}"
        );
    }

    /// How much all nodes together owe others.
    fn owed(&self) -> u64 {
        let nodes = self.cluster.nodes().ids();
        let owed = nodes.iter().map(|node| -> u64 {
            match self.cluster.ask(node, Operation::Probe) {
                Ok(Reply::Report(report)) => report.hints.iter().map(|h| h.outstanding).sum(),
                other => panic!("a probe is answered: {other:?}"),
            }
        });
        owed.sum()
    }

    /// An owner notes that a node missed the key that is in no topology here.
    fn owes_a_stranger(&self, owner: usize) {
        let stranger = Node {
            id: NodeId::new("stranger").unwrap(),
            host: "nowhere".into(),
            port: 99,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        };
        let hint = Maintenance::Hint {
            key: self.key(),
            targets: vec![stranger],
        };
        let noted = self.cluster.ask_maintenance(&self.owners[owner], hint);
        assert_eq!(noted, Ok(Maintained::Done));
    }

    fn key(&self) -> RecordKey {
        self.cluster.record_key(&self.coordinator, "lww", "k")
    }

    /// A copy of a record comes to an owner late.
    fn comes_late(&self, owner: usize, record: &Record) -> Result<Reply, Refusal> {
        let join = Operation::Join {
            key: self.key(),
            record: record.encode(),
            judged: None,
            source: JoinSource::Client,
        };
        self.cluster.ask(&self.owners[owner], join)
    }

    fn is_refilling(&self, owner: usize) -> bool {
        let nodes = self.cluster.nodes();
        nodes.replica(&self.owners[owner]).is_refilling()
    }

    /// An owner starts again with an empty disk.
    fn loses_its_disk(&self, owner: usize) {
        let nodes = self.cluster.nodes();
        let empty = MemoryStorage::new(Durability::Always);
        self.cluster
            .run(nodes.restart_on(&self.owners[owner], empty));
        assert!(self.is_refilling(owner));
    }
}

#[test]
fn an_owner_that_missed_writes_is_owed_the_key_once_and_gets_it_when_it_is_back() {
    for mood in [Mood::Down, Mood::Silent] {
        let scene = Scene::new(without_comparing());
        scene.is(2, mood);
        for value in ["a", "b", "c"] {
            scene.write(value);
            scene.pass(6 * SECOND);
        }
        assert_eq!(scene.owed(), 1, "{mood:?}");
        scene.is(2, Mood::Fine);
        scene.pass(10 * SECOND);
        assert_eq!(scene.owed(), 0, "{mood:?}");
        assert!(scene.all_have_the_same() && !scene.record(2).is_empty());
    }
}

#[test]
fn what_an_owner_missed_reaches_it_though_everybody_else_loses_power() {
    let scene = Scene::new(without_comparing());
    scene.is(2, Mood::Down);
    scene.write("v");
    scene.pass(SECOND);
    scene.coordinator.stop();
    scene.cluster.lose_tasks();
    let nodes = scene.cluster.nodes();
    for owner in &scene.owners[..2] {
        scene.cluster.run(nodes.lose_power(owner));
    }
    let _another = scene.cluster.coordinator_with(without_comparing());
    assert_eq!(scene.owed(), 1);
    scene.is(2, Mood::Fine);
    scene.pass(65 * SECOND); // its clock says nothing of how long it was away, so nobody has to tell that it is back
    assert_eq!(scene.owed(), 0);
    assert!(scene.all_have_the_same() && !scene.record(2).is_empty());
}

#[test]
fn what_is_owed_to_a_node_that_the_cluster_does_not_have_is_forgotten() {
    let scene = Scene::new(without_comparing());
    scene.write("v");
    scene.pass(SECOND);
    scene.owes_a_stranger(0);
    assert_eq!(scene.owed(), 1);
    scene.pass(5 * SECOND);
    assert_eq!(scene.owed(), 0);
}

#[test]
fn what_is_owed_to_a_node_that_a_newer_topology_may_have_is_kept() {
    let scene = Scene::new(without_comparing());
    scene.write("v");
    scene.cluster.metadata_is(Away::Fails);
    scene.cluster.node_adopts(&scene.owners[1], Epoch(9));
    scene.pass(3 * SECOND); // until it is asked how it is
    scene.owes_a_stranger(0);
    scene.pass(5 * SECOND);
    assert_eq!(scene.owed(), 1);
}

#[test]
fn a_key_in_the_queue_is_left_alone_while_an_owner_is_away_and_then_made_equal() {
    let scene = Scene::new(without_comparing());
    scene.plant(0, 5, "older");
    scene.plant(1, 6, "newer");
    scene.is(2, Mood::Silent);
    scene.pass(5 * SECOND);
    scene
        .coordinator
        .status()
        .replication
        .repairs
        .push(&scene.key(), FACTOR);
    scene.pass(5 * SECOND);
    assert_ne!(scene.record(0), scene.record(1), "one of them is away");
    scene.is(2, Mood::Fine);
    scene.pass(20 * SECOND);
    assert!(scene.all_have_the_same() && !scene.record(2).is_empty());
    let repairs = &scene.coordinator;
    assert_eq!(
        (
            repairs.status().repairs_done(),
            repairs.status().repairs_dropped()
        ),
        (1, 0)
    );
    scene.shows("newer");
}

#[test]
fn a_key_in_the_queue_is_given_up_when_an_owner_stays_away_and_found_when_it_is_back() {
    let scene = Scene::new(without_comparing());
    scene.plant(0, 5, "v");
    scene.is(2, Mood::Silent);
    scene.pass(5 * SECOND);
    scene
        .coordinator
        .status()
        .replication
        .repairs
        .push(&scene.key(), FACTOR);
    scene.pass(60 * SECOND);
    let repairs = &scene.coordinator;
    assert_eq!(
        (
            repairs.status().repairs_done(),
            repairs.status().repairs_dropped()
        ),
        (0, 1)
    );
    scene.is(2, Mood::Fine);
    let _comparing = scene.cluster.coordinator_with(comparing());
    scene.pass(10 * SECOND);
    assert!(scene.all_have_the_same() && !scene.record(2).is_empty());
}

/// Has the end of a write seen to that this owner missed, where these have it.
fn missed_by(scene: &Scene, missed: usize, holders: Vec<usize>) {
    let parts = scene.coordinator.status();
    let routing = parts.topologies.routing();
    let owners = parts.topologies.owners_by(routing, &scene.key(), 3);
    parts.replication.repairs.finish(Stragglers {
        owners,
        key: scene.key(),
        factor: FACTOR,
        calls: Calls::new(),
        holders,
        missed: vec![missed],
    });
}

#[test]
fn a_write_that_an_owner_missed_is_noted_or_else_the_key_is_repaired() {
    for (holders, repairs) in [(vec![0], 0), (Vec::new(), 1)] {
        let scene = Scene::new(without_comparing());
        scene.plant(0, 5, "v");
        scene.plant(1, 5, "v");
        missed_by(&scene, 2, holders);
        scene.pass(10 * SECOND);
        assert!(scene.all_have_the_same(), "{repairs}");
        assert_eq!(scene.coordinator.status().repairs_done(), repairs);
    }
}

#[test]
fn a_key_is_not_repaired_before_all_owners_were_read_and_have_joined_it() {
    for mood in [Mood::Silent, Mood::SilentToJoins] {
        let scene = Scene::new(without_comparing());
        scene.plant(0, 5, "v");
        scene.is(2, mood);
        let parts = scene.coordinator.status();
        parts.replication.repairs.push(&scene.key(), FACTOR);
        scene.pass(10 * SECOND);
        assert_eq!(parts.repairs_done(), 0, "{mood:?}");
        scene.is(2, Mood::Fine);
        scene.pass(60 * SECOND);
        assert_eq!(parts.repairs_done(), 1, "{mood:?}");
        assert!(scene.all_have_the_same() && !scene.record(2).is_empty());
    }
}

#[test]
fn owners_that_differ_become_equal_without_any_client() {
    let scene = Scene::new(comparing());
    scene.plant(0, 5, "older");
    scene.plant(1, 6, "newer");
    scene.pass(10 * SECOND);
    assert!(scene.all_have_the_same() && !scene.record(2).is_empty());
    let convergence = scene.coordinator.status().convergence_report().trees;
    assert!(convergence.leads && convergence.rounds > 0);
    assert!(convergence.exchanged > 0 && convergence.bytes > 0);
    assert_eq!(
        (
            convergence.equal,
            convergence.divergent,
            convergence.unknown
        ),
        (1, 0, 0)
    );
    scene.shows("newer");
    for node in scene.cluster.nodes().ids() {
        let holds = scene.cluster.nodes().records(&node).len();
        assert_eq!(holds, usize::from(scene.owners.contains(&node)), "{node}");
    }
}

#[test]
fn a_tree_of_which_an_owner_is_silent_is_unknown_until_it_answers() {
    let scene = Scene::new(comparing());
    scene.is(2, Mood::Silent);
    scene.plant(0, 5, "v");
    scene.pass(90 * SECOND);
    assert_eq!(
        scene
            .coordinator
            .status()
            .convergence_report()
            .trees
            .unknown,
        1
    );
    assert_eq!(scene.record(1), scene.record(0), "the others are equal");
    scene.is(2, Mood::Fine);
    scene.pass(40 * SECOND);
    assert_eq!(
        scene
            .coordinator
            .status()
            .convergence_report()
            .trees
            .unknown,
        0
    );
    assert!(scene.all_have_the_same());
}

#[test]
fn one_coordinator_compares_and_another_takes_over_when_it_is_gone() {
    for in_order in [true, false] {
        let scene = Scene::new(without_comparing());
        let (first, its_tasks) = scene.cluster.coordinator_apart(comparing());
        scene.pass(5 * SECOND);
        let second = scene.cluster.coordinator_with(comparing());
        scene.pass(5 * SECOND);
        assert!(
            first.status().convergence_report().trees.leads
                && !second.status().convergence_report().trees.leads
        );
        if in_order {
            first.stop();
            scene.pass(5 * SECOND);
        } else {
            its_tasks.lose();
            scene.pass(5 * SECOND);
            assert!(
                !second.status().convergence_report().trees.leads,
                "the lease goes on"
            );
            scene.pass(10 * SECOND);
        }
        assert!(second.status().convergence_report().trees.leads);
        scene.plant(0, 5, "v");
        scene.pass(10 * SECOND);
        assert!(scene.all_have_the_same());
    }
}

#[test]
fn a_tombstone_goes_when_all_owners_hold_it_and_its_grace_is_over_and_nothing_comes_back() {
    let scene = Scene::new(comparing());
    scene.write("v");
    scene.pass(SECOND);
    let late = scene.record(0);
    scene.write_at_all(Content::Tombstone);
    scene.pass(GRACE - 2 * SECOND);
    assert!(scene.all_have_the_same() && !scene.record(0).is_empty());
    scene.pass(12 * SECOND);
    let key = scene.key();
    for owner in &scene.owners {
        let records = scene.cluster.nodes().records(owner);
        assert!(!records.contains_key(&key), "{owner}");
    }
    assert_eq!(
        scene.coordinator.status().convergence_report().trees.purged,
        1
    );
    for owner in 0..3 {
        assert_eq!(scene.comes_late(owner, &late), Err(Refusal::Purged));
    }
    scene.shows_nothing();
}

#[test]
fn a_tombstone_stays_while_an_owner_is_silent_or_somebody_is_owed_it() {
    let scene = Scene::new(comparing());
    scene.write_at_all(Content::Tombstone);
    scene.is(2, Mood::Silent);
    scene.pass(3 * GRACE);
    assert!(!scene.record(0).is_empty(), "an owner is silent");

    let nodes = scene.cluster.nodes().ids();
    let another = nodes.iter().find(|node| !scene.owners.contains(node));
    let another = another.unwrap();
    scene.cluster.set_mood(another, Mood::Down);
    let target = scene.coordinator.admin().nodes().into_iter();
    let target = target
        .map(|node| node.node)
        .find(|node| node.id == *another);
    let hint = Maintenance::Hint {
        key: scene.key(),
        targets: vec![target.unwrap()],
    };
    let noted = scene.cluster.ask_maintenance(&scene.owners[0], hint);
    assert_eq!(noted, Ok(Maintained::Done));
    scene.is(2, Mood::Fine);
    scene.pass(3 * GRACE);
    assert!(!scene.record(0).is_empty(), "somebody is owed it");

    scene.cluster.set_mood(another, Mood::Fine);
    scene.pass(GRACE);
    assert!((0..3).all(|owner| scene.record(owner).is_empty()));
}

#[test]
fn a_node_that_lost_its_disk_counts_for_nothing_until_it_has_everything_back() {
    let scene = Scene::new(comparing());
    for n in 0..30 {
        let request = WriteRequest {
            consistency: Some(Consistency::All),
            ..write("lww", &format!("k{n}"), "v")
        };
        scene.cluster.write(&scene.coordinator, request).unwrap();
    }
    let lost = scene.owners[2].clone();
    let before = scene.cluster.nodes().records(&lost);
    assert!(!before.is_empty());
    let other = &scene.owners[0];
    scene.cluster.set_mood(other, Mood::Silent);
    scene.loses_its_disk(2);
    scene.pass(90 * SECOND);
    assert!(scene.is_refilling(2), "who is silent may have more");
    let at_all = super::ReadRequest {
        consistency: Some(Consistency::All),
        ..read("lww", "k0")
    };
    scene.cluster.set_mood(other, Mood::Fine);
    let epoch = scene.coordinator.readiness().epoch;
    scene.pass(90 * SECOND);
    assert!(!scene.is_refilling(2));
    assert_eq!(scene.cluster.nodes().records(&lost), before);
    assert!(epoch > Epoch(1), "what was under way was ended before");
    assert!(scene.cluster.read(&scene.coordinator, at_all).is_ok());
}

#[test]
fn a_damaged_record_is_replaced_by_what_the_others_hold() {
    let scene = Scene::new(comparing());
    scene.write_at_all(Content::Value("v".into()));
    let sound = scene.record(0);
    let mut bytes = sound.encode().to_vec();
    bytes[9] ^= 1;
    let put = Put {
        space: Space::Records,
        key: scene.key().as_bytes().clone(),
        value: Some(bytes.into()),
    };
    let storage = scene.cluster.nodes().storage(&scene.owners[1]);
    scene.cluster.run(storage.commit(vec![put])).unwrap();
    let read = Operation::Read { key: scene.key() };
    let met = scene.cluster.ask(&scene.owners[1], read);
    assert_eq!(met, Err(Refusal::Damaged));
    scene.shows("v");
    scene.pass(30 * SECOND);
    assert_eq!(scene.record(1), sound);
    let left = scene
        .cluster
        .ask_maintenance(&scene.owners[1], Maintenance::Damaged);
    assert!(matches!(left, Ok(Maintained::Keys { keys, .. }) if keys.is_empty()));
}
