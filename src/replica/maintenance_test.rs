//! Background repair between storage nodes, told as sentences: hints are delivered, what differs is exchanged,
//! what all have deleted goes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::adapters::memory::{ManualClock, MemoryStorage};
use crate::placement::{MAX_PARTITIONS, Node, NodeStatus, PartitionId};
use crate::ports::{
    Digest, Dropped, Durability, JoinSource, KeyHash, Maintained, Maintenance, Purged, Put,
    RecordKey, Synced, TenantId, TreeName,
};
use crate::sizes::{self, Size};
use crate::test_cluster::{ManualTasks, Mood, TestNodes};
use crate::version::{Content, Dot, Record, Stamp, Version, WriteId};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(30);

/// Three nodes that know each other, and time that goes when it is told to.
struct Scene {
    clock: ManualClock,
    tasks: ManualTasks,
    nodes: TestNodes<ManualClock, ManualTasks>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tasks.lose_all();
        self.nodes.end();
    }
}

fn node(n: u16) -> Node {
    Node {
        id: NodeId::new(format!("node-{n}")).unwrap(),
        host: "localhost".into(),
        port: n,
        virtual_nodes: 150,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

fn key(name: &str) -> RecordKey {
    RecordKey::new(PartitionId(7), &TenantId::new("tenant").unwrap(), name)
}

fn tree() -> TreeName {
    key("any").tree()
}

fn record(counter: u64, content: Content) -> Record {
    let dot = Dot {
        actor: Actor(99),
        counter,
    };
    let version = Version {
        dot,
        write_id: WriteId(counter.into()),
        stamp: Stamp(counter),
        content,
    };
    let seen = [(dot.actor, counter)].into_iter().collect();
    Record::new(seen, vec![version]).unwrap()
}

/// The `counter`th write of somebody, which has overwritten those before it.
fn value(counter: u64) -> Record {
    record(counter, Content::Value(Bytes::from_static(b"value")))
}

fn tombstone(counter: u64) -> Record {
    record(counter, Content::Tombstone)
}

fn held(name: &str, record: &Record) -> KeyHash {
    let key = key(name);
    let hash = Digest::hash(&key, &record.encode());
    KeyHash { key, hash }
}

impl Scene {
    fn new() -> Self {
        let (clock, tasks) = (
            ManualClock::at_wall_ms(1_000_000_000),
            ManualTasks::default(),
        );
        let settings = ReplicaSettings {
            tombstone_grace: GRACE,
            ..ReplicaSettings::default()
        };
        let nodes = TestNodes::new(clock.clone(), tasks.clone(), settings);
        let scene = Self {
            clock,
            tasks,
            nodes,
        };
        for n in 1..=3 {
            scene.run(scene.nodes.start(node(n)));
        }
        scene.run(scene.nodes.found(Epoch(1)));
        scene
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.tasks.run(&self.clock, future)
    }

    fn pass(&self, duration: Duration) {
        self.run(self.clock.sleep(duration));
    }

    fn ask(&self, n: u16, operation: Operation) -> Result<Reply, Refusal> {
        self.run(self.nodes.ask(&node(n).id, Epoch(1), operation))
    }

    fn maintenance(&self, n: u16, maintenance: Maintenance) -> Result<Maintained, Refusal> {
        self.maintenance_by(n, Epoch(1), maintenance)
    }

    fn maintenance_by(
        &self,
        n: u16,
        epoch: Epoch,
        maintenance: Maintenance,
    ) -> Result<Maintained, Refusal> {
        let operation = Operation::Maintenance(Box::new(maintenance));
        match self.run(self.nodes.ask(&node(n).id, epoch, operation))? {
            Reply::Maintained(maintained) => Ok(maintained),
            other => panic!("not an answer to maintenance: {other:?}"),
        }
    }

    /// The node is told that it leaves the partition of `tree()`, by this epoch.
    fn leaves_partition(&self, n: u16, epoch: Epoch) {
        let fence = Maintenance::Fence {
            partitions: Some(vec![tree().partition()]),
            leaving: true,
            horizon: Stamp::ZERO,
        };
        let fenced = self.maintenance_by(n, epoch, fence);
        assert!(
            matches!(fenced, Ok(Maintained::Fenced { .. })),
            "{fenced:?}"
        );
    }

    fn does(&self, n: u16, maintenance: Maintenance) {
        assert_eq!(self.maintenance(n, maintenance), Ok(Maintained::Done));
    }

    fn join(&self, n: u16, name: &str, record: &Record) -> Result<Reply, Refusal> {
        let join = Operation::Join {
            key: key(name),
            record: record.encode(),
            judged: None,
            source: JoinSource::Client,
        };
        self.ask(n, join)
    }

    fn has(&self, n: u16, name: &str, record: &Record) {
        let joined = self.join(n, name, record);
        assert!(matches!(joined, Ok(Reply::Joined { .. })), "{joined:?}");
    }

    fn comes_by_exchange(&self, n: u16, name: &str, record: &Record) {
        let join = Operation::Join {
            key: key(name),
            record: record.encode(),
            judged: None,
            source: JoinSource::Exchange,
        };
        let joined = self.ask(n, join);
        assert!(joined.is_ok(), "{joined:?}");
    }

    fn records(&self, n: u16) -> BTreeMap<RecordKey, Record> {
        self.nodes.records(&node(n).id)
    }

    fn record(&self, n: u16, name: &str) -> Option<Record> {
        self.records(n).remove(&key(name))
    }

    fn leaves_hint(&self, n: u16, name: &str, target: u16) {
        let hint = Maintenance::Hint {
            key: key(name),
            targets: vec![node(target)],
        };
        self.does(n, hint);
    }

    /// How many hints node `n` holds for `target`: by its count, and as many are stored.
    fn hints(&self, n: u16, target: u16) -> u64 {
        let Ok(Reply::Report(report)) = self.ask(n, Operation::Probe) else {
            panic!("a probe is answered")
        };
        let target = node(target).id;
        let count = report.hints.iter().find(|hints| hints.target == target);
        let count = count.map_or(0, |hints| hints.outstanding);
        let stored = self.nodes.all(&node(n).id, Space::Hints).into_iter();
        let stored = stored.filter_map(|(name, _)| hints::parse(&name));
        let stored = stored.filter(|(of, key)| *of == target && key.is_some());
        assert_eq!(stored.count() as u64, count, "what is stored of it");
        count
    }

    fn sync(&self, n: u16, peer: u16) -> Result<Synced, Refusal> {
        let (tree, peer) = (tree(), node(peer));
        match self.maintenance(n, Maintenance::Sync { tree, peer })? {
            Maintained::Synced(synced) => Ok(synced),
            other => panic!("not an answer to an exchange: {other:?}"),
        }
    }

    fn floor(&self, n: u16) -> Purged {
        match self.maintenance(n, Maintenance::Purged { tree: tree() }) {
            Ok(Maintained::Purged(purged)) => purged,
            other => panic!("nothing of purges: {other:?}"),
        }
    }

    /// Those of `keys` that could be purged, as far as node `n` goes.
    fn purgeable(&self, n: u16, keys: Vec<KeyHash>) -> Vec<KeyHash> {
        match self.maintenance(n, Maintenance::AreTombstones { keys }) {
            Ok(Maintained::Keys { keys, more: None }) => keys,
            other => panic!("no keys: {other:?}"),
        }
    }

    fn storage(&self, n: u16) -> MemoryStorage {
        self.nodes.storage(&node(n).id)
    }

    fn storage_keys(&self, n: u16, space: Space) -> usize {
        self.nodes.all(&node(n).id, space).len()
    }

    /// Flips a bit of a stored record.
    fn damage(&self, n: u16, name: &str) {
        let mut bytes = self.record(n, name).unwrap().encode().to_vec();
        bytes[9] ^= 1;
        let put = Put {
            space: Space::Records,
            key: key(name).as_bytes().clone(),
            value: Some(bytes.into()),
        };
        self.run(self.storage(n).commit(vec![put])).unwrap();
    }
}

#[test]
fn hints_are_kept_while_the_target_is_away_and_delivered_when_it_is_back() {
    for mood in [Mood::Down, Mood::Silent] {
        let scene = Scene::new();
        scene.nodes.set_mood(&node(2).id, mood);
        for counter in 1..=3 {
            scene.has(1, "often", &value(counter));
            scene.leaves_hint(1, "often", 2);
        }
        scene.has(1, "once", &value(4));
        scene.leaves_hint(1, "once", 2);
        assert_eq!(scene.hints(1, 2), 2, "one hint for each key");
        scene.pass(60 * SECOND);
        assert_eq!((scene.hints(1, 2), scene.records(2).len()), (2, 0));
        scene.nodes.set_mood(&node(2).id, Mood::Fine);
        scene.does(1, Maintenance::DeliverHints { target: node(2) });
        scene.pass(6 * SECOND);
        assert_eq!(scene.hints(1, 2), 0, "{mood:?}");
        assert_eq!(scene.records(2), scene.records(1));
    }
}

#[test]
fn a_target_that_nobody_says_is_back_is_tried_again_all_the_same() {
    let scene = Scene::new();
    scene.nodes.set_mood(&node(2).id, Mood::Down);
    scene.has(1, "k", &value(1));
    scene.leaves_hint(1, "k", 2);
    scene.pass(300 * SECOND);
    scene.nodes.set_mood(&node(2).id, Mood::Fine);
    scene.pass(ReplicaSettings::default().hint_pause_max + SECOND);
    assert_eq!(scene.hints(1, 2), 0);
    assert_eq!(scene.record(2, "k"), Some(value(1)));
}

#[test]
fn hints_for_who_has_handed_over_the_partition_are_outdated() {
    let scene = Scene::new();
    scene.nodes.set_mood(&node(2).id, Mood::Down);
    scene.has(1, "k", &value(1));
    scene.leaves_hint(1, "k", 2);
    scene.leaves_partition(2, Epoch(1));
    scene.nodes.set_mood(&node(2).id, Mood::Fine);
    scene.does(1, Maintenance::DeliverHints { target: node(2) });
    scene.pass(SECOND);
    assert_eq!((scene.hints(1, 2), scene.records(2).len()), (0, 0));
}

#[test]
fn hints_reach_who_refuses_older_epochs_than_their_holder_has_heard_of() {
    let scene = Scene::new();
    scene.nodes.set_mood(&node(2).id, Mood::Down);
    scene.has(1, "k", &value(1));
    scene.leaves_hint(1, "k", 2);
    scene.nodes.set_mood(&node(2).id, Mood::Fine);
    let fence = Maintenance::Fence {
        partitions: None,
        leaving: false,
        horizon: Stamp::ZERO,
    };
    let fenced = scene.maintenance_by(2, Epoch(5), fence);
    assert!(
        matches!(fenced, Ok(Maintained::Fenced { .. })),
        "{fenced:?}"
    );
    scene.pass(2 * ReplicaSettings::default().hint_pause_max);
    assert_eq!(scene.hints(1, 2), 0);
    assert_eq!(scene.record(2, "k"), Some(value(1)));
}

#[test]
fn an_exchange_on_the_way_out_makes_nobody_an_owner_again() {
    let leaving = Epoch(5);
    for (pivot, peer) in [(1, 2), (2, 1)] {
        let scene = Scene::new();
        scene.has(1, "mine", &value(1));
        scene.has(2, "theirs", &value(2));
        scene.leaves_partition(1, leaving);
        for n in [1, 2] {
            scene.nodes.replica(&node(n).id).learn_epoch(Epoch(9));
        }
        let (tree, peer) = (tree(), node(peer));
        let sync = Maintenance::Sync { tree, peer };
        let synced = scene.maintenance_by(pivot, leaving, sync);
        assert!(matches!(
            synced,
            Ok(Maintained::Synced(Synced { complete: true, .. }))
        ));
        assert_eq!(scene.records(2).len(), 2);
        let drop = Maintenance::DropTree { tree: self::tree() };
        // Who leaves takes what it asks for itself, and nothing that others send: that could be delivered late.
        let records = if pivot == 1 { 2 } else { 1 };
        let dropped = Dropped {
            records,
            complete: true,
        };
        let answer = scene.maintenance_by(1, leaving, drop);
        assert_eq!(answer, Ok(Maintained::Dropped(dropped)), "{pivot}");
        assert_eq!(scene.records(1).len(), 0);
    }
}

#[test]
fn a_fence_at_either_side_ends_an_exchange_of_an_older_epoch() {
    for fenced in [1, 2] {
        let scene = Scene::new();
        scene.has(1, "k", &value(1));
        scene.leaves_partition(fenced, Epoch(5));
        let current = Epoch(5);
        assert_eq!(scene.sync(1, 2), Err(Refusal::StaleEpoch { current }));
        assert_eq!(scene.records(2).len(), 0);
    }
}

#[test]
fn hints_outlive_a_loss_of_power() {
    let scene = Scene::new();
    scene.nodes.set_mood(&node(2).id, Mood::Down);
    scene.has(1, "k", &value(1));
    scene.leaves_hint(1, "k", 2);
    scene.run(scene.nodes.lose_power(&node(1).id));
    assert_eq!(scene.hints(1, 2), 1);
    scene.nodes.set_mood(&node(2).id, Mood::Fine);
    scene.does(1, Maintenance::DeliverHints { target: node(2) });
    scene.pass(SECOND);
    assert_eq!(scene.hints(1, 2), 0);
    assert_eq!(scene.record(2, "k"), Some(value(1)));
}

#[test]
fn more_hints_than_one_page_are_counted_when_a_node_opens() {
    let scene = Scene::new();
    scene.nodes.set_mood(&node(2).id, Mood::Down);
    let count = sizes::of(Size::HintsPage) as u64;
    for counter in 1..=count {
        let name = format!("k{counter}");
        scene.has(1, &name, &value(counter));
        scene.leaves_hint(1, &name, 2);
    }
    scene.run(scene.nodes.lose_power(&node(1).id));
    assert_eq!(scene.hints(1, 2), count);
}

#[test]
fn a_hint_stays_when_the_record_has_changed_since_it_was_sent() {
    let scene = Scene::new();
    let half = SECOND / 2;
    scene.nodes.set_mood(&node(2).id, Mood::Slow(half));
    scene.has(1, "k", &value(1));
    scene.leaves_hint(1, "k", 2);
    // The first try comes after a second; then probe and delivery take half a second each.
    scene.pass(SECOND + half + half / 2);
    scene.has(1, "k", &value(2));
    scene.pass(half);
    assert_eq!(scene.record(2, "k"), Some(value(1)), "it was delivered");
    assert_eq!(scene.hints(1, 2), 1, "and is out of date");
    scene.pass(5 * SECOND);
    assert_eq!(scene.record(2, "k"), Some(value(2)));
    assert_eq!(scene.hints(1, 2), 0);
}

#[test]
fn what_the_target_has_purged_it_does_not_lack() {
    let scene = Scene::new();
    let keep = Maintenance::KeepPurged {
        tree: tree(),
        purged: Purged {
            seen: [(Actor(99), 5)].into_iter().collect(),
            stamp: Stamp(5),
        },
    };
    scene.does(2, keep);
    scene.has(1, "k", &value(1));
    scene.leaves_hint(1, "k", 2);
    scene.pass(3 * SECOND);
    assert_eq!((scene.hints(1, 2), scene.record(2, "k")), (0, None));
}

#[test]
fn hints_for_a_node_that_is_none_any_more_are_dropped() {
    let scene = Scene::new();
    for n in [2, 3] {
        scene.nodes.set_mood(&node(n).id, Mood::Down);
    }
    // More than one page of them.
    let count = sizes::of(Size::ForgetPage) as u64 + 1;
    for counter in 1..=count {
        let name = format!("k{counter}");
        scene.has(1, &name, &value(counter));
        scene.leaves_hint(1, &name, 2);
        scene.leaves_hint(1, &name, 3);
    }
    let target = node(2).id;
    scene.does(
        1,
        Maintenance::ForgetHints {
            target,
            partitions: Vec::new(),
        },
    );
    assert_eq!((scene.hints(1, 2), scene.hints(1, 3)), (0, count));
}

/// A tree goes page by page, and is gone when it says so, whether or not the last page is full.
#[test]
fn a_tree_that_is_dropped_leaves_no_hint_behind() {
    let page = sizes::of(Size::DropPage) as u64;
    for hints in [page - 1, page, page + 1] {
        let scene = Scene::new();
        scene.nodes.set_mood(&node(2).id, Mood::Down);
        for counter in 1..=hints {
            let name = format!("k{counter}");
            scene.has(1, &name, &value(counter));
            scene.leaves_hint(1, &name, 2);
        }
        scene.leaves_partition(1, Epoch(5));
        let drop = || Maintenance::DropTree { tree: tree() };
        let is_gone = || {
            let dropped = scene.maintenance_by(1, Epoch(5), drop());
            matches!(dropped, Ok(Maintained::Dropped(dropped)) if dropped.complete)
        };
        assert!((0..9).any(|_| is_gone()), "{hints}");
        assert_eq!(
            scene.storage_keys(1, Space::Hints),
            1,
            "where the target is"
        );
        assert_eq!(scene.storage_keys(1, Space::Records), 0);
    }
}

#[test]
fn hints_are_of_what_is_held_and_for_so_many_targets() {
    let scene = Scene::new();
    let hint = |targets: u16| Maintenance::Hint {
        key: key("k"),
        targets: (0..targets).map(|n| node(100 + n)).collect(),
    };
    let refused = scene.maintenance(1, hint(1));
    assert!(matches!(&refused, Err(Refusal::Unavailable(why)) if why.contains("nothing is held")));
    scene.has(1, "k", &value(1));
    assert_eq!(scene.maintenance(1, hint(1025)), Err(Refusal::Overloaded));
    scene.does(1, hint(1024));
    scene.does(1, hint(1));
    assert_eq!(scene.hints(1, 100), 1);
}

#[test]
fn an_exchange_makes_both_sides_equal_and_another_one_finds_nothing_to_do() {
    let scene = Scene::new();
    scene.has(1, "here", &value(1));
    scene.has(2, "there", &value(2));
    scene.has(1, "newer here", &value(4));
    scene.has(2, "newer here", &value(3));
    scene.has(1, "newer there", &value(5));
    scene.has(2, "newer there", &value(6));
    for n in [1, 2] {
        scene.has(n, "alike", &value(7));
    }
    let synced = scene.sync(1, 2).unwrap();
    assert!(synced.complete, "{synced:?}");
    let newest = [
        ("alike", 7),
        ("here", 1),
        ("newer here", 4),
        ("newer there", 6),
        ("there", 2),
    ];
    let newest: BTreeMap<_, _> = newest.map(|(name, n)| (key(name), value(n))).into();
    assert_eq!(scene.records(1), newest);
    assert_eq!(scene.records(2), newest);
    let again = scene.sync(2, 1).unwrap();
    assert!(again.complete);
    assert_eq!((again.sent, again.received, again.floors), (0, 0, 0));
}

#[test]
fn an_exchange_goes_through_more_keys_than_one_page_lists() {
    let scene = Scene::new();
    for n in 0..300_u16 {
        scene.has(1 + n % 2, &format!("k{n}"), &value(1 + u64::from(n)));
    }
    let synced = scene.sync(1, 2).unwrap();
    assert!(synced.complete, "{synced:?}");
    assert_eq!((synced.sent, synced.received), (150, 150));
    assert_eq!(scene.records(1).len(), 300);
    assert_eq!(scene.records(1), scene.records(2));
}

#[test]
fn an_exchange_with_a_peer_that_falls_silent_fails_and_can_be_made_again() {
    for mood in [
        Mood::Down,
        Mood::Silent,
        Mood::SilentToJoins,
        Mood::LosesAnswers,
    ] {
        let scene = Scene::new();
        scene.has(1, "here", &value(1));
        scene.has(2, "there", &value(2));
        scene.nodes.set_mood(&node(2).id, mood);
        let failed = scene.sync(1, 2);
        assert!(matches!(failed, Err(Refusal::Unavailable(_))), "{failed:?}");
        assert_eq!(scene.record(1, "here"), Some(value(1)));
        scene.nodes.set_mood(&node(2).id, Mood::Fine);
        assert!(scene.sync(1, 2).unwrap().complete, "{mood:?}");
        assert_eq!(scene.records(1).len(), 2);
        assert_eq!(scene.records(1), scene.records(2), "{mood:?}");
    }
}

#[test]
fn a_damaged_record_is_left_out_of_an_exchange_and_told_of() {
    for damaged in [1, 2] {
        let scene = Scene::new();
        for n in [1, 2] {
            scene.has(n, "hurt", &value(1));
        }
        scene.damage(damaged, "hurt");
        // So that the leaf of the damaged one is looked into whatever its digest says.
        scene.has(3 - damaged, "hurt", &value(3));
        scene.has(1, "well", &value(2));
        let synced = scene.sync(1, 2).unwrap();
        let told = (synced.damaged_here, synced.damaged_there);
        assert_eq!(told, if damaged == 1 { (1, 0) } else { (0, 1) });
        let well = Operation::Read { key: key("well") };
        let record = Some(value(2).encode());
        assert_eq!(scene.ask(2, well), Ok(Reply::Found { record }));
        let hurt = Operation::Read { key: key("hurt") };
        assert_eq!(scene.ask(damaged, hurt), Err(Refusal::Damaged));
    }
}

#[test]
fn what_was_purged_goes_at_the_other_side_and_does_not_come_back() {
    let scene = Scene::new();
    scene.has(1, "gone", &tombstone(2));
    let keys = vec![held("gone", &tombstone(2))];
    scene.does(1, Maintenance::Purge { keys });
    scene.has(2, "gone", &value(1));
    let synced = scene.sync(1, 2).unwrap();
    assert_eq!((synced.dropped, synced.floors), (1, 1), "{synced:?}");
    for n in [1, 2] {
        assert!(scene.records(n).is_empty());
        assert_eq!(scene.join(n, "gone", &value(1)), Err(Refusal::Purged));
    }
    assert_eq!(scene.floor(1), scene.floor(2));
}

#[test]
fn what_was_purged_is_handed_over_only_to_who_has_the_rest() {
    let scene = Scene::new();
    scene.has(1, "gone", &tombstone(9));
    let keys = vec![held("gone", &tombstone(9))];
    scene.does(1, Maintenance::Purge { keys });
    for n in [1, 2] {
        scene.has(n, "hurt", &record_of(Actor(98), 1));
    }
    scene.damage(2, "hurt");
    scene.has(1, "hurt", &record_of(Actor(98), 2));
    let synced = scene.sync(1, 2).unwrap();
    assert_eq!((synced.damaged_there, synced.floors), (1, 0), "{synced:?}");
    assert_eq!(scene.floor(2), Purged::default());
}

#[test]
fn what_was_purged_is_taken_over_only_where_nothing_is_damaged() {
    for damaged in [1, 2] {
        let scene = Scene::new();
        scene.has(2, "gone", &tombstone(9));
        let keys = vec![held("gone", &tombstone(9))];
        scene.does(2, Maintenance::Purge { keys });
        for n in [1, 2] {
            scene.has(n, "hurt", &record_of(Actor(98), 1));
        }
        scene.damage(damaged, "hurt");
        scene.has(3 - damaged, "hurt", &record_of(Actor(98), 2));
        let synced = scene.sync(1, 2).unwrap();
        let told = synced.damaged_here + synced.damaged_there;
        assert_eq!((told, synced.floors), (1, 0), "{synced:?}");
        assert_eq!(scene.floor(1), Purged::default());
    }
}

#[test]
fn a_node_that_is_refilled_takes_over_what_was_purged_and_gives_nothing_to_who_has_damage() {
    let scene = Scene::new();
    let lost = MemoryStorage::new(Durability::Always);
    scene.run(scene.nodes.restart_on(&node(1).id, lost));
    let floor = |n: u16, counter| {
        let purged = Purged {
            seen: [(Actor(u64::from(n)), counter)].into_iter().collect(),
            stamp: Stamp(counter),
        };
        let tree = tree();
        scene.does(n, Maintenance::KeepPurged { tree, purged });
    };
    floor(1, 3);
    floor(2, 9);
    let theirs = scene.floor(2);
    scene.has(2, "hurt", &record_of(Actor(98), 1));
    scene.damage(2, "hurt");
    scene.comes_by_exchange(1, "hurt", &record_of(Actor(98), 2));
    let synced = scene.sync(1, 2).unwrap();
    assert_eq!((synced.damaged_there, synced.floors), (1, 1), "{synced:?}");
    assert_eq!(scene.floor(2), theirs);
}

/// Whichever of them asks, and whether it is a value or a tombstone that another one has overwritten.
#[test]
fn what_one_side_has_purged_goes_at_the_other_one() {
    for (pivot, peer) in [(1, 2), (2, 1)] {
        for late in [value(1), tombstone(1)] {
            let scene = Scene::new();
            scene.has(1, "gone", &tombstone(2));
            let keys = vec![held("gone", &tombstone(2))];
            scene.does(1, Maintenance::Purge { keys });
            scene.has(2, "gone", &late);
            let synced = scene.sync(pivot, peer).unwrap();
            let dropped = u64::from(!late.is_deleted());
            assert_eq!((synced.dropped, synced.complete), (dropped, true));
            assert!(scene.records(1).is_empty() && scene.records(2).is_empty());
            assert_eq!(scene.floor(1), scene.floor(2));
        }
    }
}

#[test]
fn a_peer_that_has_handed_over_is_told_of() {
    let scene = Scene::new();
    scene.has(1, "k", &value(1));
    scene.leaves_partition(2, Epoch(5));
    let (tree, peer) = (tree(), node(2));
    let sync = Maintenance::Sync { tree, peer };
    match scene.maintenance_by(1, Epoch(5), sync) {
        Ok(Maintained::Synced(synced)) => {
            assert_eq!((synced.handed_over, synced.sent), (1, 0), "{synced:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// Neither a record nor what was purged comes back to where it was given up.
#[test]
fn an_exchange_that_is_overtaken_by_leaving_brings_nothing_back() {
    let current = Epoch(6);
    for is_floor in [false, true] {
        let scene = Scene::new();
        match is_floor {
            false => scene.has(2, "k", &value(1)),
            true => {
                scene.has(2, "gone", &tombstone(2));
                let keys = vec![held("gone", &tombstone(2))];
                scene.does(2, Maintenance::Purge { keys });
            }
        }
        scene.nodes.set_mood(&node(2).id, Mood::Slow(SECOND));
        let (tree, peer) = (tree(), node(2));
        let sync = Maintenance::Sync {
            tree: tree.clone(),
            peer,
        };
        let sync = Operation::Maintenance(Box::new(sync));
        let leave = Operation::Maintenance(Box::new(Maintenance::Fence {
            partitions: Some(vec![key("any").partition()]),
            leaving: true,
            horizon: Stamp::ZERO,
        }));
        let late = scene.nodes.ask(&node(1).id, Epoch(5), sync);
        let overtakes = async {
            scene.clock.sleep(SECOND * 3 / 2).await;
            scene.nodes.ask(&node(1).id, current, leave).await
        };
        let (synced, left) = scene.run(futures::future::join(late, overtakes));
        assert!(left.is_ok(), "{left:?}");
        assert_eq!(synced, Err(Refusal::StaleEpoch { current }));
        assert!(scene.records(1).is_empty());
        scene.nodes.set_mood(&node(2).id, Mood::Fine);
        let purged = Maintenance::Purged { tree };
        let purged = scene.maintenance_by(1, current, purged);
        let Ok(Maintained::Purged(floor)) = purged else {
            panic!("nothing of purges: {purged:?}")
        };
        assert_eq!(floor, Purged::default());
    }
}

/// A record that can't be read is one that this side lacks, unless it is leaving by the epoch that asks.
#[test]
fn who_left_by_an_older_epoch_lacks_what_the_peer_can_not_read() {
    let lacking = |asked_by: Epoch| {
        let scene = Scene::new();
        scene.has(2, "k", &value(1));
        let mut bytes = value(1).encode().to_vec();
        bytes[9] ^= 1;
        let put = Put {
            space: Space::Records,
            key: key("k").as_bytes().clone(),
            value: Some(bytes.into()),
        };
        scene.run(scene.storage(2).commit(vec![put])).unwrap();
        scene.leaves_partition(1, Epoch(5));
        let (tree, peer) = (tree(), node(2));
        let sync = Maintenance::Sync { tree, peer };
        match scene.maintenance_by(1, asked_by, sync) {
            Ok(Maintained::Synced(synced)) => synced.damaged_there,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lacking(Epoch(5)), 0, "on its way out");
    assert_eq!(lacking(Epoch(6)), 1, "relied on again");
}

#[test]
fn what_several_owners_have_purged_is_kept_together() {
    let scene = Scene::new();
    for (actor, counter, stamp) in [(98, 4, 9), (99, 5, 6), (98, 3, 7)] {
        let purged = Purged {
            seen: [(Actor(actor), counter)].into_iter().collect(),
            stamp: Stamp(stamp),
        };
        let tree = tree();
        scene.does(1, Maintenance::KeepPurged { tree, purged });
    }
    let all = Purged {
        seen: [(Actor(98), 4), (Actor(99), 5)].into_iter().collect(),
        stamp: Stamp(9),
    };
    assert_eq!(scene.floor(1), all);
}

/// A value of somebody else, of whom nothing was purged.
fn record_of(actor: Actor, counter: u64) -> Record {
    let sibling = value(counter).siblings()[0].clone();
    let dot = Dot { actor, counter };
    let seen = [(actor, counter)].into_iter().collect();
    Record::new(seen, vec![Version { dot, ..sibling }]).unwrap()
}

#[test]
fn a_tombstone_may_be_purged_when_it_is_old_the_same_and_has_no_hint() {
    let scene = Scene::new();
    scene.has(1, "gone", &tombstone(2));
    scene.has(1, "alive", &value(3));
    let gone = || vec![held("gone", &tombstone(2))];
    assert_eq!(scene.purgeable(1, gone()), [], "it is young");
    scene.pass(GRACE);
    let asked = [
        held("gone", &tombstone(2)),
        held("gone", &tombstone(1)),
        held("alive", &value(3)),
        held("absent", &tombstone(2)),
    ];
    assert_eq!(scene.purgeable(1, asked.to_vec()), gone());

    scene.nodes.set_mood(&node(2).id, Mood::Down);
    scene.leaves_hint(1, "gone", 2);
    assert_eq!(scene.purgeable(1, gone()), [], "there is a hint for it");
    scene.does(1, Maintenance::Purge { keys: gone() });
    assert_eq!(scene.record(1, "gone"), Some(tombstone(2)), "and stays");
    scene.nodes.set_mood(&node(2).id, Mood::Fine);
    scene.does(1, Maintenance::DeliverHints { target: node(2) });
    scene.pass(SECOND);
    assert_eq!(scene.purgeable(1, gone()), gone());
    scene.does(1, Maintenance::Purge { keys: gone() });
    assert_eq!(scene.record(1, "gone"), None);
    assert_eq!(scene.record(1, "alive"), Some(value(3)));
}

#[test]
fn what_is_not_the_tombstone_that_was_told_is_not_purged() {
    let scene = Scene::new();
    scene.has(1, "deleted anew", &tombstone(2));
    scene.has(1, "alive", &value(3));
    let told = [
        held("deleted anew", &tombstone(1)),
        held("alive", &value(3)),
        held("absent", &tombstone(4)),
    ];
    scene.does(1, Maintenance::Purge { keys: told.into() });
    assert_eq!(scene.record(1, "deleted anew"), Some(tombstone(2)));
    assert_eq!(scene.record(1, "alive"), Some(value(3)));
    assert_eq!(scene.floor(1), Purged::default());
    let keys = vec![held("alive", &value(2))];
    scene.does(1, Maintenance::DropPurged { keys });
    assert_eq!(scene.record(1, "alive"), Some(value(3)));
}

#[test]
fn a_request_may_name_only_so_many_keys() {
    let scene = Scene::new();
    let many = || vec![held("k", &tombstone(1)); 1025];
    for maintenance in [
        Maintenance::AreTombstones { keys: many() },
        Maintenance::Purge { keys: many() },
        Maintenance::DropPurged { keys: many() },
    ] {
        let refused = scene.maintenance(1, maintenance);
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    }
    let keys = many().split_off(1);
    scene.does(1, Maintenance::Purge { keys });
}

#[test]
fn a_fence_may_name_only_as_many_partitions_as_there_are() {
    let scene = Scene::new();
    let fence = |partitions: u32| {
        let fence = Maintenance::Fence {
            partitions: Some(vec![PartitionId(1); partitions as usize]),
            leaving: false,
            horizon: Stamp::ZERO,
        };
        scene.maintenance(1, fence)
    };
    let above = fence(MAX_PARTITIONS + 1);
    assert!(matches!(above, Err(Refusal::Malformed(_))), "{above:?}");
    assert!(fence(MAX_PARTITIONS).is_ok());
}

/// The keys of all pages, of which none has more than this.
fn all_pages(
    page_max: usize,
    page: impl Fn(Option<RecordKey>) -> Result<Maintained, Refusal>,
) -> Vec<RecordKey> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Ok(Maintained::Keys { keys, more }) = page(after) else {
            panic!("no keys")
        };
        assert!(keys.len() <= page_max, "{}", keys.len());
        let last = keys.last().map(|entry| entry.key.clone());
        all.extend(keys.into_iter().map(|entry| entry.key));
        if more.is_none() {
            return all;
        }
        assert_eq!(more, last, "the last one that was looked at");
        after = more;
    }
}

#[test]
fn keys_and_tombstones_are_listed_page_by_page() {
    let page_max = sizes::of(Size::RecordsPage);
    for count in [page_max - 1, page_max, page_max + 1, 3 * page_max] {
        let scene = Scene::new();
        for counter in 1..=count as u64 {
            scene.has(1, &format!("k{counter}"), &tombstone(counter));
        }
        scene.pass(GRACE);
        let keys = all_pages(page_max, |after| {
            let (tree, leaves) = (tree(), u64::MAX);
            let page = Maintenance::Keys {
                tree,
                leaves,
                after,
            };
            scene.maintenance(1, page)
        });
        let held: Vec<RecordKey> = scene.records(1).into_keys().collect();
        assert_eq!(keys, held);
        let tombstones = all_pages(page_max, |after| {
            let (tree, last_write_wins) = (tree(), true);
            let page = Maintenance::Tombstones {
                tree,
                after,
                last_write_wins,
            };
            scene.maintenance(1, page)
        });
        assert_eq!(tombstones, held);
    }
}

#[test]
fn trees_are_listed_page_by_page_those_with_nothing_but_what_was_purged_too() {
    let scene = Scene::new();
    let of = |n: usize| RecordKey::new(PartitionId(n as u16), &TenantId::new("t").unwrap(), "k");
    let (records, floors) = (sizes::of(Size::LeavesPage), sizes::of(Size::FloorsPage));
    let most = records + 2 * floors;
    for n in 0..most {
        // At first it is those without records whose page ends before the other one's.
        let is_purged = (n < 2 * floors) != (n % 9 == 0);
        if is_purged {
            let purged = Purged {
                seen: [(Actor(1), 1)].into_iter().collect(),
                stamp: Stamp(1),
            };
            let tree = of(n).tree();
            scene.does(1, Maintenance::KeepPurged { tree, purged });
        } else {
            let record = value(1 + n as u64).encode();
            let join = Operation::Join {
                key: of(n),
                record,
                judged: None,
                source: JoinSource::Client,
            };
            scene.ask(1, join).unwrap();
        }
    }
    let mut listed: Vec<TreeName> = Vec::new();
    loop {
        let after = listed.last().cloned();
        match scene.maintenance(1, Maintenance::Roots { after }) {
            Ok(Maintained::Roots { roots, more }) => {
                listed.extend(roots.into_iter().map(|(tree, _)| tree));
                if !more {
                    break;
                }
            }
            other => panic!("no trees: {other:?}"),
        }
    }
    let all: Vec<TreeName> = (0..most).map(|n| of(n).tree()).collect();
    assert_eq!(listed, all);
}

#[test]
fn digests_of_a_disk_that_has_none_are_made_and_are_what_they_would_be() {
    let scene = Scene::new();
    for n in 0..100_u16 {
        let key = RecordKey::new(PartitionId(n), &TenantId::new("tenant").unwrap(), "k");
        let record = value(1 + u64::from(n)).encode();
        let join = Operation::Join {
            key,
            record,
            judged: None,
            source: JoinSource::Client,
        };
        scene.ask(1, join).unwrap();
    }
    let id = node(1).id;
    let expected = scene.nodes.all(&id, Space::Digests);
    assert_eq!(expected.len(), 100);
    let storage = scene.storage(1).after_crash();
    let without = |space, key| Put {
        space,
        key,
        value: None,
    };
    let digests = expected.iter();
    let mut puts: Vec<_> = digests
        .map(|(name, _)| without(Space::Digests, name.clone()))
        .collect();
    puts.push(without(Space::Meta, Bytes::from_static(b"digested")));
    scene.run(storage.commit(puts)).unwrap();
    scene.run(scene.nodes.restart_on(&id, storage));
    scene.pass(SECOND);
    assert_eq!(scene.nodes.all(&id, Space::Digests), expected);
    let roots = scene.maintenance(1, Maintenance::Roots { after: None });
    assert!(matches!(roots, Ok(Maintained::Roots { roots, .. }) if roots.len() == 100));
}
