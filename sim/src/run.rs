//! A run: a world let loose, healed, converged and judged.
//!
//! 1. Everything starts.
//! 2. Chaos: clients work while the world's faults come and go.
//! 3. Calm: all faults end, clients finish, everything that is down starts again, messages under way arrive.
//! 4. Convergence: without any client, until all owners of every key are equal and nothing is owed; then every key is
//!    read through every coordinator.
//! 5. Judgement: the invariants, over what clients saw, what nodes said, and what they hold.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use madsim::runtime::Runtime;
use madsim::task::JoinHandle;
use pairdb::marks::{self, Marks};
use pairdb::placement::Node;
use pairdb::ports::RecordKey;
use pairdb::ports::{CallError, Operation, Refusal, Reply, Request, Space};
use pairdb::quorum::Consistency;
use pairdb::sabotage::Sabotage;
use pairdb::version::Record;

use crate::adapters::pause;
use crate::client::Client;
use crate::cluster::{Cluster, locate};
use crate::endpoint::Endpoint;
use crate::evidence::{Evidence, FinalRecord};
use crate::history::History;
use crate::invariants::{self, Violation};
use crate::nemesis;
use crate::page::{CallId, Recording};
use crate::rng::Rng;
use crate::world::{ClientPlan, Fault, World};
use crate::{buried, unaided};

/// What is broken when a scenario does not go as its file says.
pub const EXPECTATION: &str = "expectation";

/// How the threads of runs are called.
const THREAD_NAME: &str = "seed ";

/// How long anything may take once nothing is wrong any more.
const CALM_MAX: Duration = Duration::from_secs(60);

/// Looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How to run a world; none of it belongs to the world.
#[derive(Clone, Copy, Default, Debug)]
pub struct Options {
    /// A bug to put back.
    pub sabotage: Option<Sabotage>,
    /// Whether to write messages down too.
    pub messages: bool,
    /// Whether to record everything for a page.
    pub record: bool,
    /// Whether to say of each client what it did, as steps.
    pub spell: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The world's seed.
    pub seed: u64,
    /// What was broken; empty if nothing was.
    pub violations: Vec<Violation>,
    /// The history, one event a line.
    pub history: String,
    /// The hash of all events and messages.
    pub fingerprint: u64,
    /// How many operations clients started.
    pub operations: usize,
    /// How many of them succeeded.
    pub succeeded: usize,
    /// How many messages reached storage nodes.
    pub messages: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// Everything, if it was recorded.
    pub recording: Option<Arc<Recording>>,
    /// Which interesting branches of the core were reached.
    pub marks: Marks,
    /// The world with what each client did as steps, if that was asked for.
    pub spelled: Option<World>,
}

/// Runs a world on a thread of its own, where madsim's and the standard library's hidden state is fresh.
#[must_use]
pub fn run(world: World, options: Options) -> Outcome {
    let seed = world.seed;
    let thread = std::thread::Builder::new()
        .name(format!("{THREAD_NAME}{seed}"))
        .stack_size(8 << 20);
    let run = move || {
        pairdb::sabotage::activate(options.sabotage);
        let _ = marks::take();
        let outcome = run_here(world, options);
        Outcome {
            marks: marks::take(),
            ..outcome
        }
    };
    match thread.spawn(run).map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Outcome::crashed(seed, "the harness itself panicked".into(), None),
        Err(error) => Outcome::crashed(seed, format!("no thread: {error}"), None),
    }
}

fn run_here(world: World, options: Options) -> Outcome {
    static QUIET: Once = Once::new();
    QUIET.call_once(remember_panics);
    let seed = world.seed;
    let slot = Arc::new(OnceLock::new());
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    let world = Arc::new(world);
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(play(Arc::clone(&world), options, Arc::clone(&slot)))
    }));
    played.unwrap_or_else(|_| {
        let history: Option<&History> = slot.get();
        let mut outcome = Outcome::crashed(seed, PANIC.take(), history);
        outcome.recording = history.and_then(|history| Recording::of(&world, history));
        outcome
    })
}

thread_local! {
    static PANIC: RefCell<String> = RefCell::default();
}

/// A panic in a run is a finding, to be reported like the others.
fn remember_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread
            .name()
            .is_some_and(|name| name.starts_with(THREAD_NAME))
        {
            PANIC.with(|text| *text.borrow_mut() = info.to_string());
        } else {
            usual(info);
        }
    }));
}

async fn play(world: Arc<World>, options: Options, slot: Arc<OnceLock<History>>) -> Outcome {
    let cluster = Cluster::new(Arc::clone(&world)).await;
    let _ = slot.set(cluster.history.clone());
    if options.messages {
        cluster.history.write_messages();
    }
    if options.record {
        cluster.history.recorder().start();
    }
    let mut complaints = Vec::new();
    for who in cluster.processes() {
        cluster.start(who);
    }
    let all_serve = || {
        cluster
            .processes()
            .into_iter()
            .all(|who| cluster.serves(who))
    };
    if !wait_until(all_serve).await {
        complaints.push("not everything started".to_owned());
    }

    cluster.history.note(format_args!("chaos"));
    cluster.history.recorder().phase("chaos");
    buggify(&world);
    if options.spell {
        cluster.story.keep_attempts();
    }
    cluster.story.begin();
    let people = madsim::runtime::Handle::current()
        .create_node()
        .name("clients")
        .build();
    let clients: Vec<JoinHandle<()>> = (1..)
        .zip(&world.clients)
        .map(|(number, plan)| {
            people.spawn(Client::new(number, plan.clone(), cluster.clone()).run())
        })
        .collect();
    let nemesis = people.spawn(let_loose(cluster.clone()));
    pause(Duration::from_millis(world.chaos_ms)).await;

    cluster.history.note(format_args!("calm"));
    cluster.history.recorder().phase("calm");
    cluster.calm_down();
    cluster.faults.heal();
    pairdb::buggify::activate(&[], Box::new(|| 0));
    let _ = nemesis.await;
    for who in cluster.processes() {
        cluster.set_paused(who, false);
    }
    if !wait_until(|| clients.iter().all(JoinHandle::is_finished)).await {
        complaints.push("a client waits for ever".to_owned());
    }
    for who in cluster.processes() {
        cluster.start(who);
    }
    if !wait_until(all_serve).await {
        complaints.push("not everything started again".to_owned());
    }
    if !wait_until(|| cluster.network.in_flight() == 0).await {
        complaints.push("messages never stop".to_owned());
    }

    let unrepaired = unaided::repaired(&cluster).await;
    cluster.history.note(format_args!("convergence"));
    cluster.history.recorder().phase("convergence");
    if !unaided::is_unaided(&world) {
        complaints.extend(converge(&cluster).await);
        complaints.extend(buried::complaints(&cluster).await);
    }
    complaints.extend(read_everything(&cluster).await);
    if !wait_until(|| cluster.network.in_flight() == 0).await {
        complaints.push("messages never stop".to_owned());
    }
    let mut finals = final_records(&cluster).await;
    // Tombstones are purged at one owner after the other, and may be just now. What a tombstone hides goes at one owner
    // first; the others learn of it in the next round.
    let mut left = CALM_MAX;
    while !finals.iter().all(FinalRecord::is_equal) && !left.is_zero() {
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
        finals = final_records(&cluster).await;
    }
    cluster.history.note(format_args!("end"));
    cluster.history.recorder().phase("end");
    let simulated = Duration::from_nanos(cluster.history.now());

    let mut evidence = Evidence::new(&cluster, finals, complaints);
    evidence.unrepaired = unrepaired;
    let mut violations = invariants::check(&evidence);
    violations.extend(
        cluster
            .story
            .complaints()
            .into_iter()
            .map(|complaint| Violation {
                operations: complaint.op.iter().map(|op| op.0).collect(),
                ..Violation::of_no_key(EXPECTATION, 0, complaint.what)
            }),
    );
    for violation in &violations {
        cluster.history.note(format_args!("violation: {violation}"));
    }
    // Tasks that wait for each other keep each other, and all of the run, in memory.
    cluster.shut_down(&people);
    pause(LOOK_AGAIN).await;
    let succeeded = |op: &&crate::history::Op| op.success().is_some();
    Outcome {
        seed: world.seed,
        violations,
        history: cluster.history.text(),
        fingerprint: cluster.history.fingerprint(),
        operations: evidence.ops.len(),
        succeeded: evidence.ops.values().filter(succeeded).count(),
        messages: cluster.history.messages(),
        simulated,
        recording: Recording::of(&cluster.world, &cluster.history),
        marks: Marks::default(),
        spelled: options.spell.then(|| {
            let (began, attempts) = cluster.story.attempts();
            crate::shrink::spell::out(&evidence, began, &attempts)
        }),
    }
}

/// Makes the world's rare behaviour common.
fn buggify(world: &World) {
    let sites: Vec<_> = world.buggify.iter().map(|b| (b.site, b.permille)).collect();
    let mut rng = Rng::new(world.seed, "buggify");
    pairdb::buggify::activate(&sites, Box::new(move || rng.next_u64()));
}

/// Lets the world's faults begin and end. All have ended when it returns.
async fn let_loose(cluster: Cluster) {
    let steps = cluster.world.faults.iter().cloned().enumerate();
    let tasks: Vec<JoinHandle<()>> = steps
        .map(|(index, step)| {
            let cluster = cluster.clone();
            madsim::task::spawn(async move {
                if !cluster.story.reach(step.after.as_ref(), 0).await {
                    let what = format!("fault {index} never began: {:?}", step.fault);
                    return cluster.story.complain(None, what);
                }
                calm_or(&cluster, step.at_ms).await;
                if cluster.is_calm() {
                    return;
                }
                let fault = &step.fault;
                cluster
                    .history
                    .note(format_args!("fault {index} begins: {fault:?}"));
                cluster.history.recorder().fault_begins(index, fault);
                cluster.weather.begins(index);
                begin(&cluster, index, fault).await;
                let lasts = calm_or(&cluster, step.for_ms);
                match step
                    .until
                    .as_ref()
                    .map(|until| cluster.story.wait_for(until))
                {
                    None => lasts.await,
                    Some(None) => {}
                    Some(Some(ends)) => {
                        let ends = ends.map(drop);
                        futures::future::select(ends, Box::pin(lasts)).await;
                    }
                }
                end(&cluster, index, fault);
                cluster.history.recorder().fault_ends(index);
                if !matches!(fault, Fault::CorruptRecord { .. }) {
                    cluster.weather.ends(index); // what is damaged stays so until it is replaced
                }
                cluster.history.note(format_args!("fault {index} ends"));
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
}

async fn calm_or(cluster: &Cluster, after_ms: u64) {
    let until = cluster.history.now() + after_ms * 1_000_000;
    while cluster.history.now() < until && !cluster.is_calm() {
        let left = Duration::from_nanos(until - cluster.history.now());
        pause(left.min(Duration::from_millis(20))).await;
    }
}

async fn begin(cluster: &Cluster, index: usize, fault: &Fault) {
    match fault {
        Fault::Crash { who } => cluster.crash(*who),
        Fault::PowerFailure => {
            for who in cluster.world.storage() {
                cluster.crash(who);
            }
        }
        Fault::Restart { who } => cluster.stop(*who).await,
        Fault::LoseDisk { who } => cluster.lose_disk(*who),
        Fault::DamagedJournal { who, commits } => cluster.damage_journal(*who, *commits),
        Fault::LoseDigests { who } => cluster.lose_digests(*who),
        Fault::Pause { who } => cluster.set_paused(*who, true),
        Fault::ClockJump { who, by_ms } => cluster.jump_clock(*who, *by_ms),
        Fault::ClockDrift { who, ppm } => cluster.drift_clock(*who, *ppm),
        Fault::NewEpoch => cluster.next_epoch().await,
        Fault::MadeUpEpoch { who } => cluster.ask_under_no_epoch(*who),
        Fault::WrongEpoch { who } => cluster.take_on_no_epoch(*who),
        Fault::CorruptRecord { who } => cluster.corrupt_record(*who, index),
        Fault::ForgetClaims => cluster.forget_claims(),
        Fault::MetadataFailover { lost_ms } => {
            cluster
                .fail_over_metadata(Duration::from_millis(*lost_ms))
                .await;
        }
        lasting => {
            if let Fault::FailingDisk { who } = lasting {
                cluster.weather.is_gone(*who); // until it says that it is back
            }
            cluster.faults.begin(index, lasting.clone());
            nemesis::goes_on(cluster, index, lasting);
        }
    }
}

fn end(cluster: &Cluster, index: usize, fault: &Fault) {
    match fault {
        Fault::Crash { who }
        | Fault::Restart { who }
        | Fault::LoseDisk { who }
        | Fault::DamagedJournal { who, .. }
        | Fault::LoseDigests { who } => {
            cluster.start(*who);
        }
        Fault::PowerFailure => {
            for who in cluster.world.storage() {
                cluster.start(who);
            }
        }
        Fault::Pause { who } => cluster.set_paused(*who, false),
        Fault::ClockJump { who, by_ms } => cluster.jump_clock(*who, -by_ms),
        Fault::ClockDrift { who, ppm } => cluster.drift_clock(*who, -ppm),
        Fault::CorruptRecord { .. } => {}
        Fault::CrashOn { who, .. } => {
            cluster.faults.end(index);
            cluster.start(*who);
        }
        Fault::WrongEpoch { who } => {
            drop(madsim::task::spawn(cluster.clone().set_epoch_back(*who)));
        }
        _ => cluster.faults.end(index),
    }
}

async fn wait_until(condition: impl Fn() -> bool) -> bool {
    let mut left = CALM_MAX;
    while !condition() {
        if left.is_zero() {
            return false;
        }
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
    true
}

/// Waits until the owners of every key are equal and nobody owes anything. Returns complaints.
async fn converge(cluster: &Cluster) -> Vec<String> {
    let placement = cluster.placement().await;
    let mut owned = Vec::new();
    for tenant in &cluster.world.tenants {
        for key in cluster.world.keys(tenant) {
            let r = tenant.replication_factor;
            owned.push(locate(&placement, &tenant.name, &key, r));
        }
    }
    let differing = || {
        let records = cluster.contents(Space::Records);
        let hold = |node: &Node, key: &RecordKey| {
            let records = records.get(&Endpoint::Storage(node.port as u8))?;
            records.get(key.as_bytes()).cloned()
        };
        let differ = owned.iter().find(|(key, owners)| {
            let mut held = owners.iter().map(|node| hold(node, key));
            let first = held.next();
            held.any(|held| Some(held) != first)
        });
        differ.map(|(key, _)| format!("{}/{}", key.tenant(), key.key()))
    };
    let owing = || {
        let hints = cluster.contents(Space::Hints);
        let pointer = |hint: &&Bytes| hint.len() > 1 + usize::from(hint[0]);
        let mut owing = hints
            .iter()
            .filter(|(_, hints)| hints.keys().any(|hint| pointer(&hint)));
        owing.next().map(|(who, _)| who.to_string())
    };
    let refilling = || {
        let nodes = cluster.world.storage();
        nodes.into_iter().find(|who| cluster.is_refilling(*who))
    };
    let given_up = || {
        let who = cluster.world.coordinators();
        let mut coordinators = who
            .into_iter()
            .filter_map(|who| Some((who, cluster.coordinator(who)?.1)));
        coordinators.find_map(|(who, coordinator)| {
            let mut nodes = coordinator.admin().nodes().into_iter();
            let node = nodes.find(|overview| !overview.healthy)?.node;
            Some((who, node.id))
        })
    };
    let converged = || {
        differing().is_none() && owing().is_none() && refilling().is_none() && given_up().is_none()
    };
    // What is damaged is met by who looks at it, as an operator would have it verified.
    let mut left = CALM_MAX;
    while !final_records(cluster).await.iter().all(is_looked_at) && !left.is_zero() {
        pause(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
    }
    if wait_until(converged).await {
        return Vec::new();
    }
    let differing = differing().map(|key| format!("the owners of {key} still differ"));
    let owing = owing().map(|who| format!("{who} still owes somebody something"));
    let refilling = refilling().map(|who| format!("{who} still counts for no quorum"));
    let given_up =
        given_up().map(|(who, node)| format!("{who} still takes {node} for one that is away"));
    differing
        .into_iter()
        .chain(owing)
        .chain(refilling)
        .chain(given_up)
        .collect()
}

/// Whether every owner has looked at its record.
fn is_looked_at(record: &FinalRecord) -> bool {
    let damaged = Refusal::Damaged.to_string();
    let mut records = record.records.iter();
    records.all(|(_, record)| record.as_ref().err().is_none_or(|error| *error == damaged))
}

/// Reads every key at every owner through every coordinator. Returns complaints.
async fn read_everything(cluster: &Cluster) -> Vec<String> {
    let mut complaints = Vec::new();
    let plan = ClientPlan {
        timeout_ms: 5_000,
        cancel_permille: 0,
        sticky: false,
        ..ClientPlan::default()
    };
    let mut reader = Client::new(0, plan, cluster.clone());
    for (index, tenant) in cluster.world.tenants.iter().enumerate() {
        for key in cluster.world.keys(tenant) {
            let mut answered = 0;
            for _ in 0..40 {
                let read = reader.read_at(index, key.clone(), Consistency::All, None);
                answered += u32::from(read.await.is_some());
                if answered == 2 {
                    break;
                }
                pause(LOOK_AGAIN).await;
            }
            if answered < 2 {
                let name = &tenant.name;
                complaints.push(format!("{name}/{key} can't be read at all its owners"));
            }
            reader.read_at(index, key, Consistency::Quorum, None).await;
        }
    }
    complaints
}

/// What every owner of every key holds, asked directly.
pub(crate) async fn final_records(cluster: &Cluster) -> Vec<FinalRecord> {
    let placement = cluster.placement().await;
    let mut finals = Vec::new();
    for (index, tenant) in cluster.world.tenants.iter().enumerate() {
        for key in cluster.world.keys(tenant) {
            let r = tenant.replication_factor;
            let (record_key, owners) = locate(&placement, &tenant.name, &key, r);
            let mut records = Vec::new();
            for node in owners {
                let who = Endpoint::Storage(node.port as u8);
                let ask = async |epoch| {
                    let request = Request {
                        node: node.id.clone(),
                        epoch,
                        operation: Operation::Read {
                            key: record_key.clone(),
                        },
                    };
                    let services = cluster.services();
                    let answer =
                        services.deliver(who, who, request, &cluster.tap, CallId::default())?;
                    answer.await.ok()
                };
                let reply = match ask(placement.epoch()).await {
                    // The metadata store has lost an epoch, and no coordinator had to publish it again.
                    Some(Err(CallError::Refused(Refusal::StaleEpoch { current })))
                        if current <= cluster.published_epoch() =>
                    {
                        ask(current).await
                    }
                    reply => reply,
                };
                let record = match reply.map(|answer| answer.map(Reply::even_if_refilling)) {
                    Some(Ok(Reply::Found { record })) => {
                        Ok(record.unwrap_or_else(|| Record::default().encode()))
                    }
                    Some(Ok(_)) => Err("answered something else".to_owned()),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err("did not answer".to_owned()),
                };
                records.push((who, record));
            }
            finals.push(FinalRecord {
                tenant: index,
                key,
                records,
            });
        }
    }
    finals
}

impl Outcome {
    fn crashed(seed: u64, panic: String, history: Option<&History>) -> Self {
        Self {
            seed,
            violations: vec![Violation::of_no_key("no panic", 0, panic)],
            history: history.map(History::text).unwrap_or_default(),
            fingerprint: history.map(History::fingerprint).unwrap_or_default(),
            operations: 0,
            succeeded: 0,
            messages: 0,
            simulated: Duration::ZERO,
            recording: None,
            marks: Marks::default(),
            spelled: None,
        }
    }
}
