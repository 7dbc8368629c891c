//! The topology in use, and the one way to another one.
//!
//! A newer topology comes from the metadata store: because a watch told of it, because a storage node refused for its
//! epoch, because this coordinator changed it, or because it is looked up now and then. Whatever the reason, it is
//! taken into use by [`Topologies::take`], which forgets what was kept of nodes that left. Older ones are not.
//!
//! A node that refuses for an epoch that can't be had makes epochs from that one on *doubted*: see
//! [`routing`](super::routing).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::lock::Mutex as AsyncMutex;
use futures::stream::BoxStream;

use super::CoordinatorError;
use super::ahead::Ahead;
use super::clock_watch::ClockWatch;
use super::cluster_clock::ClusterClock;
use super::metadata::Metadata;
use super::owners::Owners;
use super::routing::{CurrentRouting, Routing};
use super::settings::CoordinatorSettings;
use super::tenants::{Factor, TenantCache};
use super::wait::before;
use crate::buggify::{self, Site};
use crate::marks::{self, Mark};
use crate::placement::{DEFAULT_PARTITIONS, Epoch, NodeId, Topology};
use crate::ports::{
    Change, Clock, CoordinatorWorld, Instant, MetadataEvent, MetadataStore, RecordKey, Stop,
    StoreError, TenantId,
};
use crate::version::Stamp;

/// How soon a watch of the metadata that has ended is begun anew.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Topologies<W: CoordinatorWorld> {
    world: W,
    /// The coordinator's, for diagnostics.
    name: String,
    settings: Arc<CoordinatorSettings>,
    metadata: Arc<Metadata<W>>,
    tenants: Arc<TenantCache<W>>,
    current: CurrentRouting,
    /// One refresh at a time; those who wait find it done.
    refreshing: AsyncMutex<()>,
    /// Epochs that storage nodes know and the metadata store does not.
    ahead: Ahead,
    stamps: Arc<ClusterClock>,
    clocks: Arc<ClockWatch>,
}

impl<W: CoordinatorWorld> Topologies<W> {
    /// None is known yet.
    pub(super) fn new(
        world: W,
        name: &str,
        settings: Arc<CoordinatorSettings>,
        (metadata, tenants): (Arc<Metadata<W>>, Arc<TenantCache<W>>),
        (stamps, clocks): (Arc<ClusterClock>, Arc<ClockWatch>),
    ) -> Self {
        let none = Topology::empty(DEFAULT_PARTITIONS);
        Self {
            world,
            name: name.to_owned(),
            settings,
            metadata,
            tenants,
            current: CurrentRouting::new(none),
            refreshing: AsyncMutex::new(()),
            ahead: Ahead::default(),
            stamps,
            clocks,
        }
    }

    /// A stamp above all that were drawn or met here, as the next write would get it.
    pub(super) fn draw_stamp(&self) -> Stamp {
        self.stamps.tick(self.world.clock().wall_ms())
    }

    /// The routing table in use.
    pub(super) fn routing(&self) -> Arc<Routing> {
        self.current.get()
    }

    /// The owners of a key, by the routing table in use and a replication factor that fits it: what is older is looked
    /// up anew.
    pub(super) async fn owners(
        &self,
        key: &RecordKey,
        factor: &mut Factor,
        deadline: Instant,
    ) -> Result<Owners<W>, CoordinatorError> {
        let mut routing = self.routing();
        // Each turn hears of something newer from the store, or fails with it.
        while !factor.fits(&routing) {
            if !factor.is_of(&routing) {
                marks::reached(Mark::TenantNewerThanTopology);
                self.fetch(deadline).await?;
                routing = self.routing();
                if factor.fits(&routing) {
                    break;
                }
            }
            let tenant = TenantId::new(key.tenant())
                .map_err(|_| CoordinatorError::TenantNotFound(key.tenant().to_owned()))?;
            let tenant = self.tenants.get(&tenant, &routing, deadline).await?;
            *factor = tenant.factor();
            routing = self.routing();
        }
        Ok(self.owners_by(routing, key, factor.replicas))
    }

    /// The owners of a key by this routing table.
    pub(super) fn owners_by(
        &self,
        routing: Arc<Routing>,
        key: &RecordKey,
        replicas: u8,
    ) -> Owners<W> {
        let patience_min = self.settings.stamp_patience_min;
        Owners::new(self.world.clone(), routing, key, replicas, patience_min)
    }

    /// Takes a topology into use, if it is newer than the one that is.
    pub(super) fn take(&self, topology: Topology) {
        if !self.current.advance(topology) {
            return;
        }
        let routing = self.routing();
        let stays = |id: &NodeId| routing.topology().node(id).is_some();
        self.stamps.keep(stays);
        self.clocks.keep(stays);
        tracing::info!(
            coordinator = self.name,
            epoch = routing.epoch().0,
            "new topology"
        );
    }

    /// Takes the stored topology into use if it is newer, and returns it.
    pub(super) async fn fetch(&self, deadline: Instant) -> Result<Topology, StoreError> {
        let stored = self.metadata.topology(deadline).await?;
        if stored.epoch > self.routing().epoch() {
            self.take(stored.clone());
        }
        Ok(stored)
    }

    /// Stores `next` in the place of the topology of epoch `expected`; what is stored then, is taken into use if it is
    /// newer.
    pub(super) async fn replace(
        &self,
        expected: Epoch,
        next: Topology,
        deadline: Instant,
    ) -> Result<Change<Topology>, StoreError> {
        let replaced = self.metadata.store().replace_topology(expected, next);
        let change = self.metadata.in_time(deadline, replaced).await?;
        if let Change::Made(topology) | Change::Conflict(Some(topology)) = &change {
            self.take(topology.clone());
        }
        Ok(change)
    }

    /// Takes a topology into use that is at least as new as `newer`, which a replica told of; or doubts that there is
    /// one, so that its owners go without that replica. Takes half of the time until `deadline` at most.
    pub(super) async fn refresh(&self, newer: Epoch, deadline: Instant) {
        let clock = self.world.clock();
        let now = clock.now();
        let deadline = now + deadline.since(now) / 2;
        let refreshed = before(clock, deadline, async {
            let _one_at_a_time = self.refreshing.lock().await;
            self.catch_up(newer, deadline).await
        });
        let cause = match refreshed.await {
            Some(Ok(())) => "the metadata store does not know it".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "the metadata store did not answer in time".to_owned(),
        };
        let routing = self.routing();
        if routing.epoch() < newer && routing.doubt(newer) {
            tracing::warn!(
                coordinator = self.name,
                epoch = newer.0,
                in_use = routing.epoch().0,
                cause,
                "a storage node refuses for an epoch that can't be had; it counts as missing"
            );
        }
    }

    /// Too few of the owners by `routing` could be had. Whether there is a newer topology now, where some of them may
    /// have been missing only because they were doubted.
    pub(super) async fn is_over_doubt(&self, routing: &Routing, deadline: Instant) -> bool {
        if let Some(epoch) = routing.doubted_from() {
            routing.doubt_only(None);
            self.refresh(epoch, deadline).await;
        }
        self.routing().epoch() > routing.epoch()
    }

    async fn catch_up(&self, newer: Epoch, deadline: Instant) -> Result<(), StoreError> {
        let routing = self.routing();
        if routing.epoch() >= newer || routing.doubts(newer) {
            marks::reached(Mark::TopologyAlreadyFresh);
            return Ok(());
        }
        let stored = self.metadata.topology(deadline).await?;
        if stored.epoch < newer && newer.is_plausible(stored.epoch) {
            return self.publish_adopted(stored, newer, deadline).await;
        }
        marks::reached(Mark::TopologyRefreshed);
        self.take(stored);
        Ok(())
    }

    /// A change of topology was begun, some replica adopted its epoch, and whoever began it never published it; or the
    /// metadata store has lost the epoch. Publishes what is stored under that epoch, so that the replica serves again.
    async fn publish_adopted(
        &self,
        stored: Topology,
        adopted: Epoch,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let expected = stored.epoch;
        let next = stored.at(adopted);
        if let Change::Made(_) | Change::Conflict(Some(_)) =
            self.replace(expected, next, deadline).await?
        {
            marks::reached(Mark::AdoptedPublished);
        }
        Ok(())
    }

    /// Publishes an epoch that is above all in use here, with the nodes that are stored. `None`: the topology was
    /// changed by somebody else.
    pub(super) async fn next_epoch(&self) -> Result<Option<Epoch>, StoreError> {
        let in_use = self.routing();
        let mut stored = in_use.topology().clone();
        loop {
            let expected = stored.epoch;
            let Some(epoch) = in_use.epoch().max(expected).next() else {
                return Ok(None);
            };
            // What is in use here is newer than what a store knows that failed over to a copy.
            let newer = match in_use.epoch() > stored.epoch {
                true => in_use.topology(),
                false => &stored,
            };
            let next = newer.at(epoch);
            match self
                .replace(expected, next, self.metadata.deadline())
                .await?
            {
                Change::Made(_) => return Ok(Some(epoch)),
                // A store that failed over to a copy knows less than what is in use.
                Change::Conflict(Some(older)) if older.epoch < expected => stored = older,
                Change::Conflict(_) => return Ok(None),
            }
        }
    }

    /// Looks after nodes that know newer epochs than the one in use, whether or not anybody asks them for anything:
    /// brings them and the metadata store together where that can be, and finds out when what was doubted is no more.
    pub(super) async fn mind_epochs(&self, deadline: Instant) {
        let routing = self.routing();
        let newer: Vec<Epoch> = routing
            .nodes()
            .filter_map(|(_, health)| {
                health.with_report(|report| report.map(|report| report.epoch))
            })
            .filter(|epoch| *epoch > routing.epoch())
            .collect();
        if newer.is_empty() && routing.doubted_from().is_none() {
            return self.ahead.forget();
        }
        let Ok(stored) = self.fetch(deadline).await else {
            return;
        };
        // Somebody may be about to publish it: left alone for as long as that may take.
        let is_believed =
            |epoch: &&Epoch| **epoch > stored.epoch && epoch.is_plausible(stored.epoch);
        let (now, long) = (self.world.clock().now(), self.settings.write_timeout);
        if let Some(epoch) = newer.iter().filter(is_believed).max()
            && self.ahead.has_stood(*epoch, now, long)
        {
            self.refresh(*epoch, deadline).await;
        }
        // The rest can't be. It is doubted before anybody meets it.
        let routing = self.routing();
        let impossible = newer
            .into_iter()
            .filter(|epoch| !epoch.is_plausible(routing.epoch()))
            .min();
        if routing.doubt_only(impossible)
            && let Some(epoch) = impossible
        {
            tracing::error!(
                coordinator = self.name,
                epoch = epoch.0,
                in_use = routing.epoch().0,
                "a storage node knows an epoch that can't be; it counts as missing until its epoch is set back"
            );
        }
    }

    /// Hears of changes until `stop`. `forget` is told which tenant changed; `None`: any may have.
    pub(super) async fn watch(
        &self,
        mut events: BoxStream<'static, MetadataEvent>,
        stop: &Stop,
        forget: impl Fn(Option<&TenantId>),
    ) {
        while let Some(event) = stop.or(events.next()).await {
            match event {
                Some(MetadataEvent::Tenant(id)) => forget(Some(&id)),
                Some(MetadataEvent::Topology(epoch)) if epoch > self.routing().epoch() => {
                    marks::reached(Mark::MetadataWatched);
                    self.refresh_once().await
                }
                // Keys are the front's business.
                Some(MetadataEvent::Topology(_) | MetadataEvent::ApiKey(_)) => {}
                Some(MetadataEvent::Missed) => self.missed_changes(&forget).await,
                // It ends with the store only, and then what is left is the backstop; but better once too often.
                None => {
                    let pause = self.world.clock().sleep(WATCH_PAUSE);
                    if stop.or(pause).await.is_none() {
                        return;
                    }
                    events = self.metadata.store().watch().boxed();
                    self.missed_changes(&forget).await;
                }
            }
        }
    }

    /// Whatever is kept of the metadata may be out of date: it is looked up anew before it is used again.
    async fn missed_changes(&self, forget: &impl Fn(Option<&TenantId>)) {
        tracing::warn!(
            coordinator = self.name,
            "changes of the metadata were missed; everything kept of it is looked up anew"
        );
        forget(None);
        self.refresh_once().await;
    }

    /// The backstop behind the watch.
    pub(super) async fn refresh_now_and_then(&self, stop: &Stop) {
        let pause = || {
            let pause = self.settings.topology_refresh;
            let early = buggify::on(Site::TopologyRefreshed);
            let pause = if early { pause / 16 } else { pause };
            self.world.clock().sleep(pause)
        };
        while stop.or(pause()).await.is_some() {
            self.refresh_once().await;
        }
    }

    async fn refresh_once(&self) {
        if let Err(error) = self.fetch(self.metadata.deadline()).await {
            tracing::warn!(coordinator = self.name, %error, "can't refresh the topology");
        }
    }
}
