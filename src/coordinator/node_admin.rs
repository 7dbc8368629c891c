//! Storage nodes as people add, remove, replace and change them.
//!
//! While every node is empty nothing has to move, and a change is made at once. Each node, a new one included, promises
//! in one step that it is empty and refuses the old epoch from then on, so no write can slip in before the change. Only
//! a node that does not answer can be removed by force, without its promise.
//!
//! As soon as one node holds something, a change is asked for instead: a migration carries it out.
//!
//! What is checked here is what people get wrong: a newcomer that is not there or not empty, a node that is given up
//! though it answers, one that is to hand over what it has and does not answer. Whether nodes still answer when their
//! turn comes, the migration sees.

use super::asked_already::{Cluster, Known};
use super::migration::{Forecast, KEPT, refused};
use super::older::refuse_older;
use super::pass_failure::in_words;
use super::promise::ask_promise;
use super::tenant_admin::Admin;
use super::{CoordinatorError, validate::invalid};
use crate::placement::{
    ChangeId, ChangeRequest, Epoch, Node, NodeChange, NodeId, RefusedChange, Topology,
};
use crate::ports::{
    Ask, CallError, Change, Clock, CoordinatorWorld, Instant, MetadataStore, Migration, NodeReport,
    Operation, Probe, ReplicaTransport, Request, answer_to,
};

/// A storage node as the topology and its own last report show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeOverview {
    /// What the topology says.
    pub node: Node,
    /// What the node said when it was last probed; `None` if it never answered this coordinator.
    pub report: Option<NodeReport>,
    /// Whether it answers, if only to refuse.
    pub answers: bool,
    /// Whether it does what it is asked for.
    pub healthy: bool,
    /// Whether it refuses everything for an epoch that the metadata store does not have; then it counts as missing.
    pub out_of_step: bool,
    /// The migration under way that makes it join, leave, or own another share.
    pub changed_by: Option<ChangeId>,
}

/// What came of asking for a change of nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodesChanged {
    /// Everything was so already.
    Already {
        /// The topology in which it is.
        topology: Topology,
        /// The migration that brought it about, if one did that is known still.
        by: Option<ChangeId>,
    },
    /// Nothing had to move, so it was made at once.
    AtOnce {
        /// The topology since then.
        topology: Topology,
        /// Nodes that did not promise to be empty: what they may hold is given up.
        given_up: Vec<NodeId>,
    },
    /// Data has to move: it waits for its turn, and is carried out in the background.
    Asked {
        /// As it was asked for.
        migration: Migration,
        /// How many are to be carried out before it.
        ahead: usize,
    },
}

/// Why a node did not promise to be empty.
enum NoPromise {
    HoldsData(String),
    Silent(String),
}

impl NoPromise {
    fn into_error(self) -> CoordinatorError {
        match self {
            Self::HoldsData(text) | Self::Silent(text) => CoordinatorError::NodeInUse(text),
        }
    }
}

fn promise(change: &str, name: &str, answer: Result<bool, CallError>) -> Result<(), NoPromise> {
    match answer {
        Ok(true) => Ok(()),
        Ok(false) => Err(NoPromise::HoldsData(format!("{change}: {name} holds data"))),
        Err(error) => Err(NoPromise::Silent(format!(
            "{change}: {name} must answer that it holds no data, and did not ({}); start it and try again",
            in_words(&error)
        ))),
    }
}

fn changed_meanwhile(change: &str) -> CoordinatorError {
    CoordinatorError::NodeInUse(format!(
        "{change}: the topology was changed by somebody else at the same time; look at it and try again"
    ))
}

/// What an attempt to make a change at once came to.
enum Attempt {
    Made(Box<NodesChanged>),
    /// Somebody holds data.
    HasToMove,
}

impl<W: CoordinatorWorld> Admin<W> {
    /// The storage nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeOverview> {
        let routing = self.topologies.routing();
        let change = routing.topology().change.as_deref();
        let changed_by = |node: &Node| {
            let change = change?;
            let target = change.target.iter().find(|other| other.id == node.id);
            (target != Some(node)).then(|| change.id.clone())
        };
        let overview = routing.nodes().map(|(node, health)| NodeOverview {
            node: node.clone(),
            report: health.report(),
            answers: health.answers(),
            healthy: health.is_healthy(),
            out_of_step: health.is_out_of_step(),
            changed_by: changed_by(node),
        });
        overview.collect()
    }

    /// Changes nodes: at once while nobody holds anything, and otherwise by a migration. Asked again for what was asked
    /// for already, it changes nothing.
    ///
    /// # Errors
    /// [`CoordinatorError::NodeInUse`] when a newcomer does not answer or is not empty, when a node is given up that
    /// answers or one is to hand over what it holds that does not, when another change came first, and as for
    /// [`Admin::request_change`].
    pub async fn change_nodes(
        &self,
        request: ChangeRequest,
    ) -> Result<NodesChanged, CoordinatorError> {
        let change = described(&request)?;
        let deadline = self.metadata.deadline();
        let stored = self.topologies.fetch(deadline).await?;
        let open = self.open_migrations().await?;
        match self.known(&request, &stored, &open).await? {
            None => {}
            Some(Known::OnItsWay(migration, ahead)) => {
                let migration = *migration;
                return Ok(NodesChanged::Asked { migration, ahead });
            }
            Some(Known::So(by)) => {
                let topology = stored;
                return Ok(NodesChanged::Already { topology, by });
            }
        }
        // First the newcomers: while they don't answer nothing has changed anywhere.
        let next = next_epoch(&stored)?;
        for node in request.newcomers() {
            let is_new = stored.node(&node.id).is_none();
            let answer = ask_promise(&self.world, node, (next, is_new), deadline).await;
            promise(&change, node.id.as_str(), answer).map_err(NoPromise::into_error)?;
        }
        if self.may_change_at_once(&request, &stored, &open) {
            if self.topologies.routing().epoch() != stored.epoch {
                return Err(changed_meanwhile(&change));
            }
            match self
                .change_at_once(&change, &stored, &request, deadline)
                .await?
            {
                Attempt::Made(made) => return Ok(*made),
                Attempt::HasToMove => {}
            }
        }
        self.check_leavers(&change, &stored, &request, deadline)
            .await?;
        let migration = self.request_change(request).await?;
        let ahead = open.len();
        Ok(NodesChanged::Asked { migration, ahead })
    }

    /// What a change would move, if it is one that could be asked for now. Nobody is asked to promise anything.
    ///
    /// # Errors
    /// As for [`Admin::change_nodes`].
    pub async fn plan_nodes(&self, request: &ChangeRequest) -> Result<Forecast, CoordinatorError> {
        let change = described(request)?;
        let deadline = self.metadata.deadline();
        let stored = self.topologies.fetch(deadline).await?;
        let open = self.open_migrations().await?;
        if self.known(request, &stored, &open).await?.is_some() {
            return self.forecast_change(&ChangeRequest::default()).await;
        }
        for node in request.newcomers() {
            let answer = self.is_empty(node, stored.epoch, deadline).await;
            promise(&change, node.id.as_str(), answer).map_err(NoPromise::into_error)?;
        }
        if self.may_change_at_once(request, &stored, &open)
            && self
                .all_are_empty(&change, &stored, request, deadline)
                .await?
        {
            return self.forecast_at_once(stored, request).await;
        }
        self.check_leavers(&change, &stored, request, deadline)
            .await?;
        let until = self.world.clock().now() + self.settings.probe_interval;
        refuse_older(&self.world, &self.topologies.routing(), None, until).await?;
        self.forecast_change(request).await
    }

    /// Whether all nodes would promise that they hold nothing, those left out that are given up and silent. As
    /// [`Admin::change_at_once`] asks, without any promise.
    async fn all_are_empty(
        &self,
        change: &str,
        stored: &Topology,
        request: &ChangeRequest,
        deadline: Instant,
    ) -> Result<bool, CoordinatorError> {
        let mut silent = None;
        for node in &stored.nodes {
            let answer = self.is_empty(node, stored.epoch, deadline).await;
            let is_lost = matches!(&answer, Err(CallError::NotSent(_) | CallError::NoAnswer(_)));
            if is_lost && is_forced(request, &node.id) {
                continue;
            }
            match promise(change, node.id.as_str(), answer) {
                Ok(()) => {}
                Err(NoPromise::HoldsData(_)) => return Ok(false),
                Err(NoPromise::Silent(text)) => silent = silent.or(Some(text)),
            }
        }
        silent.map_or(Ok(true), |text| Err(CoordinatorError::NodeInUse(text)))
    }

    /// Whether a node says that it holds nothing.
    async fn is_empty(
        &self,
        node: &Node,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<bool, CallError> {
        let probe = Request {
            node: node.id.clone(),
            epoch,
            operation: Probe.into_operation(),
        };
        let answer = self.world.transport().call(node, probe, deadline).await;
        answer_to::<Probe>(answer).map(|report| report.keys == 0)
    }

    /// What is known of a request that may have been made before.
    async fn known(
        &self,
        request: &ChangeRequest,
        stored: &Topology,
        open: &[Migration],
    ) -> Result<Option<Known>, CoordinatorError> {
        let over = self.metadata.store().migrations(open.len() + KEPT);
        let mut over = self
            .metadata
            .in_time(self.metadata.deadline(), over)
            .await?;
        over.retain(|migration| !migration.status.is_open());
        let over = &over;
        Ok(Cluster { stored, open, over }.known(request))
    }

    /// Whether nothing is known to have to move.
    fn may_change_at_once(
        &self,
        request: &ChangeRequest,
        stored: &Topology,
        open: &[Migration],
    ) -> bool {
        let is_free = open.is_empty() && stored.change.is_none() && request.factors.is_empty();
        is_free && !self.somebody_reports_data()
    }

    /// Whether some node said that it holds records when it was last asked. One that says so and then falls silent
    /// holds them still.
    fn somebody_reports_data(&self) -> bool {
        let routing = self.topologies.routing();
        routing
            .nodes()
            .any(|(_, health)| health.with_report(|report| report.is_some_and(|r| r.keys > 0)))
    }

    /// Makes a change if every node promises that it is empty. The newcomers have promised already.
    async fn change_at_once(
        &self,
        change: &str,
        current: &Topology,
        request: &ChangeRequest,
        deadline: Instant,
    ) -> Result<Attempt, CoordinatorError> {
        let mut next = current.at(next_epoch(current)?);
        next.nodes = nodes_after(&current.nodes, request).map_err(refused)?;
        next.validate()
            .map_err(|error| invalid("node_id", error.to_string()))?;
        let (leavers, others): (Vec<_>, Vec<_>) = current
            .nodes
            .iter()
            .filter(|node| request.newcomers().all(|newcomer| newcomer.id != node.id))
            .partition(|node| next.node(&node.id).is_none());
        let mut silent = None;
        for other in others {
            let answer = self.adopts_if_empty(&other.id, next.epoch, deadline).await;
            match promise(change, other.id.as_str(), answer) {
                Ok(()) => {}
                Err(NoPromise::HoldsData(_)) => return Ok(Attempt::HasToMove),
                // The next one may hold data: then this one need not answer now.
                Err(NoPromise::Silent(text)) => silent = silent.or(Some(text)),
            }
        }
        if let Some(text) = silent {
            return Err(CoordinatorError::NodeInUse(text));
        }
        let mut given_up = Vec::new();
        for leaver in leavers {
            // Half of what is left, so that there is time to publish.
            let left = deadline.since(self.world.clock().now());
            let patience = self.world.clock().now() + left / 2;
            let (id, force) = (&leaver.id, is_forced(request, &leaver.id));
            match self.adopts_if_empty(id, next.epoch, patience).await {
                Err(CallError::NotSent(_) | CallError::NoAnswer(_)) if force => {
                    given_up.push(id.clone());
                }
                answer => match promise(change, id.as_str(), answer) {
                    Ok(()) => {}
                    Err(NoPromise::HoldsData(_)) => return Ok(Attempt::HasToMove),
                    Err(NoPromise::Silent(text)) => {
                        return Err(CoordinatorError::NodeInUse(format!(
                            "{text}, or remove it by force if it never comes back"
                        )));
                    }
                },
            }
        }
        let topology = self.publish(change, current, next, deadline).await?;
        // Whoever asks next how the nodes are is told of new ones as well.
        let soon = self.world.clock().now() + self.settings.probe_interval;
        self.probes.ask(deadline.min(soon)).await;
        let made = NodesChanged::AtOnce { topology, given_up };
        Ok(Attempt::Made(Box::new(made)))
    }

    /// Who leaves by force must not answer; who leaves without must, since it is to hand over what it holds.
    async fn check_leavers(
        &self,
        change: &str,
        current: &Topology,
        request: &ChangeRequest,
        deadline: Instant,
    ) -> Result<(), CoordinatorError> {
        for (id, force) in request.leavers() {
            let Some(node) = current.node(id) else {
                continue; // it joins by a migration that was asked for before, or there is none of that name
            };
            let probe = Request {
                node: id.clone(),
                epoch: current.epoch,
                operation: Operation::Probe,
            };
            let left = deadline.since(self.world.clock().now());
            let patience = self.world.clock().now() + left / 2;
            let answer = self.world.transport().call(node, probe, patience).await;
            match (force, answer) {
                (true, Ok(_) | Err(CallError::Refused(_))) => {
                    return Err(CoordinatorError::NodeInUse(format!(
                        "{change}: {id} answers, and holds data that it can hand over; leave out force, or stop {id} first \
                         if what only it holds is to be given up"
                    )));
                }
                (false, Err(error)) => {
                    return Err(CoordinatorError::NodeInUse(format!(
                        "{change}: {id} is to hand over what it holds, and does not answer ({}); start it and try again, or \
                         use force if it never comes back",
                        in_words(&error)
                    )));
                }
                (true, Err(_)) | (false, Ok(_)) => {}
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        change: &str,
        current: &Topology,
        next: Topology,
        deadline: Instant,
    ) -> Result<Topology, CoordinatorError> {
        match self
            .topologies
            .replace(current.epoch, next, deadline)
            .await?
        {
            Change::Made(topology) => Ok(topology),
            Change::Conflict(_) => Err(changed_meanwhile(change)),
        }
    }

    /// Asks a node of the topology in use.
    async fn adopts_if_empty(
        &self,
        id: &NodeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<bool, CallError> {
        let routing = self.topologies.routing();
        match routing.topology().node(id) {
            Some(node) => ask_promise(&self.world, node, (epoch, false), deadline).await,
            None => Err(CallError::NotSent("it is not in the topology".into())),
        }
    }
}

fn next_epoch(current: &Topology) -> Result<Epoch, CoordinatorError> {
    let next = current.epoch.next();
    next.ok_or(CoordinatorError::Internal("epochs are used up"))
}

/// What errors call the change. Each node may be in it once.
fn described(request: &ChangeRequest) -> Result<String, CoordinatorError> {
    let mut ids: Vec<&NodeId> = Vec::new();
    for change in &request.nodes {
        ids.push(change.node());
        if let NodeChange::Replace { by, .. } = change {
            ids.push(&by.id);
        }
    }
    for (index, id) in ids.iter().enumerate() {
        if ids[..index].contains(id) {
            return Err(invalid("node_id", format!("{id} is named twice")));
        }
    }
    Ok(match &request.nodes[..] {
        [] if request.factors.is_empty() => {
            return Err(invalid("changes", "are none; name a node to be changed"));
        }
        [] => "changing replication factors".to_owned(),
        [NodeChange::Add(node)] => format!("adding {}", node.id),
        [NodeChange::Remove { id, .. }] => format!("removing {id}"),
        [NodeChange::Replace { id, by, .. }] => format!("replacing {id} by {}", by.id),
        [NodeChange::Set { id, .. }] => format!("changing {id}"),
        changes => format!("changing {} nodes", changes.len()),
    })
}

fn is_forced(request: &ChangeRequest, id: &NodeId) -> bool {
    request
        .leavers()
        .any(|(leaver, force)| leaver == id && force)
}

/// The nodes that there will be. One that is added and listed already is put where it is now said to be.
fn nodes_after(nodes: &[Node], request: &ChangeRequest) -> Result<Vec<Node>, RefusedChange> {
    let mut target = nodes.to_vec();
    for change in &request.nodes {
        if let NodeChange::Add(node) = change
            && let Some(known) = target.iter_mut().find(|known| known.id == node.id)
        {
            let seat = known.seat.take();
            *known = Node {
                seat,
                ..node.clone()
            };
            continue;
        }
        let one = ChangeRequest {
            nodes: vec![change.clone()],
            factors: Vec::new(),
        };
        (target, _) = one.applied_to(&target)?;
    }
    Ok(target)
}
