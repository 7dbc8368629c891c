//! What became of the requests, phase by phase.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::{Acknowledged, connect, read_number};

/// What is counted of one phase.
pub struct Phase {
    name: &'static str,
    allowed: &'static [&'static str],
    began: Instant,
    latencies: Histogram<u64>,
    failures: BTreeMap<String, (u64, String)>,
    /// How often a client went to another coordinator because one was not there.
    pub moved_on: u64,
    /// Reads that showed less than what was acknowledged.
    pub stale: u64,
}

/// All of it.
pub struct Outcome {
    pub phases: Vec<Phase>,
    pub acknowledged: Acknowledged,
}

impl Phase {
    pub fn begin(name: &'static str, allowed: &'static [&'static str]) -> Self {
        Self {
            name,
            allowed,
            began: Instant::now(),
            latencies: Histogram::new(3).unwrap(),
            failures: BTreeMap::new(),
            moved_on: 0,
            stale: 0,
        }
    }

    pub fn succeeded(&mut self, took: Duration) {
        self.latencies.record(took.as_micros() as u64).unwrap();
    }

    pub fn failed(&mut self, reason: String, status: &tonic::Status) {
        let first = || (0, status.message().to_owned());
        self.failures.entry(reason).or_insert_with(first).0 += 1;
    }
}

impl Outcome {
    pub fn print(&self) {
        println!(
            "{:24} {:>6} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6}  errors",
            "phase", "req/s", "answered", "p50 ms", "p99 ms", "worst ms", "moved", "stale"
        );
        let ends = self.phases.iter().skip(1).map(|phase| phase.began);
        for (phase, end) in self.phases.iter().zip(ends.chain([Instant::now()])) {
            let failed: u64 = phase.failures.values().map(|(count, _)| count).sum();
            let requests = phase.latencies.len() + failed;
            let ms = |quantile| phase.latencies.value_at_quantile(quantile) as f64 / 1e3;
            let errors = phase.failures.iter();
            let errors: Vec<_> = errors
                .map(|(reason, (count, text))| format!("{count} {reason} ({text})"))
                .collect();
            println!(
                "{:24} {:6.0} {:9} {:9.1} {:9.1} {:9.1} {:6} {:6}  {}",
                phase.name,
                requests as f64 / (end - phase.began).as_secs_f64(),
                phase.latencies.len(),
                ms(0.5),
                ms(0.99),
                phase.latencies.max() as f64 / 1e3,
                phase.moved_on,
                phase.stale,
                errors.join(", ")
            );
        }
    }

    /// Keys that show less than what was acknowledged, now that all is over.
    pub async fn lost(&self, coordinators: &[String]) -> Vec<String> {
        let mut coordinators: Vec<_> = coordinators.iter().map(|url| connect(url)).collect();
        let mut lost = Vec::new();
        for (key, number) in &self.acknowledged {
            let (found, _) = read_number(&mut coordinators, key).await;
            let found = found.unwrap();
            if found < Some(*number) {
                lost.push(format!("{key}: {found:?} instead of {number}"));
            }
        }
        assert!(!self.acknowledged.is_empty(), "nothing was acknowledged");
        lost
    }

    /// No error that its phase does not allow, and nothing stale.
    pub fn check(&self) {
        for phase in &self.phases {
            assert_eq!(phase.stale, 0, "{}: stale reads", phase.name);
            let may_move = phase.name.contains("coordinators") || phase.name.contains("again");
            assert!(
                may_move || phase.moved_on == 0,
                "{}: coordinators were not there",
                phase.name
            );
            assert!(!phase.latencies.is_empty() || phase.name == "start");
            for (reason, (count, text)) in &phase.failures {
                assert!(
                    phase.allowed.contains(&reason.as_str()),
                    "{}: {count} times {reason}: {text}",
                    phase.name
                );
            }
        }
    }
}
