//! Writes at a steady rate, by many clients that each have keys of their own and remember what was acknowledged.
//!
//! A client writes its keys one at a time, with a number that only grows. So what a key must hold at last is known
//! without any knowledge of the product: a number not below the last one that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pairdb::proto::v1::WriteKeyValueRequest;
use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::{Plan, TENANT};

const VALUE_LEN: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(8);

/// What latencies are counted for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Window {
    Before,
    During,
    After,
}

const WINDOWS: [Window; 3] = [Window::Before, Window::During, Window::After];

/// A key, and the greatest number acknowledged for it.
#[derive(Clone, Debug)]
pub struct Written {
    pub name: String,
    pub number: u64,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Tally>>,
    begun: Instant,
    windows: std::sync::Mutex<Vec<Duration>>,
}

struct Shared {
    window: AtomicUsize,
    over: AtomicBool,
    /// From one write of a client to its next.
    pace: Duration,
}

/// What became of the writes.
pub struct Tally {
    /// Every key of which a write was acknowledged.
    pub keys: Vec<Written>,
    pub acknowledged: u64,
    pub failures: BTreeMap<String, u64>,
    latencies: [Histogram<u64>; 3],
    lengths: Vec<Duration>,
}

impl Load {
    pub fn start(plan: &Plan, prefix: String, coordinators: &[String]) -> Self {
        let shared = Arc::new(Shared {
            window: AtomicUsize::new(Window::Before as usize),
            over: AtomicBool::new(false),
            pace: Duration::from_secs(plan.workers as u64) / plan.rate as u32,
        });
        let connections: Vec<Channel> = coordinators
            .iter()
            .map(|url| Endpoint::from_shared(url.clone()).unwrap().connect_lazy())
            .collect();
        let clients = connections.iter().cycle().take(plan.workers).enumerate();
        let keys = (plan.keys / plan.workers).max(1);
        let clients = clients.map(|(client, connection)| {
            let connection = CoordinatorServiceClient::new(connection.clone());
            let names = (0..keys).map(|key| name(&prefix, client, key));
            tokio::spawn(write(Arc::clone(&shared), connection, names.collect()))
        });
        Self {
            clients: clients.collect(),
            shared,
            begun: Instant::now(),
            windows: std::sync::Mutex::default(),
        }
    }

    /// What comes now is counted for this window.
    pub fn measure(&self, window: Window) {
        self.windows.lock().unwrap().push(self.begun.elapsed());
        self.shared.window.store(window as usize, Ordering::Relaxed);
    }

    pub async fn stop(self) -> Tally {
        self.measure(Window::After);
        self.shared.over.store(true, Ordering::Relaxed);
        let mut all = Tally::new();
        let mut from = Duration::ZERO;
        for end in self.windows.into_inner().unwrap() {
            all.lengths.push(end - from);
            from = end;
        }
        for client in self.clients {
            all.add(client.await.unwrap());
        }
        all
    }
}

/// What a client calls its keys.
pub fn name(prefix: &str, client: usize, key: usize) -> String {
    format!("{prefix}-{client}-{key}")
}

/// A write of this number.
pub fn request(key: String, number: u64) -> tonic::Request<WriteKeyValueRequest> {
    let mut value = format!("{number:020}").into_bytes();
    value.resize(VALUE_LEN, b'.');
    let mut request = tonic::Request::new(WriteKeyValueRequest {
        tenant_id: TENANT.into(),
        key,
        value: value.into(),
        ..WriteKeyValueRequest::default()
    });
    request.set_timeout(TIMEOUT);
    request
}

/// One client.
async fn write(
    shared: Arc<Shared>,
    mut connection: CoordinatorServiceClient<Channel>,
    names: Vec<String>,
) -> Tally {
    let mut tally = Tally::new();
    let mut acknowledged = vec![0; names.len()];
    let start = tokio::time::Instant::now() + shared.pace.mul_f64(rand::random());
    let mut due = start;
    for number in 1_u64.. {
        tokio::time::sleep_until(due).await;
        // A client that can't keep up doesn't catch up later: that would be another load than the one asked for.
        due = (due + shared.pace).max(tokio::time::Instant::now());
        if shared.over.load(Ordering::Relaxed) {
            break;
        }
        let which = rand::random_range(0..names.len());
        let request = request(names[which].clone(), number);
        let window = shared.window.load(Ordering::Relaxed);
        let asked = Instant::now();
        match connection.write_key_value(request).await {
            Ok(_) => {
                let latency = asked.elapsed().as_micros() as u64;
                tally.latencies[window].record(latency).unwrap();
                tally.acknowledged += 1;
                acknowledged[which] = number;
            }
            Err(status) => {
                *tally
                    .failures
                    .entry(format!("{:?}: {}", status.code(), status.message()))
                    .or_default() += 1;
            }
        }
    }
    let keys = names.into_iter().zip(acknowledged);
    tally.keys = keys
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| Written { name, number })
        .collect();
    tally
}

impl Tally {
    fn new() -> Self {
        Self {
            keys: Vec::new(),
            acknowledged: 0,
            failures: BTreeMap::new(),
            latencies: [(); 3].map(|()| Histogram::new(3).unwrap()),
            lengths: Vec::new(),
        }
    }

    fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.acknowledged += other.acknowledged;
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        for (all, one) in self.latencies.iter_mut().zip(other.latencies) {
            all.add(one).unwrap();
        }
    }

    pub fn print(&self) {
        println!(
            "  {} writes of {} keys acknowledged, {} not",
            self.acknowledged,
            self.keys.len(),
            self.failures.values().sum::<u64>()
        );
        for (failure, count) in self.failures.iter().take(3) {
            println!("    {count} times: {failure}");
        }
        for ((window, latencies), length) in WINDOWS.iter().zip(&self.latencies).zip(&self.lengths)
        {
            let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
            println!(
                "  {:8} {:6.1} s {:7.0} writes/s  p50 {:6.1} ms  p99 {:6.1} ms  p99.9 {:6.1} ms  worst {:6.1} ms",
                format!("{window:?}"),
                length.as_secs_f64(),
                latencies.len() as f64 / length.as_secs_f64(),
                ms(0.5),
                ms(0.99),
                ms(0.999),
                latencies.max() as f64 / 1e3
            );
        }
    }
}
