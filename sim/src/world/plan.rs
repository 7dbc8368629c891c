//! A world and its parts, with what they are unless somebody says otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use pairdb::coordinator::CoordinatorSettings;
use pairdb::quorum::ConflictPolicy;
use pairdb::replica::ReplicaSettings;
use serde::{Deserialize, Serialize};

use super::buggify::BuggifyPlan;
use super::fault::{Fault, FaultStep};
use super::sizes::SizePlan;
use super::step::Step;
use super::time::{OddPlan, TimePlan};
use super::transport::TransportPlan;
use super::{human, settings};
use crate::endpoint::Endpoint;
use crate::value;

/// Everything that decides a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct World {
    /// Decides all that is not spelled out.
    pub seed: u64,
    /// How many coordinators.
    pub coordinators: u8,
    /// How many storage nodes there are in the first topology.
    pub storage_nodes: u8,
    /// How many more there are that run and are in no topology before somebody adds them. Their numbers come after
    /// those of the others.
    pub spare_nodes: u8,
    /// Each storage node's zone, the first one's first; those without one have none, or an empty one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Processes that begin with the release before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<Endpoint>,
    /// How many partitions the token space is cut into.
    pub partitions: u32,
    /// A storage node's places on the ring.
    pub virtual_nodes: u32,
    /// How long clients and faults are let loose, in milliseconds.
    #[serde(rename = "chaos", with = "human::ms")]
    pub chaos_ms: u64,
    /// The coordinators' settings.
    #[serde(with = "settings")]
    pub coordinator: CoordinatorSettings,
    /// The storage nodes' settings.
    #[serde(with = "settings")]
    pub replica: ReplicaSettings,
    /// Latencies, and trouble that is there all the time.
    pub network: NetworkPlan,
    /// How disks behave.
    pub disk: DiskPlan,
    /// Wrong wall clocks; who is not named has a right one.
    pub clocks: Vec<ClockPlan>,
    /// Coordinators with other time-outs than `coordinator` says.
    pub timeouts: Vec<TimeoutPlan>,
    /// Coordinators that are set otherwise than `coordinator` says.
    pub odd: Vec<OddPlan>,
    /// How exactly processes keep time.
    pub time: TimePlan,
    /// What processes have room for on their way to storage nodes.
    pub transport: TransportPlan,
    /// How much the core takes at a time, where that is not as usual.
    pub sizes: Vec<SizePlan>,
    /// Rare behaviour of the core that is common in this world, until faults end.
    pub buggify: Vec<BuggifyPlan>,
    /// The tenants.
    pub tenants: Vec<TenantPlan>,
    /// The clients.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong, and when.
    pub faults: Vec<FaultStep>,
    /// Storage nodes that lose power when all else is well again, and come back when the others had time to become
    /// equal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<Endpoint>,
}

/// The network's constant properties.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkPlan {
    /// The least time a message takes, in microseconds.
    #[serde(rename = "latency_min", with = "human::us")]
    pub latency_us_min: u64,
    /// The most time it usually takes, in microseconds.
    #[serde(rename = "latency_max", with = "human::us")]
    pub latency_us_max: u64,
    /// How much longer each link takes than others, at most, in microseconds: some are far, always.
    #[serde(rename = "link_spread", with = "human::us")]
    pub link_spread_us: u64,
    /// How many of a thousand messages take up to ten times as long, so that later ones overtake them.
    pub straggler_permille: u32,
    /// How many of a thousand requests are lost during chaos.
    pub lost_request_permille: u32,
    /// How many of a thousand answers are lost during chaos.
    pub lost_reply_permille: u32,
    /// How many of a thousand requests are delivered twice during chaos.
    pub duplicate_permille: u32,
    /// How many of a thousand events of the metadata store are lost.
    pub lost_event_permille: u32,
    /// How much later the second delivery is at most, in milliseconds.
    #[serde(rename = "duplicate_late_max", with = "human::ms")]
    pub duplicate_late_ms_max: u64,
}

/// How disks behave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskPlan {
    /// `Some`: commits are synced so often, in milliseconds, and a crash loses acknowledged ones. `None`: each commit
    /// is synced.
    #[serde(
        rename = "sync_interval",
        with = "human::maybe_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub sync_interval_ms: Option<u64>,
    /// The least time of a commit, in microseconds.
    #[serde(rename = "commit_min", with = "human::us")]
    pub commit_us_min: u64,
    /// The most time of a commit, in microseconds.
    #[serde(rename = "commit_max", with = "human::us")]
    pub commit_us_max: u64,
    /// The most time of a read, in microseconds.
    #[serde(rename = "read_max", with = "human::us")]
    pub read_us_max: u64,
}

/// A wrong wall clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockPlan {
    /// Whose.
    pub who: Endpoint,
    /// How far it is off, in milliseconds.
    #[serde(rename = "offset", with = "human::signed_ms", default)]
    pub offset_ms: i64,
    /// How much too fast it is, in millionths.
    #[serde(default)]
    pub drift_ppm: i64,
}

/// A coordinator's own longest time for reads and writes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutPlan {
    /// Which coordinator.
    pub who: Endpoint,
    /// In milliseconds.
    #[serde(rename = "timeout", with = "human::ms")]
    pub timeout_ms: u64,
}

/// A tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantPlan {
    /// Its name.
    pub name: String,
    /// How many owners a key has.
    pub replication_factor: u8,
    /// How concurrent writes are shown.
    pub conflict_policy: ConflictPolicy,
    /// How many keys are used.
    pub keys: u8,
    /// How many of a thousand operations go to the first key.
    pub hot_permille: u32,
}

/// A client's habits. Weights are relative to each other; permilles are of the operations they can apply to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientPlan {
    /// How many operations it starts at most.
    pub operations: u32,
    /// The most time between two operations, in milliseconds.
    #[serde(rename = "think_max", with = "human::ms")]
    pub think_ms_max: u64,
    /// How long it lets the server take, in milliseconds.
    #[serde(rename = "timeout", with = "human::ms")]
    pub timeout_ms: u64,
    /// Weight of writes.
    pub writes: u32,
    /// Weight of reads.
    pub reads: u32,
    /// Weight of deletes.
    pub deletes: u32,
    /// Weight of a read followed at once by a write or delete with its context.
    pub updates: u32,
    /// Weights of the consistencies one, quorum, all.
    pub consistency: [u32; 3],
    /// Writes that carry the latest context the client has for the key.
    pub context_permille: u32,
    /// Writes that carry an older one.
    pub stale_context_permille: u32,
    /// Reads that carry the latest context as a floor.
    pub floor_permille: u32,
    /// Writes that carry an idempotency key, and are retried with it while their outcome is unknown.
    pub idempotency_permille: u32,
    /// Answered writes with an idempotency key that are sent once more.
    pub repeat_permille: u32,
    /// Writes that by mistake bring the idempotency key of the one before.
    pub mistake_permille: u32,
    /// Writes with an idempotency key that are sent again, after their answer, as something else: with another context
    /// or consistency, as a delete, for another key.
    pub mean_permille: u32,
    /// Operations in whose place an answered write with an idempotency key is sent once more, long after.
    pub late_repeat_permille: u32,
    /// Writes of no bytes, at most one for each key.
    pub empty_permille: u32,
    /// How often a request is retried at most.
    pub retries: u32,
    /// How long it waits at most before each retry, in milliseconds.
    #[serde(rename = "retry_pause_max", with = "human::ms")]
    pub retry_pause_ms_max: u64,
    /// Operations on which the client gives up early, at a random moment.
    pub cancel_permille: u32,
    /// Whether every operation goes to the same coordinator while it answers.
    pub sticky: bool,
    /// The most bytes a value has beyond its name.
    pub padding_max: u64,
    /// What it does, exactly and nothing else, if there is anything here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            seed: 0,
            coordinators: 3,
            storage_nodes: 5,
            spare_nodes: 0,
            zones: Vec::new(),
            older: Vec::new(),
            partitions: 16,
            virtual_nodes: 8,
            chaos_ms: 20_000,
            coordinator: CoordinatorSettings::default(),
            replica: ReplicaSettings::default(),
            network: NetworkPlan::default(),
            disk: DiskPlan::default(),
            clocks: Vec::new(),
            timeouts: Vec::new(),
            odd: Vec::new(),
            time: TimePlan::default(),
            transport: TransportPlan::default(),
            sizes: Vec::new(),
            buggify: Vec::new(),
            tenants: vec![
                TenantPlan::new("last", 3, ConflictPolicy::LastWriteWins),
                TenantPlan::new("siblings", 3, ConflictPolicy::Siblings),
            ],
            clients: vec![ClientPlan::default(); 4],
            faults: Vec::new(),
            away: Vec::new(),
        }
    }
}

impl TenantPlan {
    /// A tenant with three keys, one of them hot.
    #[must_use]
    pub fn new(name: &str, replication_factor: u8, conflict_policy: ConflictPolicy) -> Self {
        Self {
            name: name.to_owned(),
            replication_factor,
            conflict_policy,
            keys: 3,
            hot_permille: 400,
        }
    }
}

impl Default for TenantPlan {
    fn default() -> Self {
        Self::new("tenant", 3, ConflictPolicy::LastWriteWins)
    }
}

impl Default for NetworkPlan {
    fn default() -> Self {
        Self {
            latency_us_min: 100,
            latency_us_max: 1_000,
            link_spread_us: 0,
            straggler_permille: 20,
            lost_request_permille: 0,
            lost_reply_permille: 0,
            duplicate_permille: 0,
            lost_event_permille: 0,
            duplicate_late_ms_max: 1_000,
        }
    }
}

impl Default for DiskPlan {
    fn default() -> Self {
        Self {
            sync_interval_ms: None,
            commit_us_min: 200,
            commit_us_max: 2_000,
            read_us_max: 200,
        }
    }
}

impl ClientPlan {
    /// Whether it goes by its habits.
    #[must_use]
    pub const fn roams(&self) -> bool {
        self.steps.is_empty() && self.operations > 0
    }
}

impl Default for ClientPlan {
    fn default() -> Self {
        Self {
            operations: 100,
            think_ms_max: 300,
            timeout_ms: 1_000,
            writes: 4,
            reads: 4,
            deletes: 1,
            updates: 2,
            consistency: [1, 8, 1],
            context_permille: 500,
            stale_context_permille: 100,
            floor_permille: 300,
            idempotency_permille: 200,
            repeat_permille: 100,
            mistake_permille: 0,
            mean_permille: 0,
            late_repeat_permille: 0,
            empty_permille: 0,
            retries: 3,
            retry_pause_ms_max: 200,
            cancel_permille: 20,
            sticky: true,
            padding_max: 64,
            steps: Vec::new(),
        }
    }
}

impl World {
    /// Every key of a tenant: those that habits choose from and those that steps name.
    #[must_use]
    pub fn keys(&self, tenant: &TenantPlan) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        if self.clients.iter().any(ClientPlan::roams) {
            keys.extend((0..tenant.keys).map(value::key_name));
        }
        let steps = self.clients.iter().flat_map(|client| &client.steps);
        let places = steps.filter_map(|step| step.act.place());
        let here = places.filter(|place| place.tenant == tenant.name);
        keys.extend(here.map(|place| place.key.clone()));
        keys
    }

    /// How one coordinator is set.
    #[must_use]
    pub fn coordinator_settings(&self, who: Endpoint) -> CoordinatorSettings {
        let odd = self.odd.iter().find(|odd| odd.who == who);
        let mut settings = odd
            .map_or(&self.coordinator, |odd| &odd.coordinator)
            .clone();
        if let Some(own) = self.timeouts.iter().find(|own| own.who == who) {
            let timeout = Duration::from_millis(own.timeout_ms);
            (settings.write_timeout, settings.read_timeout) = (timeout, timeout);
        }
        settings
    }

    /// Every storage node, spares too.
    #[must_use]
    pub fn storage(&self) -> Vec<Endpoint> {
        let nodes = 1..=self.storage_nodes.saturating_add(self.spare_nodes);
        nodes.map(Endpoint::Storage).collect()
    }

    /// The storage nodes of the first topology.
    #[must_use]
    pub fn founders(&self) -> Vec<Endpoint> {
        (1..=self.storage_nodes).map(Endpoint::Storage).collect()
    }

    /// Whether somebody asks for other owners.
    #[must_use]
    pub fn changes_owners(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|step| matches!(step.fault, Fault::Change(_)))
    }

    /// Every coordinator.
    #[must_use]
    pub fn coordinators(&self) -> Vec<Endpoint> {
        (1..=self.coordinators).map(Endpoint::Coordinator).collect()
    }
}
