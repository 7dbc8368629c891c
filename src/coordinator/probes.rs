//! Storage nodes are asked how they are, every second: their health, their epochs, their clocks.
//!
//! What it is not: needed to serve. A node is asked for what it has whatever was last heard of it; probes order owners,
//! and let what a node can't tell by its answers be known.

use std::sync::Arc;

use super::clock_watch::{ClockWatch, Tell};
use super::cluster_clock::ClusterClock;
use super::hints::Hints;
use super::owners::Owners;
use super::settings::CoordinatorSettings;
use super::topologies::Topologies;
use super::wait::before;
use crate::placement::NodeId;
use crate::ports::{Clock, CoordinatorWorld, Instant, NodeReport, Probe, Stop};

/// See the [module](self).
pub(super) struct Probes<W: CoordinatorWorld> {
    pub(super) world: W,
    /// The coordinator's, for diagnostics.
    pub(super) name: String,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) topologies: Arc<Topologies<W>>,
    pub(super) hints: Hints<W>,
    pub(super) stamps: Arc<ClusterClock>,
    pub(super) clocks: Arc<ClockWatch>,
}

impl<W: CoordinatorWorld> Probes<W> {
    /// Asks until `stop`.
    pub(super) async fn ask_now_and_then(&self, stop: &Stop) {
        let interval = self.settings.probe_interval;
        let clock = self.world.clock();
        loop {
            let next = clock.now() + interval;
            let probe = async {
                self.ask(next).await;
                futures::join!(self.topologies.mind_epochs(next), self.hints.mind(next));
                clock.sleep_until(next).await;
            };
            if stop.or(probe).await.is_none() {
                return;
            }
        }
    }

    /// Asks every node how it is, until `deadline`, and keeps what they say.
    pub(super) async fn ask(&self, deadline: Instant) {
        let routing = self.topologies.routing();
        let clock = self.world.clock();
        let probes = (0..routing.topology().nodes.len() as u16).map(|index| {
            let owners = Owners::of_node(self.world.clone(), Arc::clone(&routing), index);
            async move {
                let (asked_at, sent_ms) = (clock.now(), clock.wall_ms());
                let answer = owners.call(0, Probe, deadline).await;
                let received_ms = clock.wall_ms();
                if let Ok(report) = answer.result {
                    self.learn(&owners, report, asked_at, sent_ms / 2 + received_ms / 2);
                }
            }
        });
        before(clock, deadline, futures::future::join_all(probes)).await;
    }

    fn learn(&self, owners: &Owners<W>, report: NodeReport, asked_at: Instant, own_wall_ms: u64) {
        let offset_ms =
            i64::try_from(i128::from(report.wall_ms) - i128::from(own_wall_ms)).unwrap_or(i64::MAX);
        let ahead_ms = self.stamps.probed(&report.node, offset_ms);
        self.watch_clocks(&report.node, ahead_ms, offset_ms.saturating_add(ahead_ms));
        let out_of_step = self.topologies.routing().doubts(report.epoch);
        owners.health(0).set_out_of_step(out_of_step);
        owners.health(0).reported(report, asked_at);
    }

    /// Tells the log of clocks that are ahead of the median: our own, and a node's.
    fn watch_clocks(&self, node: &NodeId, own_ahead_ms: i64, ahead_ms: i64) {
        let most = self.settings.clock_ahead_max.as_millis();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let now = self.world.clock().now();
        let (coordinator, clocks) = (&self.name, &self.clocks);
        match clocks.saw(None, own_ahead_ms > most, now) {
            Some(Tell::Ahead) => tracing::warn!(
                coordinator,
                ahead_ms = own_ahead_ms,
                "own wall clock is ahead of the storage nodes'"
            ),
            Some(Tell::RightAgain) => {
                tracing::info!(coordinator, "own wall clock is right again");
            }
            None => {}
        }
        // While our own is wrong, what theirs look like from here says nothing.
        if own_ahead_ms > most {
            return;
        }
        match clocks.saw(Some(node.clone()), ahead_ms > most, now) {
            Some(Tell::Ahead) => tracing::warn!(%node, ahead_ms, "wall clock ahead"),
            Some(Tell::RightAgain) => tracing::info!(%node, "wall clock right again"),
            None => {}
        }
    }
}
