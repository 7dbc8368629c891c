//! A client: one operation after the other, by its habits or by its steps, each written down before it leaves and after
//! it returns.
//!
//! A client knows what it was answered and nothing else. A time-out is "unknown", never "did not happen".

mod answer;
mod mean;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use madsim::task::AbortHandle;
use pairdb::coordinator::{Coordinator, CoordinatorError, ReadRequest, WriteRequest};
use pairdb::quorum::Consistency;
use pairdb::version::Content;

use self::answer::{Answer, found, interpret, written};
use crate::adapters::CoordinatorSide;
use crate::cluster::Cluster;
use crate::describe::Said;
use crate::endpoint::Endpoint;
use crate::network::{Lost, Route};
use crate::op::{Answered, Ask, Kind, Op, OpId};
use crate::pause::pause;
use crate::recorder::CallId;
use crate::rng::Rng;
use crate::story::Attempt;
use crate::value;
use crate::world::{ClientPlan, Expect};

/// The work that a request started at the other end, once it has.
type Started = Arc<Mutex<Option<AbortHandle>>>;

/// How much longer than the server's time a client waits for the answer.
const GRACE: Duration = Duration::from_millis(50);

/// How many answered writes a client remembers, to repeat them.
const ANSWERED_MAX: usize = 8;

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
    /// For each tenant's key the latest write with an idempotency key.
    idempotent: BTreeMap<(usize, String), OpId>,
    /// Writes with an idempotency key that were answered, the latest last.
    answered: Vec<Ask>,
}

/// What a client wants, before it has a number.
struct Wanted {
    tenant: usize,
    key: String,
    kind: Kind,
    consistency: Consistency,
    given: Option<(OpId, Bytes)>,
    /// `Some(None)`: one of its own.
    idempotency_key: Option<Option<String>>,
    padding: u64,
}

/// On which terms a client asks.
struct Terms {
    /// Which coordinator.
    to: u8,
    /// How long that may take.
    timeout: Duration,
    /// When the client gives up, if before that.
    gives_up: Option<Duration>,
    /// Whether whoever goes away takes the server's work along; `None`: or doesn't.
    aborts: Option<bool>,
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
            idempotent: BTreeMap::new(),
            answered: Vec::new(),
        }
    }

    /// Carries out its operations until they are done or chaos is over.
    pub async fn run(mut self) {
        if !self.plan.steps.is_empty() {
            return self.follow().await;
        }
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
        if self.sometimes(self.plan.late_repeat_permille) && self.repeats_late().await {
            return;
        }
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
        (tenant, value::key_name(key))
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
        let padding = self.padding();
        let ask = self.invoke(Wanted {
            tenant,
            key,
            kind: Kind::Read,
            consistency,
            given,
            idempotency_key: None,
            padding,
        });
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
        let padding = match self.sometimes(self.plan.empty_permille) {
            true => value::EMPTY,
            false => self.padding(),
        };
        let ask = self.invoke(Wanted {
            tenant,
            key,
            kind,
            consistency,
            given,
            idempotency_key: idempotent.then_some(None),
            padding,
        });
        let mut success = self.attempt(&ask).await;
        if !idempotent {
            return;
        }
        for _ in 0..self.plan.retries {
            if success.is_some() || self.cluster.is_calm() {
                break;
            }
            let wait_ms = self.rng.between(0, self.plan.retry_pause_ms_max);
            pause(Duration::from_millis(wait_ms)).await;
            // Now and then with less patience than the attempt before, which may still be at work then.
            let timeout = self.timeout();
            let timeout = match self.rng.chance(250) {
                true => timeout / 8,
                false => timeout,
            };
            let again = self.perhaps_otherwise(&ask);
            success = self.attempt_within(&again, timeout).await;
        }
        if success.is_some() && self.rng.chance(self.plan.repeat_permille) {
            self.attempt(&ask).await;
        }
        if success.is_some() {
            self.may_be_mean(ask).await;
        }
    }

    /// Whether a habit shows now. One that the client does not have draws nothing.
    fn sometimes(&mut self, permille: u32) -> bool {
        permille > 0 && self.rng.chance(permille)
    }

    fn padding(&mut self) -> u64 {
        match self.plan.padding_max {
            // Long values are rare also where there are any: they cost the harness most.
            most @ 10_000.. => self.rng.log_between(1, most),
            most => self.rng.between(0, most),
        }
    }

    fn invoke(&mut self, wanted: Wanted) -> Ask {
        let Wanted {
            tenant,
            key,
            kind,
            consistency,
            given,
            idempotency_key,
            padding,
        } = wanted;
        let idempotent = idempotency_key.is_some();
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
            arrived: Vec::new(),
            last_to: None,
            unknown: false,
            claim_forgotten: false,
            key_of: None,
            told_conflict: false,
        });
        let mut named = op;
        if idempotency_key == Some(None) && kind == Kind::Write {
            let before = self.idempotent.insert((tenant, key.clone()), op);
            if let Some(before) = before
                && self.rng.chance(self.plan.mistake_permille)
            {
                named = before;
                history.has_key_of(op, before);
                // Whoever comes next has the same key, if by mistake.
                self.idempotent.insert((tenant, key.clone()), before);
            }
        }
        let name = &self.cluster.world.tenants[tenant].name;
        Ask {
            op,
            name: None,
            padding,
            value: value::make(name, &key, op, padding),
            idempotency_key: idempotency_key
                .map(|key| key.unwrap_or_else(|| format!("op-{}", named.0))),
            tenant,
            key,
            kind,
            consistency,
            context,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.plan.timeout_ms)
    }

    /// One request for `ask`. Returns something if it was answered with success.
    async fn attempt(&mut self, ask: &Ask) -> Option<()> {
        self.attempt_within(ask, self.timeout()).await
    }

    async fn attempt_within(&mut self, ask: &Ask, timeout: Duration) -> Option<()> {
        if !self.plan.sticky {
            let coordinators = u64::from(self.cluster.world.coordinators);
            self.coordinator = self.rng.below(coordinators) as u8 + 1;
        }
        let cancels = self.rng.chance(self.plan.cancel_permille);
        let impatience = self.cluster.faults.impatience_ms_max();
        let gives_up = (cancels || impatience.is_some()).then(|| {
            let most_ms = impatience.unwrap_or(self.plan.timeout_ms);
            Duration::from_micros(self.rng.log_between(500, most_ms * 1_000))
        });
        let terms = Terms {
            to: self.coordinator,
            timeout,
            gives_up,
            aborts: None,
        };
        let answer = self.request(ask, &terms).await;
        let success = answer.is_some_and(|answer| answer.answered.is_success());
        if !success {
            self.move_on();
        }
        success.then_some(())
    }

    /// One request for `ask`, written down in the moment this is called; the answer is `None` if the client gave up.
    fn request<'a>(
        &'a mut self,
        ask: &'a Ask,
        terms: &Terms,
    ) -> impl Future<Output = Option<Answer>> + use<'a> {
        let to = Endpoint::Coordinator(terms.to);
        let (from, op) = (Endpoint::Client(self.number), ask.op.0);
        let history = self.cluster.history.clone();
        history.attempt(ask.op, to, ask.consistency);
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
        self.cluster.story.attempted(|| Attempt {
            op: ask.op,
            at: history.now(),
            to: terms.to,
            padding: ask.padding,
            idempotency_key: ask.idempotency_key.clone(),
            timeout: terms.timeout,
            gives_up: terms.gives_up,
            aborts: false,
        });
        let patience = terms.timeout + GRACE;
        let patience = terms.gives_up.map_or(patience, |early| early.min(patience));
        let aborts = terms.aborts;
        let (call, handler) = self.send(ask, to, terms.timeout);
        async move {
            let mut call = Box::pin(call.fuse());
            let mut timer = Box::pin(pause(patience).fuse());
            let answer = futures::select_biased! {
                answer = call => answer,
                () = timer => None,
            };
            let Some(answer) = answer else {
                if aborts.unwrap_or_else(|| self.rng.chance(500)) {
                    self.cluster.story.aborted(ask.op);
                    if let Some(handler) = lock(&handler).take() {
                        handler.abort();
                    }
                }
                history.unknown(ask.op);
                history.recorder().gave_up(ask.op);
                history.note(format_args!("{from} #{op} gives up"));
                return None;
            };
            history.note(format_args!("{from} #{op} {}", answer.text));
            if let Some(context) = answer.answered.context() {
                let place = (ask.tenant, ask.key.clone());
                let known = self.contexts.entry(place).or_default();
                known.push((ask.op, context.clone()));
                if known.len() > CONTEXTS_MAX {
                    known.remove(0);
                }
            }
            history.answer(ask.op, answer.answered.clone(), ask.consistency);
            if answer.kind == Expect::Conflict {
                history.conflicts(ask.op);
            }
            if answer.kind == Expect::KeyInUse {
                history.in_use(ask.op);
            }
            Some(answer)
        }
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
    ) -> (impl Future<Output = Option<Answer>> + use<>, Started) {
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
            cluster.history.arrived(ask.op);
            let watch = cluster.watch_deadline(to, timeout);
            let task = node.spawn(async move {
                let result = serve(&coordinator, &ask, &tenant, timeout).await;
                watch.done(ask.op);
                let told = interpret(result, &tenant, &ask.key);
                recorder.answered(arrival, || Said {
                    refused: !told.answered.is_success(),
                    ..Said::new("answer", told.text.clone())
                });
                let _ = answer.send(told);
            });
            *lock(&started) = Some(task.abort_handle());
            Some(answered)
        };
        let call = self.cluster.network.call(route, deliver);
        let call = async move {
            match call.await {
                Ok(arrived) => Some(arrived.answer),
                Err(Lost::Refused) => Some(Answer::nobody()),
                Err(Lost::Broken) => None,
            }
        };
        (call, handler)
    }
}

/// What a coordinator does with a request that has arrived.
async fn serve(
    coordinator: &Coordinator<CoordinatorSide>,
    ask: &Ask,
    tenant: &str,
    timeout: Duration,
) -> Result<Answered, CoordinatorError> {
    let (tenant, key) = (tenant.to_owned(), ask.key.clone());
    let content = match ask.kind {
        Kind::Read => {
            let request = ReadRequest {
                tenant,
                key,
                consistency: Some(ask.consistency),
                context: ask.context.clone(),
                timeout: Some(timeout),
            };
            return coordinator.read(request).await.map(found);
        }
        Kind::Delete => Content::Tombstone,
        Kind::Write => Content::Value(ask.value.clone()),
    };
    let request = WriteRequest {
        tenant,
        key,
        content,
        consistency: Some(ask.consistency),
        context: ask.context.clone(),
        idempotency_key: ask.idempotency_key.clone(),
        timeout: Some(timeout),
    };
    coordinator.write(request).await.map(written)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
