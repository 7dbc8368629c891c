//! The result, for people and for scripts.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::super::exit::Failure;
use super::super::output::{self, BAD, STRONG, styled};
use super::args::Bench;
use super::cpu::CpuTimes;
use super::tally::Tally;

/// Threads that used less of a process's time than this share are not shown.
const THREAD_SHARE_MIN: f64 = 0.01;

/// What was measured.
pub struct Report {
    pub(super) bench: Bench,
    pub(super) took: Duration,
    pub(super) tally: Tally,
    pub(super) server: Option<CpuTimes>,
    pub(super) client: Option<CpuTimes>,
}

impl Report {
    /// How many operations succeeded.
    pub fn done(&self) -> u64 {
        self.tally.writes.len() + self.tally.reads.len()
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        let bench = &self.bench;
        json!({
            "clients": bench.clients,
            "connections": bench.connections,
            "rate": bench.rate,
            "value_bytes": bench.value_bytes,
            "keys": bench.keys,
            "consistency": bench.consistency,
            "mix": bench.mix.to_string(),
            "seconds": self.took.as_secs_f64(),
            "write": self.latencies(&self.tally.writes),
            "read": self.latencies(&self.tally.reads),
            "failures": self.tally.failures,
            "server_cpu_us_per_operation": self.cpu_json(self.server.as_ref()),
            "client_cpu_us_per_operation": self.cpu_json(self.client.as_ref()),
        })
    }

    /// For people.
    pub fn print(&self) -> Result<(), Failure> {
        let bench = &self.bench;
        output::line(&format!(
            "{} clients on {} connections, {}-byte values, {} keys, {}, {:.1} s",
            bench.clients,
            bench.connections,
            bench.value_bytes,
            bench.keys,
            bench.consistency,
            self.took.as_secs_f64()
        ))?;
        let head = format!(
            "{:6} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "", "per second", "p50", "p95", "p99", "max"
        );
        output::line(&styled(STRONG, head))?;
        for (name, histogram) in [("write", &self.tally.writes), ("read", &self.tally.reads)] {
            if !histogram.is_empty() {
                self.print_latencies(name, histogram)?;
            }
        }
        for (code, count) in &self.tally.failures {
            output::line(&styled(BAD, format!("failed {count} times: {code}")))?;
        }
        for (name, cpu) in [("server", &self.server), ("client", &self.client)] {
            if let Some(cpu) = cpu {
                let mut line = format!(
                    "CPU of the {name}: {:.1} us per operation",
                    self.per_operation(cpu.total)
                );
                for (thread, time) in self.busy_threads(cpu) {
                    line.push_str(&format!(", {thread} {:.1}", self.per_operation(time)));
                }
                output::line(&line)?;
            }
        }
        Ok(())
    }

    fn print_latencies(&self, name: &str, histogram: &Histogram<u64>) -> Result<(), Failure> {
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        output::line(&format!(
            "{name:6} {:>10.0} {:>10} {:>10} {:>10} {:>10}",
            self.per_second(histogram),
            at(0.50),
            at(0.95),
            at(0.99),
            milliseconds(histogram.max())
        ))
    }

    fn latencies(&self, histogram: &Histogram<u64>) -> Value {
        if histogram.is_empty() {
            return Value::Null;
        }
        json!({
            "count": histogram.len(),
            "per_second": self.per_second(histogram),
            "p50_us": histogram.value_at_quantile(0.50),
            "p95_us": histogram.value_at_quantile(0.95),
            "p99_us": histogram.value_at_quantile(0.99),
            "max_us": histogram.max(),
        })
    }

    fn cpu_json(&self, cpu: Option<&CpuTimes>) -> Value {
        let Some(cpu) = cpu else { return Value::Null };
        let threads: Map<String, Value> = self
            .busy_threads(cpu)
            .map(|(thread, time)| (thread.to_owned(), self.per_operation(time).into()))
            .collect();
        json!({ "total": self.per_operation(cpu.total), "threads": threads })
    }

    fn busy_threads<'a>(
        &self,
        cpu: &'a CpuTimes,
    ) -> impl Iterator<Item = (&'a str, Duration)> + use<'a> {
        let least = cpu.total.mul_f64(THREAD_SHARE_MIN);
        cpu.threads
            .iter()
            .filter(move |(_, time)| **time > least)
            .map(|(thread, time)| (thread.as_str(), *time))
    }

    fn per_second(&self, histogram: &Histogram<u64>) -> f64 {
        histogram.len() as f64 / self.took.as_secs_f64()
    }

    fn per_operation(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1_000_000.0 / self.done().max(1) as f64
    }
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}
