//! A client: one operation after the other, by its habits, each written down before it leaves and after it returns.
//!
//! A client knows what it was answered and nothing else. A time-out is "unknown", never "did not happen".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use madsim::task::AbortHandle;
use pairdb::coordinator::{CoordinatorError, ReadRequest, WriteOutcome, WriteRequest};
use pairdb::quorum::Consistency;
use pairdb::version::Content;

use crate::adapters::pause;
use crate::cluster::Cluster;
use crate::describe::Said;
use crate::endpoint::Endpoint;
use crate::history::{Answered, Kind, Op, OpId};
use crate::network::Route;
use crate::page::CallId;
use crate::rng::Rng;
use crate::value;
use crate::world::ClientPlan;

/// The work that a request started at the other end, once it has.
type Started = Arc<Mutex<Option<AbortHandle>>>;

/// How much longer than the server's time a client waits for the answer.
const GRACE: Duration = Duration::from_millis(50);

/// How many contexts a client remembers for a key.
const CONTEXTS_MAX: usize = 6;

/// A client.
pub struct Client {
    number: u8,
    plan: ClientPlan,
    cluster: Cluster,
    rng: Rng,
    coordinator: u8,
    /// For each tenant's key the contexts it was given, the latest last.
    contexts: BTreeMap<(usize, String), Vec<(OpId, Bytes)>>,
}

/// What a client asks for.
#[derive(Clone)]
struct Ask {
    op: OpId,
    tenant: usize,
    key: String,
    kind: Kind,
    consistency: Consistency,
    context: Bytes,
    idempotency_key: Option<String>,
    value: Bytes,
}

impl Client {
    /// Client `number` of the world; 0 is the harness itself.
    #[must_use]
    pub fn new(number: u8, plan: ClientPlan, cluster: Cluster) -> Self {
        let rng = Rng::new(cluster.world.seed, &format!("client {number}"));
        let coordinators = cluster.world.coordinators;
        Self {
            number,
            plan,
            cluster,
            rng,
            coordinator: number % coordinators + 1,
            contexts: BTreeMap::new(),
        }
    }

    /// Carries out its operations until they are done or chaos is over.
    pub async fn run(mut self) {
        for _ in 0..self.plan.operations {
            let think_us = self.rng.between(0, self.plan.think_ms_max * 1_000);
            pause(Duration::from_micros(think_us)).await;
            if self.cluster.is_calm() {
                return;
            }
            self.next().await;
        }
    }

    async fn next(&mut self) {
        let (tenant, key) = self.choose_key();
        let plan = &self.plan;
        let weights = [plan.writes, plan.reads, plan.deletes, plan.updates];
        match self.rng.weighted(&weights) {
            0 => self.change(tenant, key, Kind::Write, None).await,
            1 => {
                let given = self.rng.chance(self.plan.floor_permille);
                let given = given.then(|| self.latest(tenant, &key)).flatten();
                self.read(tenant, key, given).await;
            }
            2 => self.change(tenant, key, Kind::Delete, None).await,
            _ => {
                let Some(given) = self.read(tenant, key.clone(), None).await else {
                    return;
                };
                let kind = match self.rng.chance(150) {
                    true => Kind::Delete,
                    false => Kind::Write,
                };
                self.change(tenant, key, kind, Some(given)).await;
            }
        }
    }

    fn choose_key(&mut self) -> (usize, String) {
        let tenants = &self.cluster.world.tenants;
        let tenant = self.rng.below(tenants.len() as u64) as usize;
        let plan = &tenants[tenant];
        let key = match self.rng.chance(plan.hot_permille) {
            true => 0,
            false => self.rng.below(u64::from(plan.keys)) as u8,
        };
        (tenant, key_name(key))
    }

    fn choose_consistency(&mut self) -> Consistency {
        let levels = [Consistency::One, Consistency::Quorum, Consistency::All];
        levels[self.rng.weighted(&self.plan.consistency)]
    }

    fn latest(&self, tenant: usize, key: &str) -> Option<(OpId, Bytes)> {
        self.contexts
            .get(&(tenant, key.to_owned()))?
            .last()
            .cloned()
    }

    /// A read at the consistency that the client's habits give it.
    async fn read(
        &mut self,
        tenant: usize,
        key: String,
        given: Option<(OpId, Bytes)>,
    ) -> Option<(OpId, Bytes)> {
        let consistency = self.choose_consistency();
        self.read_at(tenant, key, consistency, given).await
    }

    /// Reads; returns the context of the answer, if there was one.
    pub async fn read_at(
        &mut self,
        tenant: usize,
        key: String,
        consistency: Consistency,
        given: Option<(OpId, Bytes)>,
    ) -> Option<(OpId, Bytes)> {
        let ask = self.invoke(tenant, key, Kind::Read, consistency, given, false);
        self.attempt(&ask).await?;
        self.latest(ask.tenant, &ask.key)
            .filter(|(op, _)| *op == ask.op)
    }

    async fn change(
        &mut self,
        tenant: usize,
        key: String,
        kind: Kind,
        given: Option<(OpId, Bytes)>,
    ) {
        let given = given.or_else(|| {
            let known = self.contexts.get(&(tenant, key.clone()))?;
            if self.rng.chance(self.plan.stale_context_permille) {
                return known
                    .get(self.rng.below(known.len() as u64) as usize)
                    .cloned();
            }
            self.rng
                .chance(self.plan.context_permille)
                .then(|| known.last().cloned())?
        });
        let consistency = self.choose_consistency();
        let idempotent = self.rng.chance(self.plan.idempotency_permille);
        let ask = self.invoke(tenant, key, kind, consistency, given, idempotent);
        let mut success = self.attempt(&ask).await;
        if !idempotent {
            return;
        }
        for _ in 0..self.plan.retries {
            if success.is_some() || self.cluster.is_calm() {
                break;
            }
            let wait_ms = self.rng.between(0, 200);
            pause(Duration::from_millis(wait_ms)).await;
            success = self.attempt(&ask).await;
        }
        if success.is_some() && self.rng.chance(self.plan.repeat_permille) {
            self.attempt(&ask).await;
        }
    }

    fn invoke(
        &mut self,
        tenant: usize,
        key: String,
        kind: Kind,
        consistency: Consistency,
        given: Option<(OpId, Bytes)>,
        idempotent: bool,
    ) -> Ask {
        let padding = self.rng.between(0, self.plan.padding_max) as usize;
        let (given, context) = given.map_or((None, Bytes::new()), |(op, c)| (Some(op), c));
        let client = self.number;
        let history = &self.cluster.history;
        let op = history.invoke(|id, invoked| Op {
            id,
            client,
            tenant,
            key: key.clone(),
            kind,
            consistency,
            given,
            context: context.clone(),
            idempotent,
            invoked,
            answers: Vec::new(),
            attempts: 0,
            last_to: None,
            unknown: false,
        });
        let name = &self.cluster.world.tenants[tenant].name;
        Ask {
            op,
            value: value::make(name, &key, op, padding),
            idempotency_key: idempotent.then(|| format!("op-{}", op.0)),
            tenant,
            key,
            kind,
            consistency,
            context,
        }
    }

    /// One request for `ask`. Returns something if it was answered with success.
    async fn attempt(&mut self, ask: &Ask) -> Option<()> {
        if !self.plan.sticky {
            let coordinators = u64::from(self.cluster.world.coordinators);
            self.coordinator = self.rng.below(coordinators) as u8 + 1;
        }
        let to = Endpoint::Coordinator(self.coordinator);
        let (from, op) = (Endpoint::Client(self.number), ask.op.0);
        let history = self.cluster.history.clone();
        history.attempt(ask.op, to);
        let given = self.given_text(ask);
        let place = format!(
            "{}/{}",
            self.cluster.world.tenants[ask.tenant].name, ask.key
        );
        let what = ask.kind.verb();
        let level = ask.consistency;
        history.note(format_args!(
            "{from} #{op} {what} {place} {level}{given} -> {to}"
        ));

        let timeout = Duration::from_millis(self.plan.timeout_ms);
        let mut patience = timeout + GRACE;
        let cancels = self.rng.chance(self.plan.cancel_permille);
        let impatience = self.cluster.faults.impatience_ms_max();
        if cancels || impatience.is_some() {
            let most_ms = impatience.unwrap_or(self.plan.timeout_ms);
            let after_us = self.rng.log_between(500, most_ms * 1_000);
            patience = patience.min(Duration::from_micros(after_us));
        }
        let (call, handler) = self.send(ask, to, timeout);
        let mut call = Box::pin(call.fuse());
        let mut timer = Box::pin(pause(patience).fuse());
        let answer = futures::select_biased! {
            answer = call => answer,
            () = timer => None,
        };
        let Some((answered, text)) = answer else {
            // Whoever goes away takes the server's work along, or doesn't.
            if self.rng.chance(500)
                && let Some(handler) = lock(&handler).take()
            {
                handler.abort();
            }
            history.unknown(ask.op);
            history.recorder().gave_up(ask.op);
            history.note(format_args!("{from} #{op} gives up"));
            self.move_on();
            return None;
        };
        history.note(format_args!("{from} #{op} {text}"));
        let success = answered.is_success();
        if let Some(context) = answered.context() {
            let place = (ask.tenant, ask.key.clone());
            let known = self.contexts.entry(place).or_default();
            known.push((ask.op, context.clone()));
            if known.len() > CONTEXTS_MAX {
                known.remove(0);
            }
        }
        if !success {
            self.move_on();
        }
        history.answer(ask.op, answered);
        success.then_some(())
    }

    fn move_on(&mut self) {
        self.coordinator = self.coordinator % self.cluster.world.coordinators + 1;
    }

    fn given_text(&self, ask: &Ask) -> String {
        let mut text = String::new();
        if let Some(given) = self.cluster.history.given(ask.op) {
            text = format!(" context of #{}", given.0);
        }
        if ask.idempotency_key.is_some() {
            text += " idempotent";
        }
        text
    }

    /// The request in the record of the run.
    fn record(&self, ask: &Ask, to: Endpoint) -> CallId {
        let from = Endpoint::Client(self.number);
        let tenant = &self.cluster.world.tenants[ask.tenant].name;
        self.cluster.history.recorder().call(from, to, || Said {
            key: Some(format!("{tenant}/{}", ask.key)),
            op: Some(ask.op),
            ..Said::new(
                ask.kind.verb(),
                format!("{}{}", ask.consistency, self.given_text(ask)),
            )
        })
    }

    /// The request on its way, and a handle to the work it starts at the other end.
    fn send(
        &self,
        ask: &Ask,
        to: Endpoint,
        timeout: Duration,
    ) -> (
        impl Future<Output = Option<(Answered, String)>> + use<>,
        Started,
    ) {
        let route = Route {
            from: Endpoint::Client(self.number),
            to,
            may_repeat: false,
            counted: false,
            call: self.record(ask, to),
        };
        let handler = Arc::new(Mutex::new(None));
        let (cluster, ask, started) = (self.cluster.clone(), ask.clone(), Arc::clone(&handler));
        let deliver = move || {
            let (node, coordinator) = cluster.coordinator(to)?;
            let (answer, answered) = oneshot::channel();
            let tenant = cluster.world.tenants[ask.tenant].name.clone();
            let arrival = cluster.history.recorder().arrived(route.call);
            let recorder = cluster.history.recorder().clone();
            let ask = ask.clone();
            let watch = cluster.watch_deadline(to, timeout);
            let task = node.spawn(async move {
                let result = match ask.kind {
                    Kind::Read => {
                        let request = ReadRequest {
                            tenant: tenant.clone(),
                            key: ask.key.clone(),
                            consistency: Some(ask.consistency),
                            context: ask.context,
                            timeout: Some(timeout),
                        };
                        coordinator
                            .read(request)
                            .await
                            .map(|found| Answered::Found {
                                values: found
                                    .values
                                    .into_iter()
                                    .map(|v| (v.value, v.stamp))
                                    .collect(),
                                context: found.context,
                            })
                    }
                    kind => {
                        let content = match kind {
                            Kind::Delete => Content::Tombstone,
                            _ => Content::Value(ask.value.clone()),
                        };
                        let request = WriteRequest {
                            tenant: tenant.clone(),
                            key: ask.key.clone(),
                            content,
                            consistency: Some(ask.consistency),
                            context: ask.context,
                            idempotency_key: ask.idempotency_key,
                            timeout: Some(timeout),
                        };
                        coordinator.write(request).await.map(written)
                    }
                };
                watch.done(ask.op);
                let answered = interpret(result, &tenant, &ask.key);
                recorder.answered(arrival, || Said {
                    refused: !answered.0.is_success(),
                    ..Said::new("answer", answered.1.clone())
                });
                let _ = answer.send(answered);
            });
            *lock(&started) = Some(task.abort_handle());
            Some(answered)
        };
        let call = self.cluster.network.call(route, deliver);
        let call = async move {
            match call.await {
                Ok(arrived) => Some(arrived.answer),
                Err(crate::network::Lost::Refused) => {
                    Some((Answered::Refused, "refused: nobody there".to_owned()))
                }
                Err(crate::network::Lost::Broken) => None,
            }
        };
        (call, handler)
    }
}

/// The n-th key's name, from 0.
#[must_use]
pub fn key_name(number: u8) -> String {
    // "bc" of tenant "a" and "c" of tenant "ab": isolation must not depend on where a name ends.
    ["bc", "c", "", "d", "e", "f"]
        .get(usize::from(number))
        .map_or_else(|| format!("k{number}"), |suffix| format!("{suffix}k"))
}

fn written(outcome: WriteOutcome) -> Answered {
    Answered::Written {
        context: outcome.context,
        is_duplicate: outcome.is_duplicate,
        without_idempotency: outcome.without_idempotency,
    }
}

/// What an answer means to a client, and how it reads.
fn interpret(
    result: Result<Answered, CoordinatorError>,
    tenant: &str,
    key: &str,
) -> (Answered, String) {
    match result {
        Ok(answered) => {
            let text = match &answered {
                Answered::Written {
                    context,
                    is_duplicate,
                    without_idempotency,
                } => format!(
                    "ok{}{} context {:016x}",
                    if *is_duplicate { " duplicate" } else { "" },
                    if *without_idempotency {
                        " without idempotency"
                    } else {
                        ""
                    },
                    crate::hash::Fnv::of(context)
                ),
                Answered::Found { values, context } => {
                    let shown: Vec<String> = values
                        .iter()
                        .map(|(bytes, stamp)| match value::parse(tenant, key, bytes) {
                            Some(op) => format!("#{}@{stamp}", op.0),
                            None => format!("{:?}@{stamp}", String::from_utf8_lossy(bytes)),
                        })
                        .collect();
                    let context = crate::hash::Fnv::of(context);
                    format!("found {} context {context:016x}", shown.join(" "))
                }
                _ => "ok".to_owned(),
            };
            (answered, text)
        }
        Err(CoordinatorError::KeyNotFound { context, .. }) => {
            let text = format!(
                "found nothing context {:016x}",
                crate::hash::Fnv::of(&context)
            );
            (Answered::NotFound { context }, text)
        }
        Err(error) => {
            let unsure = match &error {
                CoordinatorError::QuorumNotReached(missing) => missing.indeterminate,
                CoordinatorError::Store(_) | CoordinatorError::Internal(_) => true,
                _ => false,
            };
            let answered = if unsure {
                Answered::Indeterminate
            } else {
                Answered::Refused
            };
            (answered, format!("failed: {error}"))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
