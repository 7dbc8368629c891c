//! The lives of processes: how they start on their machines, stop, crash, stand still, and come back with another disk
//! or another release.
//!
//! What this is not: what else happens to a cluster, or is asked of it ([`super`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::runtime::NodeHandle;
use pairdb::coordinator::Coordinator;
use pairdb::placement::{Epoch, NodeId};
use pairdb::ports::{Operation, Release, Request};
use pairdb::replica::Replica;

use super::{Cluster, START_PAUSE};
use crate::adapters::{
    CoordinatorSide, Disk, Loss, SimClock, SimIdempotency, SimMetadata, SimRandom, SimSpawn,
    SimTransport, StorageSide, StoreLink, TransportRoom,
};
use crate::endpoint::Endpoint;
use crate::pause::pause;
use crate::recorder::Life;
use crate::rng::Rng;
use crate::world::{Event, Fault};

/// How often to look whether a node that lost its disk counts again.
const REFILL_PAUSE: Duration = Duration::from_millis(100);

impl Cluster {
    /// Nobody starts a node any more that is down and was taken for lost, until all changes of owners have ended: they
    /// have to end without it.
    pub fn abandon(&self, who: Endpoint) {
        let is_down = self
            .machines()
            .get(&who)
            .is_some_and(|it| it.node.is_none());
        if is_down && self.abandoned().insert(who) {
            self.history.note(format_args!("{who} does not come back"));
        }
    }

    /// Whether it was, and is still.
    #[must_use]
    pub fn is_abandoned(&self, who: Endpoint) -> bool {
        self.abandoned().contains(&who)
    }

    /// All changes of owners have ended: whoever was abandoned may be started.
    pub fn end_abandonment(&self) {
        self.abandoned().clear();
    }

    fn abandoned(&self) -> MutexGuard<'_, BTreeSet<Endpoint>> {
        let abandoned = self.shared.abandoned.lock();
        abandoned.unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process, if there is none on that machine.
    pub fn start(&self, who: Endpoint) {
        if self.is_abandoned(who) {
            return;
        }
        let mut machines = self.machines();
        let machine = machines.get_mut(&who).expect("a machine for each process");
        if machine.node.is_some() {
            return;
        }
        machine.lives += 1;
        let life = machine.lives;
        let node = self.shared.handle.create_node();
        let node = node.name(format!("{who} life {life}")).build();
        machine.node = Some(node.clone());
        let timers = Rng::new(self.world.seed, &format!("timers {who} {life}"));
        let clock = SimClock::new(machine.wall.clone(), machine.rng.below(1 << 50)).with(
            machine.steady.clone(),
            self.world.time.timers_late_us_max,
            timers,
        );
        let random = SimRandom::new(Rng::new(machine.rng.next_u64(), "process"));
        self.history.note(format_args!("{who} starts, life {life}"));
        self.history.recorder().life(who, Life::Starts);
        let transport = self.transport((who, life), machine.release, clock.clone());
        let spawn = SimSpawn(node.clone());
        match &machine.disk {
            Some(disk) => {
                let world = StorageSide {
                    transport,
                    clock,
                    random,
                    spawn,
                    disk: disk.mount(&node),
                };
                let is_new = life == 1 && self.world.founders().contains(&who);
                drop(node.spawn(self.clone().run_storage(who, node.clone(), world, is_new)));
            }
            None => {
                let (metadata, idempotency) = self.stores((who, life), machine.release);
                let world = CoordinatorSide {
                    clock,
                    random,
                    spawn,
                    transport,
                    metadata,
                    idempotency,
                };
                drop(node.spawn(self.clone().run_coordinator(who, world)));
            }
        }
    }

    /// The way to the storage nodes of a process that speaks this release.
    fn transport(
        &self,
        (who, life): (Endpoint, u32),
        speaks: Release,
        clock: SimClock,
    ) -> SimTransport {
        let room = Rng::new(self.world.seed, &format!("room {who} {life}"));
        SimTransport {
            speaks,
            from: who,
            clock,
            network: self.network.clone(),
            services: self.shared.services.clone(),
            tap: self.tap.clone(),
            room: TransportRoom::new(&self.world, room),
        }
    }

    /// The way to both stores of a coordinator that speaks this release.
    fn stores(
        &self,
        (who, life): (Endpoint, u32),
        speaks: Release,
    ) -> (SimMetadata, SimIdempotency) {
        let link = |to, name| {
            let rng = Rng::new(self.world.seed, &format!("{who} {life} {to}"));
            StoreLink {
                from: who,
                to,
                name,
                network: self.network.clone(),
                faults: self.faults.clone(),
                rng: Arc::new(Mutex::new(rng)),
            }
        };
        let metadata = link(Endpoint::Metadata, "metadata store");
        let idempotency = link(Endpoint::Idempotency, "idempotency store");
        (
            SimMetadata::new(self.shared.metadata.clone(), metadata).speaking(speaks),
            SimIdempotency::new(self.shared.claims.clone(), idempotency),
        )
    }

    /// `is_new`: as a node that is added to the cluster, of whom nobody expects anything that it could have lost.
    async fn run_storage(self, who: Endpoint, node: NodeHandle, world: StorageSide, is_new: bool) {
        let id = NodeId::new(who.id()).expect("a node's id is valid");
        loop {
            match Replica::open(world.clone(), id.clone(), self.world.replica).await {
                Ok(replica) => {
                    if is_new {
                        let adopt = Operation::AdoptEpochIfEmpty {
                            epoch: Epoch(0),
                            is_new: true,
                        };
                        let request = Request {
                            node: id.clone(),
                            epoch: Epoch(0),
                            operation: adopt,
                        };
                        let _ = replica.handle(request).await; // if not, it is refilled
                    }
                    self.history.note(format_args!("{who} serves"));
                    self.history.recorder().life(who, Life::Serves);
                    self.shared.services.put(who, node, replica.clone());
                    self.story.happens(Event::Serves(who));
                    return self.keep_weather(who, &replica).await;
                }
                Err(error) => {
                    self.history
                        .note(format_args!("{who} does not open: {error}"));
                    pause(START_PAUSE).await;
                }
            }
        }
    }

    /// A node that counts for no quorum, or can't write, is not well.
    async fn keep_weather(&self, who: Endpoint, replica: &Replica<StorageSide>) {
        let faults = &self.world.faults;
        let may_fail = faults
            .iter()
            .any(|step| matches!(step.fault, Fault::FailingDisk { .. }));
        loop {
            while replica.is_refilling()
                || replica.refuses_writes().is_some()
                || self.faults.disk_failing(who)
            {
                pause(REFILL_PAUSE).await;
            }
            self.weather.serves(who);
            if !may_fail {
                return;
            }
            while self.weather.is_serving(who) {
                pause(REFILL_PAUSE).await;
            }
        }
    }

    async fn run_coordinator(self, who: Endpoint, world: CoordinatorSide) {
        let coordinator = Coordinator::new(world, &who.id(), self.world.coordinator_settings(who));
        while let Err(error) = coordinator.start().await {
            self.history
                .note(format_args!("{who} does not start: {error}"));
            pause(START_PAUSE).await;
        }
        self.history.note(format_args!("{who} serves"));
        self.history.recorder().life(who, Life::Serves);
        self.weather.serves(who);
        if let Some(machine) = self.machines().get_mut(&who) {
            machine.coordinator = Some(coordinator);
        }
        self.story.happens(Event::Serves(who));
    }

    /// The power of one machine fails.
    pub fn crash(&self, who: Endpoint) {
        if let Some(disk) = self.end_process(who) {
            let loss = disk.crash();
            self.lost(who, loss);
        } else {
            self.history.note(format_args!("{who} crashes"));
        }
    }

    /// A machine's power fails and its disk with it.
    pub fn lose_disk(&self, who: Endpoint) {
        self.end_process(who);
        let disk = self.machines().get(&who).and_then(|m| m.disk.clone());
        if let Some(disk) = disk {
            disk.replace();
            self.tap.lost(who);
            self.tap.fences_lost(who);
            self.history
                .note(format_args!("{who} is down and loses its disk"));
        }
    }

    /// Somebody takes a snapshot of a node's disk.
    pub fn copy_disk(&self, who: Endpoint) {
        let disk = self.machines().get(&who).and_then(|m| m.disk.clone());
        if let Some(disk) = disk {
            disk.copy();
            self.history.note(format_args!("{who} has its disk copied"));
        }
    }

    /// A machine's power fails, and the snapshot is put in its disk's place. It starts with that.
    pub fn put_old_disk(&self, who: Endpoint) {
        self.end_process(who);
        let disk = self.machines().get(&who).and_then(|m| m.disk.clone());
        if let Some(disk) = disk {
            disk.go_back();
            self.tap.went_back(who);
            self.tap.fences_lost(who);
            self.history
                .note(format_args!("{who} gets its older disk back"));
        }
        self.start(who);
    }

    /// A node that is in no topology gets an empty disk, to join (once more), and starts.
    pub fn begin_anew(&self, who: Endpoint) {
        self.abandoned().remove(&who);
        self.end_process(who);
        let disk = self.machines().get(&who).and_then(|m| m.disk.clone());
        if let Some(disk) = disk {
            disk.replace();
            self.tap.begins_anew(who);
            self.history.note(format_args!("{who} gets an empty disk"));
        }
        self.start(who);
    }

    /// A machine's power fails, and its journal is damaged: what was committed last is gone, acknowledged or not.
    pub fn damage_journal(&self, who: Endpoint, commits: u32) {
        self.crash(who);
        let disk = self.machines().get(&who).and_then(|m| m.disk.clone());
        if let Some(disk) = disk {
            let lost = disk.lose_durable(commits);
            self.tap.lost(who);
            self.tap.fences_lost(who);
            self.history.note(format_args!(
                "{who} has a damaged journal: {lost} durable commits are lost"
            ));
        }
    }

    /// A process is stopped, and another release of the program is installed: the next one is of that.
    pub async fn install(&self, who: Endpoint, release: Release) {
        // Before it stops, for somebody else may start the next one while that takes its time.
        if let Some(machine) = self.machines().get_mut(&who) {
            machine.release = release;
        }
        self.stop(who).await;
        self.history
            .note(format_args!("{who} gets another release: {release}"));
    }

    /// A process is asked to stop, gets a moment for it, and ends.
    pub async fn stop(&self, who: Endpoint) {
        let (node, coordinator) = {
            let machines = self.machines();
            let machine = machines.get(&who).expect("a machine for each process");
            (machine.node.clone(), machine.coordinator.clone())
        };
        let Some(node) = node else {
            return;
        };
        self.history.note(format_args!("{who} is asked to stop"));
        self.weather.is_gone(who);
        if let Some(coordinator) = coordinator {
            coordinator.stop();
            pause(Duration::from_millis(200)).await;
        }
        if let Some(replica) = self.shared.services.remove(who) {
            let (done, is_done) = futures::channel::oneshot::channel::<()>();
            drop(node.spawn(async move {
                let _ = replica.stop().await;
                drop(done);
            }));
            let patience = pause(Duration::from_secs(2));
            futures::future::select(is_done, Box::pin(patience)).await;
        }
        // Somebody else may have ended it, and started the next, meanwhile.
        let same = self
            .machines()
            .get(&who)
            .and_then(|machine| machine.node.as_ref().map(NodeHandle::id));
        if same == Some(node.id())
            && let Some(disk) = self.end_process(who)
        {
            let loss = disk.process_ended();
            self.lost(who, loss);
        }
    }

    fn lost(&self, who: Endpoint, loss: Loss) {
        let Loss {
            completed,
            under_way,
            kept,
        } = loss;
        self.history.note(format_args!(
            "{who} ends; commits lost: {completed} completed, {under_way} under way; kept {kept}"
        ));
        if completed > 0 {
            self.tap.lost(who);
        }
    }

    /// Ends a process's tasks, wherever they wait. Returns the machine's disk, if there was a process and there is a
    /// disk.
    fn end_process(&self, who: Endpoint) -> Option<Disk> {
        self.shared.services.remove(who);
        let mut machines = self.machines();
        let machine = machines.get_mut(&who).expect("a machine for each process");
        machine.coordinator = None;
        machine.paused = false;
        let node = machine.node.take()?;
        self.shared.handle.kill(node.id());
        self.tap.ended(who);
        self.weather.is_gone(who);
        machine.disk.clone()
    }

    /// The run is over: every task is dropped, wherever it waits.
    pub fn shut_down(&self, people: &NodeHandle) {
        let handle = &self.shared.handle;
        for who in self.processes() {
            self.shared.services.remove(who);
            let mut machines = self.machines();
            let machine = machines.get_mut(&who).expect("a machine for each process");
            machine.coordinator = None;
            if let Some(node) = machine.node.take() {
                handle.kill(node.id());
            }
        }
        handle.kill(people.id());
        handle.kill(self.network.wire().id());
    }

    /// Whoever leads changes of owners crashes: that is fault `index`.
    pub fn crash_leader(&self, index: usize) {
        let Some(who) = self.leader() else {
            return;
        };
        let crashed = self.shared.crashed_leaders.lock();
        let mut crashed = crashed.unwrap_or_else(PoisonError::into_inner);
        crashed.insert(index, who);
        drop(crashed);
        self.crash(who);
    }

    /// Whom fault `index` had crash starts again.
    pub fn start_leader(&self, index: usize) {
        let crashed = self.shared.crashed_leaders.lock();
        let crashed = crashed.unwrap_or_else(PoisonError::into_inner);
        let who = crashed.get(&index).copied();
        drop(crashed);
        who.into_iter().for_each(|who| self.start(who));
    }

    /// A process stands still, or goes on.
    pub fn set_paused(&self, who: Endpoint, paused: bool) {
        let now = self.history.now();
        let mut machines = self.machines();
        let machine = machines.get_mut(&who).expect("a machine for each process");
        let Some(node) = &machine.node else {
            return;
        };
        if machine.paused == paused {
            return;
        }
        machine.paused = paused;
        machine.paused_at = Some(now);
        match paused {
            true => self.shared.handle.pause(node.id()),
            false => self.shared.handle.resume(node.id()),
        }
    }
}
