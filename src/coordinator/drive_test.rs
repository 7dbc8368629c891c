//! What the driver does for every plan, sentence by sentence.
//!
//! Answers are put among the calls under way beforehand; the plans ask nobody themselves.

use std::time::Duration;

use futures::FutureExt;
use futures::future::pending;

use super::super::Coordinator;
use super::super::plan::{Next, Positions};
use super::super::test_cluster::{TestCluster, TestWorld};
use super::*;
use crate::placement::Epoch;
use crate::ports::{ReadRecord, RecordKey};

const MS: Duration = Duration::from_millis(1);
const DEADLINE: Duration = Duration::from_millis(100);

/// Notes what it is told, and goes on until it has been told of as many things as it waits for.
struct Script<const MAY_HAPPEN_UNHEARD: bool> {
    key: RecordKey,
    /// How long it waits at first, and then.
    waits: Vec<Wait>,
    /// As many answers make it done.
    answers: usize,
    heard: Vec<&'static str>,
    at_deadline: Option<&'static str>,
    /// Whom it calls too slow when its patience is over.
    tells_of: Option<usize>,
}

impl<const M: bool> Script<M> {
    fn next(&mut self) -> Next<&'static str> {
        let answers = self.heard.iter().filter(|heard| **heard == "answer");
        match answers.count() >= self.answers {
            true => Next::done("done"),
            false => Next::wait(match self.waits.is_empty() {
                true => Wait::On,
                false => self.waits.remove(0),
            }),
        }
    }
}

impl<const M: bool> Plan for Script<M> {
    type Ask = ReadRecord;
    type Output = &'static str;

    const MAY_HAPPEN_UNHEARD: bool = M;
    const LATE: Option<Mark> = None;

    fn question(&self) -> ReadRecord {
        let key = self.key.clone();
        ReadRecord { key }
    }

    fn start(&mut self, _: &mut Notes<'_>) -> Next<&'static str> {
        self.next()
    }

    fn on_answer(
        &mut self,
        _: usize,
        _: Result<Option<bytes::Bytes>, CallError>,
        _: &mut Notes<'_>,
    ) -> Next<&'static str> {
        self.heard.push("answer");
        self.next()
    }

    fn on_patience(&mut self, notes: &mut Notes<'_>) -> Next<&'static str> {
        self.heard.push("patience");
        notes.too_slow = self.tells_of.take();
        self.next()
    }

    fn at_deadline(&mut self) -> Option<&'static str> {
        self.at_deadline
    }
}

/// What became of a plan that an answer comes to `after` each of these times, with one more call that stays silent.
struct Drive {
    result: Result<&'static str, PassFailure>,
    missing: Missing,
    heard: Vec<&'static str>,
    took: Duration,
}

fn script<const M: bool>(answers: usize, waits: Vec<Wait>) -> Script<M> {
    let tenant = crate::ports::TenantId::new("lww").unwrap();
    Script {
        key: RecordKey::new(crate::placement::PartitionId(1), &tenant, "k"),
        waits,
        answers,
        heard: Vec::new(),
        at_deadline: None,
        tells_of: None,
    }
}

fn owners_of(coordinator: &Coordinator<TestWorld>, key: &RecordKey) -> Owners<TestWorld> {
    let topologies = &coordinator.status().topologies;
    topologies.owners_by(topologies.routing(), key, 3)
}

fn drive<const M: bool>(
    mut plan: Script<M>,
    answers: Vec<(Duration, Result<Option<bytes::Bytes>, CallError>)>,
) -> Drive {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let owners = owners_of(&coordinator, &plan.key);
    let clock = owners.clock().clone();
    let driver = Driver {
        owners: &owners,
        consistency: Consistency::Quorum,
        deadline: clock.now() + DEADLINE,
    };
    let began = clock.now();
    let mut calls = Calls::new();
    for (after, result) in answers {
        let sleep = clock.sleep(after);
        let answer = async move {
            sleep.await;
            let position = 0;
            Answer { position, result }
        };
        calls.push(answer.boxed());
    }
    calls.push(pending().boxed());
    let mut missing = Missing::default();
    let result = cluster.run(driver.run(&mut plan, &mut calls, &mut missing));
    Drive {
        result,
        missing,
        heard: plan.heard,
        took: clock.now().since(began),
    }
}

fn stale() -> Result<Option<bytes::Bytes>, CallError> {
    let current = Epoch(9);
    Err(Refusal::StaleEpoch { current }.into())
}

#[test]
fn an_answer_wins_over_patience_that_ends_at_the_same_instant() {
    let plan = script::<true>(1, vec![Wait::For(MS * 5)]);
    let driven = drive(plan, vec![(MS * 5, Ok(None))]);
    assert_eq!(driven.result.unwrap(), "done");
    assert_eq!(driven.heard, ["answer"]);
}

#[test]
fn to_wait_on_keeps_the_time_that_was_set_before() {
    let plan = script::<true>(2, vec![Wait::For(MS * 10), Wait::On, Wait::UntilDeadline]);
    let driven = drive(plan, vec![(MS * 5, Ok(None)), (MS * 50, Ok(None))]);
    assert_eq!(driven.result.unwrap(), "done");
    assert_eq!(driven.heard, ["answer", "patience", "answer"]);
    assert_eq!(driven.took, MS * 50);
}

#[test]
fn to_wait_on_when_patience_is_over_is_to_wait_until_the_deadline() {
    let driven = drive(script::<true>(1, vec![Wait::For(MS)]), Vec::new());
    assert_eq!((driven.heard, driven.took), (vec!["patience"], DEADLINE));
}

#[test]
fn nothing_is_waited_for_beyond_the_deadline_and_the_error_says_so() {
    let plan = script::<true>(1, vec![Wait::For(Duration::from_secs(60))]);
    let driven = drive(plan, Vec::new());
    assert_eq!(driven.took, DEADLINE);
    let Err(PassFailure::Failed(error)) = driven.result else {
        panic!("it fails");
    };
    assert!(error.timed_out());
}

#[test]
fn what_is_unheard_at_the_deadline_may_have_happened_if_it_changes_something() {
    assert!(
        drive(script::<true>(1, Vec::new()), Vec::new())
            .missing
            .may_have_happened
    );
    assert!(
        !drive(script::<false>(1, Vec::new()), Vec::new())
            .missing
            .may_have_happened
    );
}

#[test]
fn a_newer_topology_ends_a_pass_and_what_is_unheard_may_have_happened() {
    let driven = drive(script::<true>(1, Vec::new()), vec![(MS, stale())]);
    assert!(matches!(
        driven.result,
        Err(PassFailure::StaleEpoch(Epoch(9)))
    ));
    assert!(driven.missing.may_have_happened);
    assert!(driven.heard.is_empty(), "the plan has no say in it");
    let driven = drive(script::<false>(1, Vec::new()), vec![(MS, stale())]);
    assert!(!driven.missing.may_have_happened);
}

#[test]
fn a_plan_that_has_enough_at_the_deadline_is_done() {
    let plan = Script {
        at_deadline: Some("enough"),
        ..script::<true>(1, Vec::new())
    };
    assert_eq!(drive(plan, Vec::new()).result.unwrap(), "enough");
}

#[test]
fn patience_is_that_with_the_slowest_or_the_quickest_owner() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let plan = script::<true>(1, Vec::new());
    let owners = owners_of(&coordinator, &plan.key);
    (0..2000).for_each(|_| owners.health(1).answered(Duration::from_secs(1)));
    let driver = Driver {
        owners: &owners,
        consistency: Consistency::Quorum,
        deadline: Instant::NEVER,
    };
    let now = owners.clock().now();
    let wait = |wait| driver.until(&wait).unwrap().since(now);
    let all: Positions = (0..3).collect();
    assert!(wait(Wait::ForSlowest(all)) > Duration::from_secs(1));
    assert!(wait(Wait::ForSlowest(Positions::one(0))) < Duration::from_secs(1));
    assert_eq!(
        wait(Wait::ForQuickest),
        wait(Wait::ForSlowest(Positions::one(0)))
    );
}

#[test]
fn an_owner_that_a_plan_calls_too_slow_looks_worse() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let key = script::<true>(1, Vec::new()).key;
    let owners = owners_of(&coordinator, &key);
    for _ in 0..3 {
        let driver = Driver {
            owners: &owners,
            consistency: Consistency::Quorum,
            deadline: owners.clock().now() + DEADLINE,
        };
        let mut plan = Script {
            tells_of: Some(1),
            ..script::<true>(1, vec![Wait::For(MS)])
        };
        let mut calls = Calls::new();
        calls.push(pending().boxed());
        let mut missing = Missing::default();
        let run = driver.run(&mut plan, &mut calls, &mut missing);
        assert!(cluster.run(run).is_err());
    }
    assert!(!owners.health(1).is_healthy());
    assert!(owners.health(0).is_healthy());
}
