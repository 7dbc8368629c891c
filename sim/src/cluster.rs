//! The simulated cluster: machines, the processes that live and die on them, and what connects them.
//!
//! Every life of a process is a madsim node of its own, so ending it ends all its tasks wherever they wait. Its disk
//! and its wall clock belong to the machine and go on.

mod lives;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use madsim::runtime::{Handle, NodeHandle};
use pairdb::coordinator::Coordinator;
use pairdb::placement::{Epoch, MoveState, Topology};
use pairdb::ports::{
    Change, Maintenance, MetadataStore, Migration, Operation, RecordKey, Release, Request,
    SiblingLimits, Space, Tenant, TenantId,
};
use pairdb::replica::Replica;
use pairdb::version::{Record, Stamp};

use crate::adapters::{
    ClaimsHome, CoordinatorSide, Disk, MetadataHome, Removal, Services, SimClock, SteadyClock,
    StorageSide, TenantLookup, WallClock,
};
use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::history::History;
use crate::network::Network;
use crate::op::{OpId, Time};
use crate::pause::pause;
use crate::reign::Reign;
use crate::rng::Rng;
use crate::steps::Nodes;
use crate::story::Story;
use crate::tap::Tap;
use crate::weather::Weather;
use crate::world::World;

/// How long a process waits before it tries again to start.
const START_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether a damaged record was replaced: for no longer than any run goes on.
const HEALED_LOOKS_MAX: u32 = 3_000;

/// It was never published, and won't be.
const NO_EPOCH: Epoch = Epoch(1 << 63);

/// How much longer than its deadline a coordinator may take to answer.
const ANSWER_SLACK: Duration = Duration::from_millis(20);

/// The cluster. Copies are the same one.
#[derive(Clone)]
pub struct Cluster {
    /// What it is made after.
    pub world: Arc<World>,
    /// What goes wrong.
    pub faults: Faults,
    /// What happened.
    pub history: History,
    /// Who looks on.
    pub tap: Tap,
    /// How far explicit steps have come.
    pub story: Story,
    /// What connects it.
    pub network: Network,
    /// Who could rely on whom.
    pub weather: Weather,
    shared: Arc<Shared>,
}

struct Shared {
    handle: Handle,
    services: Services,
    metadata: MetadataHome,
    claims: ClaimsHome,
    calm: AtomicBool,
    machines: Mutex<BTreeMap<Endpoint, Machine>>,
    late_answers: Mutex<Vec<String>>,
    reigns: Reigns,
    /// Whom each fault that crashes a leader had crash.
    crashed_leaders: Mutex<BTreeMap<usize, Endpoint>>,
    /// Nodes that are down for good, as far as changes of owners are concerned.
    abandoned: Mutex<BTreeSet<Endpoint>>,
}

/// Every topology that was published, the oldest first; there is one at least.
type Reigns = Arc<Mutex<Vec<Arc<Reign>>>>;

/// A machine and the process on it.
struct Machine {
    wall: WallClock,
    steady: SteadyClock,
    disk: Option<Disk>,
    rng: Rng,
    /// The program that is installed: what the next process speaks.
    release: Release,
    lives: u32,
    /// The process's tasks; `None` while there is no process.
    node: Option<NodeHandle>,
    /// Set once a coordinator serves.
    coordinator: Option<Coordinator<CoordinatorSide>>,
    paused: bool,
    /// When it last stood still, or its monotonic clock did.
    paused_at: Option<Time>,
}

/// Sees to it that a coordinator answers in time.
pub struct DeadlineWatch {
    cluster: Cluster,
    who: Endpoint,
    began: Time,
    allowed: Duration,
}

impl Cluster {
    /// A cluster without processes, whose stores hold the world's topology and tenants.
    pub async fn new(world: Arc<World>) -> Self {
        let history = History::new();
        let faults = Faults::new(world.network.clone());
        let handle = Handle::current();
        let wire = handle.create_node().name("wire").build();
        let network = Network::new(world.seed, faults.clone(), wire, history.recorder().clone());
        let right = SimClock::new(WallClock::new(0, 0), 0);
        let topology = first_topology(&world);
        let first = Arc::new(Reign::first(&world, topology.clone()));
        let shared = Shared {
            handle,
            services: Services::default(),
            metadata: founded(&world, topology, right.clone()).await,
            claims: ClaimsHome::new(right),
            calm: AtomicBool::new(false),
            machines: Mutex::default(),
            late_answers: Mutex::default(),
            reigns: Arc::new(Mutex::new(vec![first])),
            crashed_leaders: Mutex::default(),
            abandoned: Mutex::default(),
        };
        let story = Story::new(history.clone());
        let cluster = Self {
            tap: Tap::new(history.clone(), story.clone()),
            story,
            world,
            weather: Weather::new(history.clone()),
            faults,
            history,
            network,
            shared: Arc::new(shared),
        };
        cluster.build();
        cluster.tap.look_at(Box::new(Machines {
            disks: cluster.disks(),
            services: cluster.shared.services.clone(),
        }));
        cluster.watch_purges();
        cluster.watch_topologies();
        cluster
    }

    /// Has every removal of a record compared with what the other owners hold.
    fn watch_purges(&self) {
        let disks = self.disks();
        for (who, disk) in &disks {
            let (who, tap) = (*who, self.tap.clone());
            let reigns = Arc::clone(&self.shared.reigns);
            let disks = disks.clone();
            disk.watch(Box::new(move |key, old, removal| {
                let Ok(name) = RecordKey::from_bytes(key.clone()) else {
                    return;
                };
                let Removal::Seen { owed } = removal else {
                    return tap.perhaps_purged(who, &name, old);
                };
                let reign = current(&reigns);
                let held = |owners: Vec<Endpoint>| {
                    let disks = disks.iter().filter(|(other, _)| owners.contains(*other));
                    // The watch must not look at its own disk.
                    let held = disks.map(|(other, disk)| {
                        let held = (*other != who).then(|| disk.get(Space::Records, key));
                        (*other, held.flatten())
                    });
                    held.collect::<Vec<_>>()
                };
                if tap.drops_tree(who, &name) {
                    // Not those that it moves to: they hold all of it only when they are read.
                    let owners = reign.sets(&name.tree()).swap_remove(0).nodes;
                    return tap.dropped(who, &name, old, &held(owners));
                }
                let owners = reign.owners(&name.tree()).into_iter();
                let others = owners.filter(|other| *other != who);
                tap.purged(who, &name, old, &held(others.collect()), owed);
            }));
        }
    }

    /// Has every topology that is stored written down.
    fn watch_topologies(&self) {
        let (history, story, tap) = (self.history.clone(), self.story.clone(), self.tap.clone());
        let reigns = Arc::clone(&self.shared.reigns);
        self.shared.metadata.watch(Arc::new(move |topology| {
            let before = current(&reigns);
            let now = Duration::from_nanos(history.now());
            let next = Arc::new(before.succeeded(now, topology.clone()));
            tap.stored(&before, &next);
            for who in next.given_up().difference(&before.given_up()) {
                tap.given_up(*who);
            }
            let told = change_in_words(before.placement.topology(), topology);
            told.into_iter()
                .for_each(|told| history.note(format_args!("{told}")));
            lock(&reigns).push(next);
            story.published(before.placement.topology(), topology);
        }));
    }

    /// The disks of storage nodes.
    fn disks(&self) -> BTreeMap<Endpoint, Disk> {
        let machines = self.machines();
        let disks = machines.iter();
        disks
            .filter_map(|(who, machine)| Some((*who, machine.disk.clone()?)))
            .collect()
    }

    /// Every topology that was ever published, with when it was, the oldest first.
    #[must_use]
    pub fn reigns(&self) -> Vec<Arc<Reign>> {
        lock(&self.shared.reigns).clone()
    }

    /// The one in force.
    #[must_use]
    pub fn reign(&self) -> Arc<Reign> {
        current(&self.shared.reigns)
    }

    /// What is on each node's disk, of one space.
    #[must_use]
    pub fn contents(&self, space: Space) -> BTreeMap<Endpoint, BTreeMap<Bytes, Bytes>> {
        let machines = self.machines();
        let disks = machines.iter();
        disks
            .filter_map(|(who, machine)| Some((*who, machine.disk.as_ref()?.contents(space))))
            .collect()
    }

    /// Whether a node serves and counts for no quorum, since it lost its disk.
    #[must_use]
    pub fn is_refilling(&self, who: Endpoint) -> bool {
        let replica = self.shared.services.get(who);
        replica.is_some_and(|replica| replica.is_refilling())
    }

    /// A node's machine fails, and when it is back the digests are gone.
    pub fn lose_digests(&self, who: Endpoint) {
        self.crash(who);
        if let Some(disk) = self.machines().get(&who).and_then(|m| m.disk.clone()) {
            disk.lose_digests();
        }
    }

    /// Builds the machines.
    fn build(&self) {
        let seed = self.world.seed;
        let mut machines = self.machines();
        for who in self.processes() {
            let clock = self.world.clocks.iter().find(|clock| clock.who == who);
            let wall = clock.map_or(WallClock::new(0, 0), |clock| {
                WallClock::new(clock.offset_ms, clock.drift_ppm)
            });
            let disk = matches!(who, Endpoint::Storage(_)).then(|| {
                let rng = Rng::new(seed, &format!("disk {who}"));
                let recorder = self.history.recorder().clone();
                Disk::new(
                    who,
                    self.world.disk.clone(),
                    self.faults.clone(),
                    rng,
                    recorder,
                )
            });
            let machine = Machine {
                wall,
                steady: SteadyClock::default(),
                disk,
                rng: Rng::new(seed, &format!("machine {who}")),
                release: match self.world.older.contains(&who) {
                    true => Release::BeforeChangesOfOwners,
                    false => Release::Current,
                },
                lives: 0,
                node: None,
                coordinator: None,
                paused: false,
                paused_at: None,
            };
            machines.insert(who, machine);
        }
    }

    /// Storage nodes and coordinators.
    #[must_use]
    pub fn processes(&self) -> Vec<Endpoint> {
        let mut processes = self.world.storage();
        processes.extend(self.world.coordinators());
        processes
    }

    /// A machine's monotonic clock stands still.
    pub fn stop_clock(&self, who: Endpoint) {
        let now = self.history.now();
        if let Some(machine) = self.machines().get_mut(&who) {
            machine.steady.stop(now);
            machine.paused_at = Some(now);
        }
    }

    /// It goes on.
    pub fn let_clock_go_on(&self, who: Endpoint, jumps: bool) {
        let now = self.history.now();
        if let Some(machine) = self.machines().get_mut(&who) {
            machine.steady.go_on(now, jumps);
            machine.paused_at = Some(now);
        }
    }

    /// A machine's wall clock jumps.
    pub fn jump_clock(&self, who: Endpoint, by_ms: i64) {
        if let Some(machine) = self.machines().get(&who) {
            machine.wall.jump(by_ms);
        }
    }

    /// A machine's wall clock goes faster, by so many millionths.
    pub fn drift_clock(&self, who: Endpoint, by_ppm: i64) {
        if let Some(machine) = self.machines().get(&who) {
            let now = Duration::from_nanos(self.history.now());
            machine.wall.drift(now, by_ppm);
        }
    }

    /// A bit of a record on a node's disk flips: that of fault `index`, which lasts until the record can be read again,
    /// or is gone. (Of one that has another owner, or nobody could ever give it back.)
    pub fn corrupt_record(&self, who: Endpoint, index: usize) {
        let disk = self.machines().get(&who).and_then(|m| m.disk.clone());
        let reign = self.reign();
        let has_others = |key: &Bytes| {
            RecordKey::from_bytes(key.clone()).is_ok_and(|key| {
                let owners = reign.owners(&key.tree());
                owners.len() > 1 && owners.contains(&who)
            })
        };
        let damaged = disk.and_then(|disk| Some((disk.corrupt(has_others)?, disk)));
        let Some((key, disk)) = damaged else {
            return self.weather.ends(index);
        };
        if let Ok(key) = RecordKey::from_bytes(key.clone()) {
            // What was acknowledged by this copy alone is gone.
            self.tap.damaged(who, &key);
        }
        self.history
            .note(format_args!("{who} has a record with a flipped bit"));
        let weather = self.weather.clone();
        drop(madsim::task::spawn(async move {
            for _ in 0..HEALED_LOOKS_MAX {
                let stored = disk.get(Space::Records, &key);
                if stored.is_none_or(|stored| Record::decode(stored).is_ok()) {
                    return weather.ends(index);
                }
                pause(START_PAUSE).await;
            }
        }));
    }

    /// The metadata store fails over to a copy that is this far behind.
    pub async fn fail_over_metadata(&self, lost: Duration) {
        let gone = self.shared.metadata.fail_over(lost).await;
        let gone: Vec<u64> = gone.iter().map(|epoch| epoch.0).collect();
        self.history
            .note(format_args!("metadata fails over; epochs lost: {gone:?}"));
    }

    /// The idempotency store loses all it holds.
    pub fn forget_claims(&self) {
        self.shared.claims.forget();
        self.history.claims_forgotten();
        self.history.note(format_args!("idempotency forgets all"));
    }

    /// The topology gets a new epoch, with the same nodes in it.
    pub async fn next_epoch(&self) {
        let metadata = self.shared.metadata.store();
        let topology = metadata.topology().await;
        let topology = topology.expect("the store in memory answers");
        let expected = topology.epoch;
        if let Some(epoch) = expected.next() {
            let next = Topology { epoch, ..topology };
            let changed = metadata.replace_topology(expected, next).await;
            if let Ok(Change::Made(topology)) = changed {
                self.shared.metadata.keep(topology);
            }
        }
    }

    /// A node is asked for something under an epoch that can't be, by nobody of the cluster.
    pub fn ask_under_no_epoch(&self, who: Endpoint) {
        let Some((node, replica)) = self.storage_node(who) else {
            return;
        };
        let request = Request {
            node: replica.node().clone(),
            epoch: NO_EPOCH,
            operation: Operation::Maintenance(Box::new(Maintenance::Roots { after: None })),
        };
        drop(node.spawn(async move { drop(replica.handle(request).await) }));
    }

    /// A node takes on an epoch that can't be.
    pub fn take_on_no_epoch(&self, who: Endpoint) {
        if let Some((node, replica)) = self.storage_node(who) {
            self.tap.misled(who);
            self.history.note(format_args!("{who} takes on {NO_EPOCH}"));
            let fence = match replica.speaks() {
                Release::Current => Maintenance::Fence {
                    partitions: None,
                    leaving: false,
                    horizon: Stamp::ZERO,
                },
                Release::BeforeChangesOfOwners => Maintenance::Damaged,
            };
            let request = Request {
                node: replica.node().clone(),
                epoch: NO_EPOCH,
                operation: Operation::Maintenance(Box::new(fence)),
            };
            replica.learn_epoch(NO_EPOCH);
            drop(node.spawn(async move { drop(replica.handle(request).await) }));
        }
    }

    /// A node's operator sets its epoch back, once it is there.
    pub async fn set_epoch_back(self, who: Endpoint) {
        self.tap.fences_lost(who);
        loop {
            let topology = self.shared.metadata.store().topology().await;
            let published = topology.expect("the store in memory answers").epoch;
            if let Some((node, replica)) = self.storage_node(who) {
                let (done, is_done) = futures::channel::oneshot::channel();
                drop(node.spawn(async move {
                    if replica.reset_epoch(published).await.is_ok() {
                        let _ = done.send(());
                    }
                }));
                if is_done.await.is_ok() {
                    return self
                        .history
                        .note(format_args!("{who} comes back to {published}"));
                }
            }
            pause(START_PAUSE).await;
        }
    }

    /// The replica that serves there now, and where its tasks live.
    fn storage_node(&self, who: Endpoint) -> Option<(NodeHandle, Replica<StorageSide>)> {
        let node = self.machines().get(&who)?.node.clone()?;
        Some((node, self.shared.services.get(who)?))
    }

    /// The coordinator that serves there now, and where its tasks live.
    #[must_use]
    pub fn coordinator(&self, who: Endpoint) -> Option<(NodeHandle, Coordinator<CoordinatorSide>)> {
        let machines = self.machines();
        let machine = machines.get(&who)?;
        Some((machine.node.clone()?, machine.coordinator.clone()?))
    }

    /// Whether a process serves.
    #[must_use]
    pub fn serves(&self, who: Endpoint) -> bool {
        match who {
            Endpoint::Storage(_) => self.shared.services.has(who),
            _ => self.coordinator(who).is_some(),
        }
    }

    /// Whether chaos is over.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.shared.calm.load(Ordering::Relaxed)
    }

    /// Chaos is over.
    pub fn calm_down(&self) {
        self.shared.calm.store(true, Ordering::Relaxed);
        self.story.end();
    }

    /// The storage nodes that are reached without a network.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.shared.services
    }

    /// The newest epoch that was published.
    #[must_use]
    pub fn published_epoch(&self) -> Epoch {
        self.shared.metadata.newest_epoch()
    }

    /// Which tenants coordinators asked the metadata store for.
    #[must_use]
    pub fn tenant_lookups(&self) -> Vec<TenantLookup> {
        self.shared.metadata.looked_up()
    }

    /// The coordinator that leads changes of owners, as far as the metadata store knows.
    #[must_use]
    pub fn leader(&self) -> Option<Endpoint> {
        self.shared.metadata.leader()
    }

    /// All migrations, those asked for last first.
    pub async fn migrations(&self) -> Vec<Migration> {
        let migrations = self.shared.metadata.store().migrations(usize::MAX).await;
        migrations.expect("the store in memory answers")
    }

    /// Begins to watch whether `who` answers a request that it gave itself `timeout` for.
    #[must_use]
    pub fn watch_deadline(&self, who: Endpoint, timeout: Duration) -> DeadlineWatch {
        let settings = self.world.coordinator_settings(who);
        let time = &self.world.time;
        let late = Duration::from_micros(time.calls_late_us_max + 2 * time.timers_late_us_max);
        DeadlineWatch {
            cluster: self.clone(),
            who,
            began: self.history.now(),
            allowed: timeout.min(settings.write_timeout.max(settings.read_timeout))
                + ANSWER_SLACK
                + late,
        }
    }

    /// Answers that came after their deadlines.
    #[must_use]
    pub fn late_answers(&self) -> Vec<String> {
        let late = self.shared.late_answers.lock();
        late.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<Endpoint, Machine>> {
        let machines = self.shared.machines.lock();
        machines.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is really on the machines, and served by them.
struct Machines {
    disks: BTreeMap<Endpoint, Disk>,
    services: Services,
}

impl Nodes for Machines {
    fn records(&self, who: Endpoint) -> BTreeMap<Bytes, Bytes> {
        let disk = self.disks.get(&who);
        disk.map_or_else(BTreeMap::new, |disk| disk.contents(Space::Records))
    }

    fn record(&self, who: Endpoint, key: &RecordKey) -> Option<Bytes> {
        self.disks.get(&who)?.get(Space::Records, key.as_bytes())
    }

    fn counts(&self, who: Endpoint) -> Option<bool> {
        Some(!self.services.get(who)?.is_refilling())
    }
}

/// The world's founders.
fn first_topology(world: &World) -> Topology {
    let nodes = world.founders().into_iter().map(|who| world.node(who));
    Topology::new(Epoch(1), world.partitions, nodes.collect())
        .expect("the world's topology is valid")
}

/// The metadata store as the world's operator left it.
async fn founded(world: &World, topology: Topology, clock: SimClock) -> MetadataHome {
    let tenants = world.tenants.iter().map(|plan| Tenant {
        id: TenantId::new(plan.name.as_str()).expect("a tenant's name is valid"),
        replication_factor: plan.replication_factor,
        conflict_policy: plan.conflict_policy,
        default_consistency: None,
        siblings: SiblingLimits::default(),
        created_at: 0,
        updated_at: 0,
        version: 1,
    });
    let home = MetadataHome::new(tenants.collect(), topology, clock).await;
    if world.changes_owners() {
        home.lose_no_topology();
    }
    home
}

fn lock(reigns: &Reigns) -> MutexGuard<'_, Vec<Arc<Reign>>> {
    reigns.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current(reigns: &Reigns) -> Arc<Reign> {
    let reigns = lock(reigns);
    Arc::clone(reigns.last().expect("there is a first topology"))
}

/// What a topology says of the change of owners, where it or the one before it has one.
fn change_in_words(before: &Topology, now: &Topology) -> Option<String> {
    let epoch = now.epoch;
    match (&before.change, &now.change) {
        (None, None) => None,
        (Some(change), None) => Some(format!("epoch {epoch}: {} has ended", change.id)),
        (_, Some(change)) => {
            let states = [
                MoveState::Waiting,
                MoveState::Copying,
                MoveState::HandingOver,
                MoveState::Moved,
            ];
            let states =
                states.map(|state| format!("{} {}", change.in_state(state), state.as_str()));
            let back = if change.cancelled { ", going back" } else { "" };
            let (id, states) = (&change.id, states.join(", "));
            Some(format!("epoch {epoch}: {id}{back}: {states}"))
        }
    }
}

impl DeadlineWatch {
    /// The request was answered.
    pub fn done(self, op: OpId) {
        let now = self.cluster.history.now();
        let took = Duration::from_nanos(now - self.began);
        let paused = {
            let machines = self.cluster.machines();
            let machine = machines.get(&self.who);
            machine.is_some_and(|machine| {
                let paused_since = machine.paused_at.is_some_and(|at| at >= self.began);
                paused_since || machine.steady.stands_still()
            })
        };
        if took > self.allowed && !paused {
            let late = format!("{} took {took:?} for #{}", self.who, op.0);
            let answers = self.cluster.shared.late_answers.lock();
            answers.unwrap_or_else(PoisonError::into_inner).push(late);
        }
    }
}
