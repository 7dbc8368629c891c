//! What a coordinator knows of one storage node: how fast it answers, whether it answers, and who it is.
//!
//! Health only orders owners; it never forbids asking one, so a node that comes back is back in service by itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutant::{self, Mutant};
use crate::ports::{Instant, NodeReport};

/// This many failures in a row make a node unhealthy until it answers again.
const FAILURES_MAX: u32 = 3;
/// A node that was not asked for this long is due for a try: health must be able to improve.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// One node's health, shared by all requests.
#[derive(Debug, Default)]
pub(super) struct NodeHealth {
    in_flight: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Exponentially weighted mean of the answers' latency, in nanoseconds; zero until the first answer.
    mean_ns: u64,
    /// A running estimate of the 95th percentile, in nanoseconds (Ma, Muthukrishnan, Sandler, *Frugal Streaming*, 2013,
    /// with steps in proportion to the estimate).
    p95_ns: u64,
    failures_in_row: u32,
    /// Those among them that were no answers at all.
    silences_in_row: u32,
    last_failure: Instant,
    report: Option<NodeReport>,
    /// When it was asked for the report.
    asked_at: Instant,
    /// It said that it is being refilled.
    refilling: bool,
    /// It names an epoch that the metadata store does not bear out.
    out_of_step: bool,
    /// It answers again after it was unhealthy, and nobody has taken note yet.
    back: bool,
}

/// How good a choice a node is; smaller is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Preference {
    unhealthy: bool,
    expected_ns: u64,
}

impl Preference {
    /// Whether it is asked for want of a better one only.
    pub(super) const fn is_unhealthy(self) -> bool {
        self.unhealthy
    }
}

impl NodeHealth {
    pub(super) fn call_started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The call is over, whatever became of it.
    pub(super) fn call_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut state = self.lock();
        if !mutant::on(Mutant::UnhealthyForEver) {
            state.back |= state.failures_in_row >= FAILURES_MAX;
            state.failures_in_row = 0;
            state.silences_in_row = 0;
        }
        if state.mean_ns == 0 {
            state.mean_ns = ns;
            state.p95_ns = ns.saturating_mul(2);
        } else {
            state.mean_ns = state.mean_ns - state.mean_ns / 8 + ns / 8;
            // In balance when 19 of 20 answers are below: up by 19 parts in 20 of a step, down by one.
            let step = state.p95_ns / 64 + 1;
            if ns > state.p95_ns {
                state.p95_ns = state.p95_ns.saturating_add(step);
            } else {
                state.p95_ns -= (step / 19).min(state.p95_ns - 1);
            }
        }
    }

    /// It said that it is being refilled. Its next report says whether it still is.
    pub(super) fn is_refilling(&self) {
        self.lock().refilling = true;
    }

    /// Whether it names an epoch that the metadata store does not bear out; then it refuses everything.
    pub(super) fn set_out_of_step(&self, out_of_step: bool) {
        self.lock().out_of_step = out_of_step;
    }

    /// Whether it names such an epoch.
    pub(super) fn is_out_of_step(&self) -> bool {
        self.lock().out_of_step
    }

    /// It did not answer.
    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.lock();
        state.silences_in_row = state.silences_in_row.saturating_add(1);
        state.fail(now);
    }

    /// It answered that it could not do what was asked for.
    pub(super) fn refused(&self, now: Instant) {
        let mut state = self.lock();
        state.silences_in_row = 0;
        state.fail(now);
    }

    /// It answered, asked at `asked_at`, how it is.
    pub(super) fn reported(&self, report: NodeReport, asked_at: Instant) {
        let mut state = self.lock();
        if asked_at >= state.asked_at {
            state.refilling = report.refilling.is_some();
            state.report = Some(report);
            state.asked_at = asked_at;
        }
    }

    /// When it was asked for its latest report.
    pub(super) fn asked_at(&self) -> Instant {
        self.lock().asked_at
    }

    /// The latest report, if the node ever gave one.
    pub(super) fn report(&self) -> Option<NodeReport> {
        self.lock().report.clone()
    }

    /// Runs `read` on the latest report without cloning it.
    pub(super) fn with_report<T>(&self, read: impl FnOnce(Option<&NodeReport>) -> T) -> T {
        read(self.lock().report.as_ref())
    }

    /// Whether it has come back since this was last asked.
    pub(super) fn take_back(&self) -> bool {
        std::mem::take(&mut self.lock().back)
    }

    /// Whether it answers, if only to refuse.
    pub(super) fn answers(&self) -> bool {
        self.lock().silences_in_row < FAILURES_MAX
    }

    /// Whether it does what it is asked for.
    pub(super) fn is_healthy(&self) -> bool {
        let state = self.lock();
        state.failures_in_row < FAILURES_MAX && !state.out_of_step
    }

    /// Expected time to an answer: the mean, once for each call that is already waiting and once for ours.
    pub(super) fn preference(&self, now: Instant) -> Preference {
        let state = self.lock();
        let tired = state.failures_in_row >= FAILURES_MAX
            && now.since(state.last_failure) < STALE_AFTER * 10;
        let refuses = state
            .report
            .as_ref()
            .is_some_and(|report| report.refuses_writes.is_some());
        let waiting = u64::from(self.in_flight.load(Ordering::Relaxed));
        Preference {
            unhealthy: tired || refuses || state.refilling || state.out_of_step,
            expected_ns: state.mean_ns.saturating_mul(waiting + 1),
        }
    }

    /// About how long 19 of 20 answers take. Zero until the first answer.
    pub(super) fn p95(&self) -> Duration {
        Duration::from_nanos(self.lock().p95_ns)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, now: Instant) {
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        self.last_failure = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Epoch, NodeId};
    use crate::ports::Release;
    use crate::version::Actor;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_95th_percentile_settles_between_the_bulk_and_the_tail() {
        let health = NodeHealth::default();
        for i in 0..20_000 {
            health.answered(if i % 10 == 0 { MS * 100 } else { MS });
        }
        assert!(health.p95() > MS * 50, "{:?}", health.p95());
        for _ in 0..20_000 {
            health.answered(MS);
        }
        assert!(health.p95() < MS * 4, "{:?}", health.p95());
    }

    #[test]
    fn the_mean_follows_what_is_answered_up_and_down() {
        let health = NodeHealth::default();
        let mean = || Duration::from_nanos(health.preference(Instant(0)).expected_ns);
        for latency in [MS, MS * 10, MS / 10] {
            for _ in 0..200 {
                health.answered(latency);
            }
            let mean = mean();
            assert!(
                mean > latency * 9 / 10 && mean < latency * 11 / 10,
                "{mean:?} of {latency:?}"
            );
        }
    }

    #[test]
    fn a_node_that_failed_is_due_for_a_try_after_a_while() {
        let health = NodeHealth::default();
        for _ in 0..FAILURES_MAX {
            health.failed(Instant(0));
        }
        let after = |duration: Duration| health.preference(Instant(0) + duration);
        assert!(after(STALE_AFTER * 10 - MS).is_unhealthy());
        assert!(!after(STALE_AFTER * 10).is_unhealthy());
        assert!(
            !health.is_healthy(),
            "though it has not answered: it is tried"
        );
    }

    #[test]
    fn a_node_that_is_back_is_told_of_once() {
        let health = NodeHealth::default();
        health.answered(MS);
        assert!(!health.take_back(), "it was never away");
        for _ in 0..FAILURES_MAX {
            health.failed(Instant(0));
        }
        assert!(!health.take_back(), "it is away");
        health.answered(MS);
        assert!(health.take_back());
        assert!(!health.take_back(), "that is known");
    }

    #[test]
    fn the_report_that_was_asked_for_last_counts() {
        let report = |keys| NodeReport {
            node: NodeId::new("node-1").unwrap(),
            incarnations: vec![Actor(1)],
            epoch: Epoch(1),
            wall_ms: 0,
            keys,
            disk_used_percent: None,
            refuses_writes: None,
            tombstones: 0,
            hints: Vec::new(),
            refilling: None,
            release: Release::Current,
            older_callers: Vec::new(),
        };
        let health = NodeHealth::default();
        health.reported(report(1), Instant(5));
        health.reported(report(2), Instant(4));
        assert_eq!(
            health.report(),
            Some(report(1)),
            "the answer to it came late"
        );
        health.reported(report(3), Instant(6));
        assert_eq!(health.report(), Some(report(3)));
        assert_eq!(health.asked_at(), Instant(6));
    }

    #[test]
    fn a_busy_or_slow_or_failing_node_is_the_worse_choice() {
        let now = Instant(0);
        let (fast, slow, down) = (
            NodeHealth::default(),
            NodeHealth::default(),
            NodeHealth::default(),
        );
        fast.answered(MS);
        slow.answered(MS * 10);
        down.answered(MS / 10);
        for _ in 0..FAILURES_MAX {
            down.failed(now);
        }
        assert!(fast.preference(now) < slow.preference(now));
        assert!(slow.preference(now) < down.preference(now));
        for _ in 0..20 {
            fast.call_started();
        }
        assert!(slow.preference(now) < fast.preference(now));
        assert!(!down.is_healthy() && !down.answers());
        down.refused(now);
        assert!(
            !down.is_healthy() && down.answers(),
            "it refuses, so it is there"
        );
        down.answered(MS);
        assert!(down.is_healthy());
    }
}
