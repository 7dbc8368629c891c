//! The page of a run: complete, self-contained, the same every time, and no change to the run.

use pairdb::mutant::Mutant;

use super::*;
use crate::endpoint::Endpoint;
use crate::outcome::Options;
use crate::recorder::Life;
use crate::run::run;
use crate::world::{Fault, FaultStep, World};

const RECORDED: Options = Options {
    mutant: None,
    messages: false,
    record: true,
    spell: false,
};

fn page(world: World) -> (Outcome, String) {
    let outcome = run(world, RECORDED);
    let recording = outcome.recording.clone().expect("it was recorded");
    let page = render(&outcome, &recording, "cargo sim run --seed 3");
    (outcome, page)
}

#[test]
fn a_recorded_run_is_the_same_run() {
    let plain = run(World::draw(3), Options::default());
    let recorded = run(World::draw(3), RECORDED);
    assert!(plain.recording.is_none());
    assert_eq!(plain.history, recorded.history);
    assert_eq!(plain.fingerprint, recorded.fingerprint);
}

#[test]
fn one_seed_has_one_page() {
    assert_eq!(page(World::draw(3)).1, page(World::draw(3)).1);
}

#[test]
fn a_page_refers_to_nothing_outside() {
    let (_, page) = page(World::draw(3));
    for outside in ["http://", "https://", " src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_process_has_a_lane() {
    let (outcome, page) = page(World::draw(3));
    let world = &outcome.recording.as_ref().expect("it was recorded").world;
    let clients = (1..).zip(&world.clients).map(|(n, _)| Endpoint::Client(n));
    let stores = [Endpoint::Metadata, Endpoint::Idempotency];
    let lanes = world.storage().into_iter().chain(world.coordinators());
    for who in lanes.chain(clients).chain(stores) {
        assert!(page.contains(&format!("[\"{who}\",")), "{who}");
    }
}

#[test]
fn every_message_fault_and_life_is_in_the_recording() {
    let (outcome, _) = page(World::draw(3));
    let log = &outcome.recording.as_ref().expect("it was recorded").log;
    let to_storage = log
        .calls
        .iter()
        .filter(|call| matches!(call.to, Endpoint::Storage(_)));
    let arrivals = to_storage.flat_map(|call| &call.arrivals);
    let said = arrivals.map(|arrival| 1 + u64::from(arrival.answered.is_some()));
    // What the harness itself asks at the end goes past the network, and is counted by the history.
    assert!(said.sum::<u64>() * 10 > outcome.messages * 8);
    let begun = outcome.history.matches(" begins: ").count();
    assert_eq!(log.faults.len(), begun);
    assert!(
        log.faults
            .iter()
            .all(|(_, from, to)| to.is_some_and(|to| to >= *from))
    );
    let started = |(_, _, life): &&(Endpoint, u64, Life)| *life == Life::Starts;
    let lives = outcome.history.matches(" starts, life ").count();
    assert_eq!(log.lives.iter().filter(started).count(), lives);
    assert!(!log.stored.is_empty());
}

#[test]
fn hostile_text_stays_text() {
    let mut world = World::draw(3);
    world.tenants[0].name = "</script><b>@@DATA@@".into();
    let (outcome, page) = page(world);
    assert!(outcome.operations > 0);
    assert!(page.contains("\\u003c/script>\\u003cb>@@DATA@@"));
    assert_eq!(
        page.matches("</script>").count(),
        TEMPLATE.matches("</script>").count()
    );
}

#[test]
fn a_panic_leaves_a_page_too() {
    let mut world = World::draw(3);
    // A storage node that nobody has.
    world.faults.clear();
    let nobody = Fault::Crash {
        who: Endpoint::Storage(99),
    };
    world.faults.push(FaultStep::new(500, 100, nobody));
    let (outcome, page) = page(world);
    assert_eq!(outcome.violations.len(), 1);
    assert!(page.contains("no panic"));
}

#[test]
fn a_planted_bug_is_shown_with_the_operations_it_concerns() {
    let options = Options {
        mutant: Some(Mutant::ResolveOldest),
        ..RECORDED
    };
    let broken = (0..20)
        .map(|seed| run(World::draw(seed), options))
        .find(|outcome| {
            outcome
                .violations
                .iter()
                .any(|found| !found.operations.is_empty())
        });
    let outcome = broken.expect("a seed finds it");
    let recording = outcome.recording.as_deref().expect("it was recorded");
    let page = render(&outcome, recording, "again");
    assert!(page.contains(&outcome.violations[0].what));
}
