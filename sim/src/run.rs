//! A run: a world let loose, healed, converged and judged.
//!
//! 1. Everything starts.
//! 2. Chaos: clients work while the world's faults come and go.
//! 3. Calm: all faults end, clients finish, everything that is down starts again, messages under way arrive.
//!    In some worlds a node is still away then: what the others can do without it is looked at before it comes back.
//! 4. Convergence: without any client, until all owners of every key are equal and nothing is owed; then every key is
//!    read through every coordinator.
//! 5. Judgement: the invariants, over what clients saw, what nodes said, and what they hold, as it was [recorded].
//!
//! [recorded]: Recorded

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use madsim::runtime::{NodeHandle, Runtime};
use madsim::task::JoinHandle;
use pairdb::marks::{self, Marks};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::counts::Counts;
use crate::evidence::Evidence;
use crate::excuse::Excuses;
use crate::history::History;
use crate::invariants::{self, EXPECTATION, Violation};
use crate::nemesis::let_loose;
use crate::op::Op;
use crate::outcome::{Options, Outcome, Recording};
use crate::pause::pause;
use crate::recorded::Recorded;
use crate::rng::Rng;
use crate::settle::{LOOK_AGAIN, changes_end, converge, last_records, read_everything, wait_until};
use crate::world::World;
use crate::{away, books, buried, spell, unaided, verified};

/// How the threads of runs are called.
const THREAD_NAME: &str = "seed ";

/// Runs a world on a thread of its own, where madsim's and the standard library's hidden state is fresh.
#[must_use]
pub fn run(world: World, options: Options) -> Outcome {
    let seed = world.seed;
    let thread = std::thread::Builder::new()
        .name(format!("{THREAD_NAME}{seed}"))
        .stack_size(8 << 20);
    let run = move || {
        pairdb::mutant::activate(options.mutant);
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

/// A run under way.
struct Play {
    cluster: Cluster,
    options: Options,
    /// What did not go as it should.
    complaints: Vec<String>,
}

async fn play(world: Arc<World>, options: Options, slot: Arc<OnceLock<History>>) -> Outcome {
    let sizes: Vec<_> = world
        .sizes
        .iter()
        .map(|plan| (plan.size, plan.is))
        .collect();
    pairdb::sizes::activate(&sizes);
    let cluster = Cluster::new(world).await;
    let _ = slot.set(cluster.history.clone());
    let mut play = Play {
        cluster,
        options,
        complaints: Vec::new(),
    };
    play.start().await;
    let people = play.chaos_and_calm().await;
    let recorded = play.convergence().await;
    let simulated = Duration::from_nanos(play.cluster.history.now());
    let evidence = Evidence::of(recorded);
    let (violations, excuses) = play.judge(&evidence);
    // Tasks that wait for each other keep each other, and all of the run, in memory.
    play.cluster.shut_down(&people);
    pause(LOOK_AGAIN).await;
    Outcome {
        excuses,
        ..play.outcome(&evidence, violations, simulated)
    }
}

impl Play {
    /// A part of the run begins.
    fn phase(&self, name: &'static str) {
        self.cluster.history.note(format_args!("{name}"));
        self.cluster.history.recorder().phase(name);
    }

    /// Waits for something that has to come about.
    async fn expect(&mut self, condition: impl Fn(&Cluster) -> bool, complaint: &str) {
        if !wait_until(|| condition(&self.cluster)).await {
            self.complaints.push(complaint.to_owned());
        }
    }

    fn start_all(&self) {
        for who in self.cluster.processes() {
            self.cluster.start(who);
        }
    }

    async fn start(&mut self) {
        if self.options.messages {
            self.cluster.history.write_messages();
        }
        if self.options.record {
            self.cluster.history.recorder().start();
        }
        self.start_all();
        self.expect(all_serve, "not everything started").await;
    }

    /// Lets everything loose, and ends it. Returns where clients live.
    async fn chaos_and_calm(&mut self) -> NodeHandle {
        self.phase("chaos");
        let world = Arc::clone(&self.cluster.world);
        buggify(&world);
        if self.options.spell {
            self.cluster.story.keep_attempts();
        }
        self.cluster.story.begin();
        let people = madsim::runtime::Handle::current()
            .create_node()
            .name("clients")
            .build();
        let clients: Vec<JoinHandle<()>> = (1..)
            .zip(&world.clients)
            .map(|(number, plan)| {
                people.spawn(Client::new(number, plan.clone(), self.cluster.clone()).run())
            })
            .collect();
        let nemesis = people.spawn(let_loose(self.cluster.clone()));
        pause(Duration::from_millis(world.chaos_ms)).await;

        self.phase("calm");
        self.cluster.calm_down();
        self.cluster.faults.heal();
        pairdb::buggify::activate(&[], Box::new(|| 0));
        let _ = nemesis.await;
        for who in self.cluster.processes() {
            self.cluster.set_paused(who, false);
        }
        for who in &world.away {
            self.cluster.crash(*who);
            self.cluster.abandon(*who);
        }
        let finished = |_: &Cluster| clients.iter().all(JoinHandle::is_finished);
        self.expect(finished, "a client waits for ever").await;
        self.start_all();
        self.expect(all_serve, "not everything started again").await;
        self.expect(is_silent, "messages never stop").await;
        if !world.away.is_empty() {
            self.phase("one is away");
            let complaints = away::judged(&self.cluster).await;
            self.complaints.extend(complaints);
            self.cluster.end_abandonment();
            self.start_all();
            self.expect(all_serve, "who was away does not start again")
                .await;
        }
        people
    }

    /// Waits until everything is as it should be, and has every key read. Returns all there is to judge by.
    async fn convergence(&mut self) -> Recorded {
        self.complaints.extend(changes_end(&self.cluster).await);
        self.cluster.end_abandonment();
        self.start_all();
        self.expect(all_serve, "not everything that was given up started again")
            .await;
        let unrepaired = unaided::repaired(&self.cluster).await;
        self.phase("convergence");
        let mut hidden = Vec::new();
        if !unaided::is_unaided(&self.cluster.world) {
            self.complaints.extend(converge(&self.cluster).await);
            hidden = buried::hidden(&self.cluster).await;
            self.complaints.extend(buried::kept(&self.cluster).await);
            self.complaints.extend(verified::wrong(&self.cluster).await);
        }
        self.complaints.extend(books::wrong(&self.cluster));
        self.complaints.extend(read_everything(&self.cluster).await);
        self.expect(is_silent, "messages never stop").await;
        let finals = last_records(&self.cluster).await;
        self.phase("end");
        let cluster = &self.cluster;
        Recorded {
            world: Arc::clone(&cluster.world),
            ops: cluster.history.ops(),
            seen: cluster.tap.seen(),
            finals,
            unrepaired,
            hidden,
            weather: cluster.weather.log(),
            published_epoch: cluster.published_epoch(),
            reigns: cluster.reigns(),
            complaints: std::mem::take(&mut self.complaints),
            tenant_lookups: cluster.tenant_lookups(),
            late_answers: cluster.late_answers(),
        }
    }

    /// What was broken, which the history tells too, and what was excused.
    fn judge(&self, evidence: &Evidence) -> (Vec<Violation>, Excuses) {
        let (mut violations, excuses) = invariants::check(evidence);
        let unexpected = self.cluster.story.complaints().into_iter();
        violations.extend(unexpected.map(|complaint| Violation {
            operations: complaint.op.iter().map(|op| op.0).collect(),
            ..Violation::of_no_key(EXPECTATION, 0, complaint.what)
        }));
        for violation in &violations {
            self.cluster
                .history
                .note(format_args!("violation: {violation}"));
        }
        (violations, excuses)
    }

    fn outcome(
        self,
        evidence: &Evidence,
        violations: Vec<Violation>,
        simulated: Duration,
    ) -> Outcome {
        let history = &self.cluster.history;
        let ops = &evidence.run.ops;
        let succeeded = |op: &&Op| op.success().is_some();
        Outcome {
            seed: evidence.run.world.seed,
            violations,
            history: history.text(),
            fingerprint: history.fingerprint(),
            operations: ops.len(),
            succeeded: ops.values().filter(succeeded).count(),
            messages: history.messages(),
            simulated,
            recording: Recording::of(&self.cluster.world, history),
            marks: Marks::default(),
            excuses: Excuses::new(),
            counts: Counts::of(ops.values(), evidence.run.seen.requests.clone()),
            spelled: self.options.spell.then(|| {
                let (began, attempts) = self.cluster.story.attempts();
                spell::out(evidence, began, &attempts)
            }),
        }
    }
}

fn all_serve(cluster: &Cluster) -> bool {
    let mut processes = cluster.processes().into_iter();
    processes.all(|who| cluster.serves(who) || cluster.is_abandoned(who))
}

/// Whether no message is under way.
fn is_silent(cluster: &Cluster) -> bool {
    cluster.network.in_flight() == 0
}

/// Makes the world's rare behaviour common.
fn buggify(world: &World) {
    let sites: Vec<_> = world.buggify.iter().map(|b| (b.site, b.permille)).collect();
    let mut rng = Rng::new(world.seed, "buggify");
    pairdb::buggify::activate(&sites, Box::new(move || rng.next_u64()));
}
