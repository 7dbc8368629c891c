//! The clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use tokio::task::JoinHandle;
use tonic::{Request, Status};

use super::super::client::{self, Authorization, Client, Effect, failure};
use super::super::exit::Failure;
use super::args::{Bench, TENANT};
use super::mix::{Mix, Operation};
use super::tally::Tally;
use crate::proto::v1::{ReadKeyValueRequest, WriteKeyValueRequest};

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDED: u8 = 2;

/// A client that was refused waits so long, as a sensible one would.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// A client that waits for its next request looks this often whether the measurement is over.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What every client does.
pub struct Load {
    shared: Arc<Shared>,
    connections: Vec<Client>,
    clients: usize,
}

struct Shared {
    mix: Mix,
    keys: u64,
    value: Bytes,
    consistency: String,
    timeout: Duration,
    /// From one request of a client to its next; `None`: as soon as it is answered.
    pace: Option<Duration>,
    token: Option<Authorization>,
    phase: AtomicU8,
    done: AtomicU64,
}

/// Clients at work.
pub struct Running {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Tally>>,
    begun: Instant,
}

impl Load {
    /// As the arguments say, on these connections.
    pub fn new(bench: &Bench, token: Option<Authorization>, connections: Vec<Client>) -> Self {
        let value: Vec<u8> = (0..bench.value_bytes).map(|_| rand::random()).collect();
        let shared = Arc::new(Shared {
            mix: bench.mix,
            keys: bench.keys,
            value: value.into(),
            consistency: bench.consistency.clone(),
            timeout: bench.timeout,
            pace: (bench.rate > 0).then(|| Duration::from_secs(1) * bench.clients / bench.rate),
            token,
            phase: AtomicU8::new(WARMING_UP),
            done: AtomicU64::new(0),
        });
        Self {
            shared,
            connections,
            clients: bench.clients as usize,
        }
    }

    /// Writes every key once.
    pub async fn fill(&self) -> Result<(), Failure> {
        let next = AtomicU64::new(0);
        let workers = self.each_client().map(|mut client| {
            let (next, shared) = (&next, &self.shared);
            async move {
                loop {
                    let key = next.fetch_add(1, Ordering::Relaxed);
                    if key >= shared.keys {
                        return Ok(());
                    }
                    let written = shared.write(&mut client, key).await;
                    written.map_err(|status| failure(&status, Effect::Writes))?;
                }
            }
        });
        join_all(workers).await.into_iter().collect()
    }

    /// Starts the clients; nothing is measured until [`Running::begin`].
    pub fn start(self) -> Running {
        let clients = self
            .each_client()
            .map(|client| tokio::spawn(Arc::clone(&self.shared).work(client)))
            .collect();
        Running {
            shared: self.shared,
            clients,
            begun: Instant::now(),
        }
    }

    fn each_client(&self) -> impl Iterator<Item = Client> {
        self.connections.iter().cycle().take(self.clients).cloned()
    }
}

impl Running {
    /// Measures from now on.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
        self.shared.phase.store(MEASURING, Ordering::Relaxed);
    }

    /// Operations that succeeded since the start.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Measures no more; returns what was counted and in what time.
    pub async fn end(self) -> (Tally, Duration) {
        self.shared.phase.store(ENDED, Ordering::Relaxed);
        let took = self.begun.elapsed();
        let mut total = Tally::new();
        for tally in join_all(self.clients).await.into_iter().flatten() {
            total.add(&tally);
        }
        (total, took)
    }
}

impl Shared {
    async fn work(self: Arc<Self>, mut client: Client) -> Tally {
        let mut tally = Tally::new();
        let first = self.pace.unwrap_or_default().mul_f64(rand::random());
        let mut due = Instant::now() + first;
        loop {
            let operation = self.mix.pick();
            let key = rand::random_range(0..self.keys);
            let behind = due < Instant::now();
            match self.pace {
                Some(_) => {
                    if !self.is_due(due).await {
                        return tally;
                    }
                }
                None => due = Instant::now(),
            }
            // What woke too late is the timer's, what is behind is the server's.
            let began = match behind {
                true => due,
                false => Instant::now(),
            };
            let (result, effect) = match operation {
                Operation::Write => (self.write(&mut client, key).await, Effect::Writes),
                Operation::Read => (self.read(&mut client, key).await, Effect::Reads),
            };
            let took = began.elapsed();
            due += self.pace.unwrap_or_default();
            let phase = self.phase.load(Ordering::Relaxed);
            if phase == ENDED {
                return tally;
            }
            match result {
                Ok(()) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    if phase == MEASURING {
                        tally.succeeded(operation, took);
                    }
                }
                Err(status) => {
                    if phase == MEASURING {
                        tally.failed(failure(&status, effect).code);
                    }
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }

    /// Waits until then; not if the measurement ends before.
    async fn is_due(&self, due: Instant) -> bool {
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            if self.phase.load(Ordering::Relaxed) == ENDED {
                return false;
            }
            tokio::time::sleep(left.min(LOOK_UP)).await;
        }
        true
    }

    async fn write(&self, client: &mut Client, key: u64) -> Result<(), Status> {
        let request = self.request(WriteKeyValueRequest {
            tenant_id: TENANT.into(),
            key: name(key),
            value: self.value.clone(),
            consistency: self.consistency.clone(),
            ..WriteKeyValueRequest::default()
        });
        client.write_key_value(request).await.map(drop)
    }

    async fn read(&self, client: &mut Client, key: u64) -> Result<(), Status> {
        let request = self.request(ReadKeyValueRequest {
            tenant_id: TENANT.into(),
            key: name(key),
            consistency: self.consistency.clone(),
            ..ReadKeyValueRequest::default()
        });
        client.read_key_value(request).await.map(drop)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        client::request(message, self.timeout, self.token.as_ref())
    }
}

fn name(key: u64) -> String {
    format!("key-{key:012}")
}
