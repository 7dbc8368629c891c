//! Who missed a write is noted as a hint by an owner that has it, durably, and gets the write when it is back.
//!
//! The coordinator only says so; it keeps nothing. If it dies between the answer and the hint, or no owner takes the
//! hint, the difference is found when owners are compared.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;

use super::owners::Owners;
use super::settings::CoordinatorSettings;
use super::topologies::Topologies;
use crate::mutant::{self, Mutant};
use crate::placement::NodeId;
use crate::ports::{Clock, CoordinatorWorld, DeliverHints, ForgetHints, Hint, Instant, RecordKey};

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Hints<W: CoordinatorWorld> {
    pub(super) world: W,
    pub(super) settings: Arc<CoordinatorSettings>,
    pub(super) topologies: Arc<Topologies<W>>,
}

impl<W: CoordinatorWorld> Hints<W> {
    /// Has one of `holders`, who have the record of `key`, note that those in `missed` may lack it. Returns whether one
    /// did, or nobody missed it.
    pub(super) async fn leave(
        &self,
        owners: &Owners<W>,
        key: &RecordKey,
        holders: &[usize],
        missed: &[usize],
    ) -> bool {
        if missed.is_empty() || mutant::on(Mutant::HintSkipped) {
            return true;
        }
        let targets: Vec<_> = missed.iter().map(|p| owners.node(*p).clone()).collect();
        for holder in holders {
            let hint = Hint {
                key: key.clone(),
                targets: targets.clone(),
            };
            let deadline = self.world.clock().now() + self.settings.write_timeout;
            if owners.call(*holder, hint, deadline).await.result.is_ok() {
                return true;
            }
        }
        false
    }

    /// Tells who holds hints for nodes that are back, and who holds hints for nodes that are none any more.
    pub(super) async fn mind(&self, deadline: Instant) {
        let routing = self.topologies.routing();
        let back: Vec<NodeId> = routing
            .nodes()
            .filter(|(_, health)| health.take_back())
            .map(|(node, _)| node.id.clone())
            .collect();
        // Of whom a newer topology tells is not known here.
        let is_newest = routing.nodes().all(|(_, health)| {
            let epoch = health.with_report(|report| report.map(|report| report.epoch));
            epoch.is_none_or(|epoch| epoch <= routing.epoch())
        });
        let mut calls = FuturesUnordered::new();
        for (index, (_, health)) in (0..).zip(routing.nodes()) {
            let targets = health.with_report(|report| match report {
                Some(report) => report.hints.iter().map(|h| h.target.clone()).collect(),
                None => Vec::new(),
            });
            for target in targets {
                let owners = Owners::of_node(self.world.clone(), Arc::clone(&routing), index);
                let told = match routing.topology().node(&target) {
                    Some(target) if back.contains(&target.id) => {
                        let target = target.clone();
                        Either::Left(DeliverHints { target })
                    }
                    Some(_) => continue,
                    None if !is_newest => continue,
                    None => Either::Right(ForgetHints {
                        target,
                        partitions: Vec::new(),
                    }),
                };
                calls.push(async move {
                    let told = match told {
                        Either::Left(deliver) => owners.call_quietly(0, deliver, deadline).await,
                        Either::Right(forget) => owners.call_quietly(0, forget, deadline).await,
                    };
                    drop(told); // if not now, then when it is next asked how it is
                });
            }
        }
        while calls.next().await.is_some() {}
    }
}
