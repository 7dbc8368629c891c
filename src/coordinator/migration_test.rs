//! Changes of owners, from the request to the end, over real storage nodes in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::migration::KEPT;
use super::tenants::Factor;
use super::test_cluster::{TestCluster, TestWorld, node, read, write};
use super::*;
use crate::placement::{
    ChangeId, ChangeRequest, Epoch, FactorRequest, MoveState, Node, NodeChange, NodeId, NodeStatus,
    Topology,
};
use crate::ports::{
    Caller, Change, Clock, CoordinatorWorld, MetadataStore, Migration, MigrationStatus, Operation,
    Put, RecordKey, Release, Request, Space, StorageEngine, Tenant,
};
use crate::quorum::Consistency;
use crate::test_cluster::Mood;

const SECOND: Duration = Duration::from_secs(1);
const KEYS: usize = 40;
const TENANTS: [&str; 2] = ["lww", "siblings"];

/// A cluster with data in it, and a coordinator that leads.
struct Scene {
    cluster: TestCluster,
    coordinator: Coordinator<TestWorld>,
}

impl Scene {
    fn new() -> Self {
        let cluster = TestCluster::of_partitions(16);
        let coordinator = cluster.coordinator();
        let scene = Self {
            cluster,
            coordinator,
        };
        for tenant in TENANTS {
            (0..KEYS).for_each(|key| scene.write(tenant, key, "before"));
        }
        scene
    }

    fn write(&self, tenant: &str, key: usize, value: &str) {
        let request = WriteRequest {
            consistency: Some(Consistency::Quorum),
            ..write(tenant, &format!("key {key}"), value)
        };
        self.cluster.run(self.coordinator.write(request)).unwrap();
    }

    fn read(&self, tenant: &str, key: usize, consistency: Consistency) -> Vec<Bytes> {
        let request = ReadRequest {
            consistency: Some(consistency),
            ..read(tenant, &format!("key {key}"))
        };
        let read = self.cluster.run(self.coordinator.read(request)).unwrap();
        read.values.into_iter().map(|value| value.value).collect()
    }

    /// Starts nodes that are in no topology.
    fn start(&self, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            self.cluster.run(self.cluster.nodes().start(node(number)));
        }
    }

    fn ask_for(&self, nodes: Vec<NodeChange>, factors: Vec<FactorRequest>) -> Migration {
        let request = ChangeRequest { nodes, factors };
        let asked = self.coordinator.admin().request_change(request);
        self.cluster.run(asked).unwrap()
    }

    fn migration(&self, migration: &Migration) -> Migration {
        let admin = self.coordinator.admin();
        let view = self.cluster.run(admin.migration(migration.id.as_str()));
        view.unwrap().migration
    }

    /// Lets time go on until a migration is over; `meanwhile` is done every now and then.
    fn until_over(&self, migration: &Migration, mut meanwhile: impl FnMut(&Self)) -> Migration {
        for _ in 0..600 {
            let now = self.migration(migration);
            if !now.status.is_open() {
                return now;
            }
            meanwhile(self);
            self.cluster.pass(SECOND / 4);
        }
        panic!("it never ends: {:?}", self.migration(migration))
    }

    fn topology(&self) -> Topology {
        self.cluster.stored_topology()
    }

    /// Who holds each record.
    fn holders(&self) -> BTreeMap<RecordKey, Vec<NodeId>> {
        let mut holders: BTreeMap<RecordKey, Vec<NodeId>> = BTreeMap::new();
        for id in self.cluster.nodes().ids() {
            for key in self.cluster.nodes().records(&id).into_keys() {
                holders.entry(key).or_default().push(id.clone());
            }
        }
        holders
    }

    /// Every record of every node, sound or not.
    fn all_records(&self) -> impl Iterator<Item = (NodeId, (RecordKey, Bytes))> {
        let nodes = self.cluster.nodes();
        nodes.ids().into_iter().flat_map(|id| {
            let records = nodes.all(&id, Space::Records).into_iter();
            records.map(move |(name, record)| {
                let key = RecordKey::from_bytes(name).unwrap();
                (id.clone(), (key, record))
            })
        })
    }

    /// A bit flips in every copy of every record of a tenant.
    fn damage(&self, tenant: &str) {
        let records = self
            .all_records()
            .filter(|(_, (key, _))| key.tenant() == tenant);
        for (id, (key, record)) in records {
            let mut bytes = record.to_vec();
            bytes[9] ^= 1;
            let put = Put {
                space: Space::Records,
                key: key.as_bytes().clone(),
                value: Some(bytes.into()),
            };
            let storage = self.cluster.nodes().storage(&id);
            self.cluster.run(storage.commit(vec![put])).unwrap();
        }
    }

    /// Every key is at its owners and nowhere else, and can be read.
    fn is_settled(&self) {
        assert_eq!(self.topology().change, None);
        self.cluster.pass(10 * SECOND);
        let holders = self.holders();
        assert_eq!(holders.len(), TENANTS.len() * KEYS);
        let routing = self.coordinator.status().topologies.routing();
        assert_eq!(routing.topology(), &self.topology());
        for (key, mut holders) in holders {
            let name = crate::ports::TenantId::new(key.tenant()).unwrap();
            let tenant = self.cluster.run(self.cluster.metadata().tenant(&name));
            let factor = tenant.unwrap().unwrap().replication_factor;
            let owners = routing.owners_of(key.partition(), key.tenant(), factor);
            let owners = owners.nodes().iter();
            let mut owners: Vec<NodeId> = owners
                .map(|index| routing.node(*index).id.clone())
                .collect();
            owners.sort();
            holders.sort();
            assert_eq!(holders, owners, "{key:?}");
        }
        for tenant in TENANTS {
            for key in 0..KEYS {
                let all = self.read(tenant, key, Consistency::All);
                assert_eq!(all.len(), 1, "{tenant} {key}");
            }
        }
    }
}

fn id(number: u16) -> NodeId {
    node(number).id
}

/// A process of the release before asks a node how it is, as coordinators do every second.
fn older_asks(scene: &Scene, number: u16) {
    let node = id(number);
    let replica = scene.cluster.nodes().replica(&node);
    let caller = Caller {
        release: Release::BeforeChangesOfOwners,
        name: "10.0.0.7".into(),
    };
    let (epoch, operation) = (replica.epoch(), Operation::Probe);
    let probe = Request {
        node,
        epoch,
        operation,
    };
    let answer = scene.cluster.run(replica.handle_from(caller, probe));
    answer.unwrap();
}

#[test]
fn no_change_begins_while_a_process_of_the_release_before_is_about() {
    let scene = Scene::new();
    scene.start([6]);
    let request = ChangeRequest {
        nodes: vec![NodeChange::Add(node(6))],
        factors: Vec::new(),
    };
    older_asks(&scene, 2);
    scene.cluster.pass(2 * SECOND); // until it is asked how it is
    let asked = scene.coordinator.admin().request_change(request.clone());
    match scene.cluster.run(asked) {
        Err(CoordinatorError::OlderVersion(words)) => {
            assert!(words.contains("a process at 10.0.0.7; upgrade"), "{words}");
        }
        other => panic!("not refused: {other:?}"),
    }
    // One that was asked for before waits; also if one node alone sees the older process.
    let asked_before = Migration::asked(ChangeId::of_number(9), request, 0);
    let metadata = scene.cluster.metadata();
    let created = metadata.create_migration(asked_before.clone());
    scene.cluster.run(created).unwrap();
    let migration = asked_before;
    for _ in 0..20 {
        older_asks(&scene, 4);
        scene.cluster.pass(SECOND);
        assert_eq!(scene.topology().change, None);
    }
    let waiting = scene.migration(&migration);
    assert_eq!(waiting.status, MigrationStatus::Pending);
    let why = waiting.waits_for.unwrap_or_default();
    assert!(why.contains("10.0.0.7"), "{why}");
    let ended = scene.until_over(&migration, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    scene.is_settled();
}

#[test]
fn nodes_are_added_in_one_change_and_old_copies_go() {
    let scene = Scene::new();
    scene.start([6, 7, 8]);
    let added = [6, 7, 8].map(|number| NodeChange::Add(node(number)));
    let migration = scene.ask_for(added.into(), Vec::new());
    assert_eq!(migration.status, MigrationStatus::Pending);
    let ended = scene.until_over(&migration, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    let topology = scene.topology();
    assert_eq!(topology.nodes.len(), 8);
    let is_active = |node: &Node| node.status == NodeStatus::Active;
    assert!(topology.nodes.iter().all(is_active));
    assert_eq!(ended.progress.partitions_done, ended.progress.partitions);
    assert!(ended.progress.keys > 0);
    scene.is_settled();
}

#[test]
fn reads_and_writes_go_on_while_owners_change() {
    let scene = Scene::new();
    scene.start([6, 7]);
    let added = [6, 7].map(|number| NodeChange::Add(node(number)));
    let migration = scene.ask_for(added.into(), Vec::new());
    let mut turn = 0;
    let ended = scene.until_over(&migration, |scene| {
        turn += 1;
        for tenant in TENANTS {
            let key = turn % KEYS;
            let value = format!("in turn {turn}");
            if tenant == "lww" {
                scene.write(tenant, key, &value);
                assert_eq!(scene.read(tenant, key, Consistency::Quorum), [value]);
            }
            assert!(
                !scene
                    .read(tenant, (turn * 7) % KEYS, Consistency::Quorum)
                    .is_empty()
            );
        }
    });
    assert_eq!(ended.status, MigrationStatus::Completed);
    assert!(turn > 3, "it took {turn} turns");
    scene.is_settled();
}

#[test]
fn a_node_that_leaves_hands_over_what_it_holds() {
    let scene = Scene::new();
    let leaves = NodeChange::Remove {
        id: id(2),
        force: false,
    };
    let migration = scene.ask_for(vec![leaves], Vec::new());
    let ended = scene.until_over(&migration, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    assert_eq!(scene.topology().node(&id(2)), None);
    assert_eq!(scene.cluster.nodes().records(&id(2)).len(), 0);
    scene.is_settled();
    // It is empty, so it may join again.
    let migration = scene.ask_for(vec![NodeChange::Add(node(2))], Vec::new());
    let ended = scene.until_over(&migration, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    scene.is_settled();
}

#[test]
fn a_dead_node_is_replaced_and_does_not_hold_up_anything() {
    let scene = Scene::new();
    scene.start([6]);
    scene.cluster.set_mood(&id(3), Mood::Down);
    let replaced = NodeChange::Replace {
        id: id(3),
        by: node(6),
        force: true,
    };
    let migration = scene.ask_for(vec![replaced], Vec::new());
    let ended = scene.until_over(&migration, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    assert_eq!(scene.topology().node(&id(6)).unwrap().seat(), "node-3");
    for tenant in TENANTS {
        for key in 0..KEYS {
            assert_eq!(scene.read(tenant, key, Consistency::All).len(), 1);
        }
    }
}

#[test]
fn a_tenants_replication_factor_goes_up_and_down() {
    let scene = Scene::new();
    for factor in [5, 1, 3] {
        let factors = vec![FactorRequest {
            tenant: "lww".into(),
            factor,
        }];
        let migration = scene.ask_for(Vec::new(), factors);
        let ended = scene.until_over(&migration, |scene| {
            assert!(!scene.read("lww", 1, Consistency::Quorum).is_empty());
        });
        assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
        scene.is_settled();
    }
}

/// What those hold that a record is being copied to is nothing yet, and no reason to forget what its owners had.
#[test]
fn a_record_that_is_damaged_at_all_owners_is_not_healed_by_those_it_is_copied_to() {
    for factor in [1, 2] {
        let scene = Scene::new();
        let admin = scene.coordinator.admin();
        let created = admin.create_tenant("few", factor, None);
        scene.cluster.run(created).unwrap();
        scene.write("few", 1, "value");
        scene.damage("few");
        // Some of them lie beside it.
        (2..=60).for_each(|key| scene.write("few", key, "value"));
        let more = FactorRequest {
            tenant: "few".into(),
            factor: 3,
        };
        let migration = scene.ask_for(Vec::new(), vec![more]);
        scene.cluster.pass(60 * SECOND);
        let request = ReadRequest {
            consistency: Some(Consistency::Quorum),
            ..read("few", "key 1")
        };
        let read = scene.cluster.run(scene.coordinator.read(request));
        let is_error = matches!(read, Err(CoordinatorError::QuorumNotReached(_)));
        assert!(is_error, "{factor}: {read:?}");
        let waits_for = scene.migration(&migration).waits_for.unwrap_or_default();
        assert!(waits_for.contains("damaged"), "{waits_for}");
        // Others that came to have some of the tree give that up again, though they lack the damaged record.
        let admin = scene.coordinator.admin();
        let cancelled = admin.cancel_migration(migration.id.as_str());
        scene.cluster.run(cancelled).unwrap();
        let ended = scene.until_over(&migration, |_| {});
        assert_eq!(ended.status, MigrationStatus::Cancelled, "{ended:?}");
        let copies = scene
            .all_records()
            .filter(|(_, (key, _))| key.tenant() == "few");
        assert_eq!(copies.count(), 60 * factor as usize);
    }
}

/// A factor that was looked up long ago, of a tenant that is not known any more, is looked up by the newest topology.
#[test]
fn an_outdated_factor_is_looked_up_with_the_topology_that_is_stored() {
    let scene = Scene::new();
    let factor = FactorRequest {
        tenant: "lww".into(),
        factor: 4,
    };
    let migration = scene.ask_for(Vec::new(), vec![factor]);
    scene.until_over(&migration, |_| {});
    let (cluster, metadata) = (&scene.cluster, scene.cluster.metadata());
    cluster.silence_watches();
    let unaware = cluster.coordinator();
    let stored = scene.topology();
    let next = stored.at(stored.epoch.next().unwrap());
    cluster
        .run(metadata.replace_topology(stored.epoch, next))
        .unwrap();
    let topologies = &unaware.status().topologies;
    assert!(topologies.routing().factors_since() > Epoch(0));
    let mut factor = Factor {
        replicas: 3,
        known_at: Epoch(0),
        met_at: Epoch(0),
    };
    let key = scene
        .holders()
        .into_keys()
        .find(|key| key.tenant() == "lww")
        .unwrap();
    let deadline = cluster.world().clock().now() + SECOND;
    let owners = cluster
        .run(topologies.owners(&key, &mut factor, deadline))
        .unwrap();
    assert_eq!((owners.len(), factor.replicas), (4, 4));
    assert_eq!(topologies.routing().epoch(), scene.topology().epoch);
}

/// Who changes owners fences those that are owners by the factors of the tenants that there are. One that needs more
/// is not written by a coordinator that knows nothing of the change, whose other owners would answer it.
#[test]
fn a_tenant_is_used_by_no_topology_from_before_it() {
    let scene = Scene::new();
    let (cluster, metadata) = (&scene.cluster, scene.cluster.metadata());
    cluster.silence_watches();
    let unaware = cluster.coordinator();
    let before = unaware.status().topologies.routing().epoch();
    let stored = scene.topology();
    let next = stored.at(before.next().unwrap());
    let replaced = cluster.run(metadata.replace_topology(before, next));
    assert!(matches!(replaced, Ok(Change::Made(_))), "{replaced:?}");
    let id = crate::ports::TenantId::new("five").unwrap();
    let tenant = Tenant {
        id,
        replication_factor: 5,
        ..Tenant::default_at(0)
    };
    cluster.run(metadata.create_tenant(tenant)).unwrap();
    // Its keys are at nodes that were told of no epoch.
    cluster
        .run(unaware.write(write("five", "key", "value")))
        .unwrap();
    let in_use = || unaware.status().topologies.routing().epoch();
    assert_eq!(in_use(), before.next().unwrap());
    // A tenant that is known needs no newer topology than it was met by.
    let next = scene.topology().at(Epoch(in_use().0 + 1));
    cluster
        .run(metadata.replace_topology(in_use(), next))
        .unwrap();
    cluster
        .run(unaware.write(write("five", "other", "value")))
        .unwrap();
    assert_eq!(in_use(), before.next().unwrap());
}

#[test]
fn a_tenant_is_named_once() {
    let scene = Scene::new();
    let to = |tenant: &str, factor| FactorRequest {
        tenant: tenant.into(),
        factor,
    };
    let request = ChangeRequest {
        nodes: Vec::new(),
        factors: vec![to("lww", 1), to("siblings", 1), to("lww", 3)],
    };
    let admin = scene.coordinator.admin();
    let error = scene.cluster.run(admin.request_change(request));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("lww is named twice"), "{error}");
    let both = scene.ask_for(Vec::new(), vec![to("siblings", 1), to("lww", 1)]);
    let ended = scene.until_over(&both, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    scene.is_settled();
}

#[test]
fn a_migration_keeps_to_its_pace() {
    const PACE: u64 = 20;
    let scene = Scene::new();
    scene.start([6, 7]);
    let migration = scene.ask_for([6, 7].map(|n| NodeChange::Add(node(n))).into(), Vec::new());
    let admin = scene.coordinator.admin();
    let paced = admin.pace_migration(migration.id.as_str(), Some(1 << 63));
    let error = scene.cluster.run(paced).unwrap_err().to_string();
    assert!(error.contains("bytes_per_second_max"), "{error}");
    let paced = admin.pace_migration(migration.id.as_str(), Some(PACE));
    scene.cluster.run(paced).unwrap();
    let moved = || scene.migration(&migration).progress.bytes;
    let (mut most, mut before) = (0, 0);
    for _ in 0..40 {
        scene.cluster.pass(SECOND);
        let now = moved();
        (most, before) = (most.max(now - before), now);
    }
    // One partition is begun at a time, and no other one before it is paid for.
    assert!(
        most > 0 && before <= 40 * PACE + most,
        "{before} bytes, {most} at once"
    );
    let unlimited = admin.pace_migration(migration.id.as_str(), None);
    scene.cluster.run(unlimited).unwrap();
    let ended = scene.until_over(&migration, |_| {});
    assert!(
        ended.progress.bytes > before,
        "it had not been done: {ended:?}"
    );
    scene.is_settled();
}

#[test]
fn a_change_that_is_cancelled_leads_back() {
    let scene = Scene::new();
    scene.start([6]);
    let before = scene.topology();
    let migration = scene.ask_for(vec![NodeChange::Add(node(6))], Vec::new());
    let mut cancelled = false;
    let ended = scene.until_over(&migration, |scene| {
        let topology = scene.topology();
        let moved = topology
            .change
            .map_or(0, |change| change.in_state(MoveState::Moved));
        if moved > 0 && !cancelled {
            cancelled = true;
            let admin = scene.coordinator.admin();
            let cancel = admin.cancel_migration(migration.id.as_str());
            scene.cluster.run(cancel).unwrap();
        }
    });
    assert!(cancelled);
    assert_eq!(ended.status, MigrationStatus::Cancelled, "{ended:?}");
    assert_eq!(scene.topology().nodes, before.nodes);
    assert_eq!(scene.cluster.nodes().records(&id(6)).len(), 0);
    scene.is_settled();
}

#[test]
fn a_node_that_is_away_is_named_and_waited_for() {
    let scene = Scene::new();
    scene.start([6]);
    scene.cluster.set_mood(&id(1), Mood::Down);
    let migration = scene.ask_for(vec![NodeChange::Add(node(6))], Vec::new());
    scene.cluster.pass(120 * SECOND);
    let now = scene.migration(&migration);
    assert_eq!(now.status, MigrationStatus::InProgress, "{now:?}");
    assert!(now.waits_for.clone().unwrap().contains("node-1"), "{now:?}");
    assert!(now.progress.partitions_done > 0, "others went on: {now:?}");
    scene.cluster.set_mood(&id(1), Mood::Fine);
    let ended = scene.until_over(&migration, |_| {});
    assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    scene.is_settled();
}

fn forced(number: u16) -> NodeChange {
    let (id, force) = (id(number), true);
    NodeChange::Remove { id, force }
}

impl Scene {
    /// Lets a change come so far that partitions have been moved, and not all old copies are gone.
    fn half_way(&self, migration: &Migration) {
        for _ in 0..600 {
            let topology = self.topology();
            let change = topology.change.as_deref();
            if change.is_some_and(|it| it.in_state(MoveState::Moved) > 0) {
                return;
            }
            self.cluster.pass(SECOND / 16);
        }
        panic!("it does not get half way: {:?}", self.migration(migration))
    }
}

#[test]
fn a_change_goes_on_without_a_node_that_is_given_up_half_way() {
    let scene = Scene::new();
    scene.start([6]);
    scene.cluster.set_mood(&id(2), Mood::Down);
    let joins = scene.ask_for(vec![NodeChange::Add(node(6))], Vec::new());
    scene.cluster.pass(60 * SECOND);
    assert!(
        scene.migration(&joins).progress.partitions_done > 0,
        "others went on"
    );
    let waits_for = scene.migration(&joins).waits_for.unwrap();
    assert!(
        waits_for.contains("node-2") && waits_for.contains("by force"),
        "{waits_for}"
    );
    let lost = scene.ask_for(vec![forced(2)], Vec::new());
    let is_amended = |scene: &Scene| {
        let change = scene.topology().change;
        change.is_some_and(|change| change.given_up == [id(2)])
    };
    for _ in 0..200 {
        if is_amended(&scene) {
            break;
        }
        scene.cluster.pass(SECOND / 32);
    }
    assert!(is_amended(&scene), "{:?}", scene.migration(&lost));
    let admin = scene.coordinator.admin();
    for id in [&joins.id, &lost.id] {
        let cancelled = scene.cluster.run(admin.cancel_migration(id.as_str()));
        let why = cancelled.unwrap_err().to_string();
        assert!(why.contains("node-2"), "{why}");
    }
    let joined = scene.until_over(&joins, |_| {});
    assert_eq!(joined.status, MigrationStatus::Completed, "{joined:?}");
    let left = scene.until_over(&lost, |_| {});
    assert_eq!(left.status, MigrationStatus::Completed, "{left:?}");
    let nodes: Vec<NodeId> = scene.topology().nodes.into_iter().map(|it| it.id).collect();
    assert_eq!(nodes, [1, 3, 4, 5, 6].map(id));
    for tenant in TENANTS {
        for key in 0..KEYS {
            assert_eq!(scene.read(tenant, key, Consistency::All).len(), 1);
        }
    }
}

#[test]
fn a_node_that_is_handing_over_can_still_be_given_up() {
    let scene = Scene::new();
    let (leaver, force) = (id(2), false);
    let leaves = NodeChange::Remove { id: leaver, force };
    let leaves = scene.ask_for(vec![leaves], Vec::new());
    scene.half_way(&leaves);
    scene.cluster.set_mood(&id(2), Mood::Down);
    scene.cluster.pass(30 * SECOND);
    let lost = scene.ask_for(vec![forced(2)], Vec::new());
    for migration in [leaves, lost] {
        let ended = scene.until_over(&migration, |_| {});
        assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    }
    assert_eq!(scene.topology().node(&id(2)), None);
}

#[test]
fn another_newcomer_takes_the_place_of_one_that_never_comes_back() {
    let scene = Scene::new();
    scene.start([6, 7]);
    let joins = scene.ask_for(vec![NodeChange::Add(node(6))], Vec::new());
    scene.half_way(&joins);
    scene.cluster.set_mood(&id(6), Mood::Down);
    scene.cluster.pass(30 * SECOND);
    let replaced = NodeChange::Replace {
        id: id(6),
        by: node(7),
        force: true,
    };
    let replaced = scene.ask_for(vec![replaced], Vec::new());
    for migration in [joins, replaced] {
        let ended = scene.until_over(&migration, |_| {});
        assert_eq!(ended.status, MigrationStatus::Completed, "{ended:?}");
    }
    assert_eq!(scene.topology().node(&id(7)).unwrap().seat(), "node-6");
    assert_eq!(scene.topology().node(&id(6)), None);
}

#[test]
fn a_node_that_answers_is_given_up_only_in_its_turn() {
    let scene = Scene::new();
    scene.start([6]);
    let joins = scene.ask_for(vec![NodeChange::Add(node(6))], Vec::new());
    scene.half_way(&joins);
    let lost = scene.ask_for(vec![forced(2)], Vec::new());
    scene.until_over(&joins, |scene| {
        if let Some(change) = scene.topology().change.filter(|it| it.id == joins.id) {
            assert_eq!(change.given_up, []);
        }
    });
    let left = scene.until_over(&lost, |_| {});
    assert_eq!(left.status, MigrationStatus::Completed, "{left:?}");
}

#[test]
fn who_waits_for_a_newcomer_that_is_given_up_waits_no_more() {
    let scene = Scene::new();
    scene.start([6]);
    scene.cluster.set_mood(&id(6), Mood::Down);
    let joins = scene.ask_for(vec![NodeChange::Add(node(6))], Vec::new());
    scene.cluster.pass(10 * SECOND);
    let waiting = scene.migration(&joins);
    assert_eq!(waiting.status, MigrationStatus::Pending, "{waiting:?}");
    let lost = scene.ask_for(vec![forced(6)], Vec::new());
    let joined = scene.until_over(&joins, |_| {});
    let told = (joined.status, joined.error.unwrap_or_default());
    let why = format!("node-6 did not join, and is taken for lost by {}", lost.id);
    assert_eq!(told, (MigrationStatus::Failed, why));
    let left = scene.until_over(&lost, |_| {});
    assert_eq!(left.status, MigrationStatus::Completed, "{left:?}");
    assert_eq!(scene.topology().nodes.len(), 5);
}

#[test]
fn a_request_names_as_many_nodes_as_there_may_be() {
    let scene = Scene::new();
    let refused = |changes: usize| {
        let nodes = vec![NodeChange::Add(node(1)); changes];
        let factors = Vec::new();
        let asked = scene
            .coordinator
            .admin()
            .request_change(ChangeRequest { nodes, factors });
        scene.cluster.run(asked).unwrap_err().to_string()
    };
    let many = "more than 1024";
    assert!(refused(1025).contains(many), "{}", refused(1025));
    assert!(!refused(1024).contains(many), "{}", refused(1024));
}

#[test]
fn what_is_done_is_not_cancelled_while_its_end_is_published() {
    let scene = Scene::new();
    let request = ChangeRequest {
        nodes: vec![NodeChange::Add(node(6))],
        factors: Vec::new(),
    };
    let ending = Migration {
        status: MigrationStatus::InProgress,
        ended_at: Some(1),
        ..Migration::asked(ChangeId::of_number(9), request, 0)
    };
    let id = ending.id.clone();
    let created = scene.cluster.metadata().create_migration(ending);
    scene.cluster.run(created).unwrap();
    let admin = scene.coordinator.admin();
    let cancelled = scene.cluster.run(admin.cancel_migration(id.as_str()));
    match cancelled {
        Err(CoordinatorError::NodeInUse(words)) => {
            assert!(words.contains("all is done"), "{words}")
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn only_so_many_migrations_that_are_over_are_kept() {
    let scene = Scene::new();
    let metadata = scene.cluster.metadata();
    let nothing_to_do = |number, status| Migration {
        status,
        ..Migration::asked(
            ChangeId::of_number(number),
            ChangeRequest {
                nodes: vec![NodeChange::Add(node(1))],
                factors: Vec::new(),
            },
            0,
        )
    };
    for number in 0..KEPT as u64 {
        let over = nothing_to_do(number, MigrationStatus::Completed);
        scene.cluster.run(metadata.create_migration(over)).unwrap();
    }
    let last = nothing_to_do(KEPT as u64, MigrationStatus::Pending);
    let created = metadata.create_migration(last.clone());
    scene.cluster.run(created).unwrap();
    let ended = scene.until_over(&last, |_| {});
    assert_eq!(
        ended.status,
        MigrationStatus::Failed,
        "it is there: {ended:?}"
    );
    scene.cluster.pass(SECOND);
    let kept = scene.cluster.run(metadata.migrations(2 * KEPT)).unwrap();
    assert_eq!(kept.len(), KEPT);
}
