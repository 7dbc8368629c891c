//! Reads and writes at a steady rate, by clients that each have keys of their own, know what they may see, and go to
//! the next coordinator when one is not there.
//!
//! A client writes numbers that only grow. So what a key must show at least is known without any knowledge of the
//! product: the last number that was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use pairdb::proto::v1::{ReadKeyValueRequest, WriteKeyValueRequest};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::table::{Outcome, Phase};
use crate::{Plan, TENANT};

const KEYS: usize = 50;
const VALUE_LEN: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(6);
/// Every so many writes has an idempotency key.
const CLAIM_EVERY: u64 = 5;

type Client = CoordinatorServiceClient<Channel>;

/// A key, and the greatest number acknowledged for it.
pub type Acknowledged = BTreeMap<String, u64>;

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Acknowledged>>,
}

struct Shared {
    phase: AtomicUsize,
    phases: Mutex<Vec<Phase>>,
    over: AtomicBool,
    /// From one request of a client to its next.
    pace: Duration,
}

impl Load {
    pub fn start(plan: &Plan, coordinators: &[String]) -> Self {
        let shared = Arc::new(Shared {
            phase: AtomicUsize::new(0),
            phases: Mutex::new(vec![Phase::begin("start", &[])]),
            over: AtomicBool::new(false),
            pace: Duration::from_secs(1) * plan.clients / plan.rate,
        });
        let connections: Vec<Client> = coordinators.iter().map(|url| connect(url)).collect();
        let clients = (0..plan.clients)
            .map(|number| tokio::spawn(work(Arc::clone(&shared), number, connections.clone())));
        Self {
            clients: clients.collect(),
            shared,
        }
    }

    /// What begins now is counted for this phase.
    pub fn begin(&self, name: &'static str, allowed: &'static [&'static str]) {
        let mut phases = self.shared.phases.lock().unwrap();
        phases.push(Phase::begin(name, allowed));
        self.shared.phase.store(phases.len() - 1, Ordering::Relaxed);
    }

    /// A phase of this length.
    pub async fn phase(
        &self,
        name: &'static str,
        allowed: &'static [&'static str],
        length: Duration,
    ) {
        self.begin(name, allowed);
        tokio::time::sleep(length).await;
    }

    pub async fn stop(self) -> Outcome {
        self.shared.over.store(true, Ordering::Relaxed);
        let mut acknowledged = Acknowledged::new();
        for client in self.clients {
            acknowledged.extend(client.await.unwrap());
        }
        let phases = std::mem::take(&mut *self.shared.phases.lock().unwrap());
        Outcome {
            phases,
            acknowledged,
        }
    }
}

pub fn connect(url: &str) -> Client {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    Client::new(endpoint.connect_lazy())
}

/// One client.
async fn work(shared: Arc<Shared>, number: u32, mut coordinators: Vec<Client>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut due = tokio::time::Instant::now() + shared.pace.mul_f64(rand::random());
    for step in 1_u64.. {
        tokio::time::sleep_until(due).await;
        // A client that can't keep up doesn't catch up later: that would be another load than the one asked for.
        due = (due + shared.pace).max(tokio::time::Instant::now());
        if shared.over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{number}-{}", rand::random_range(0..KEYS));
        let phase = shared.phase.load(Ordering::Relaxed);
        let asked = Instant::now();
        coordinators.rotate_left(1);
        let known = acknowledged.get(&key).copied();
        let (result, moved) = match rand::random() {
            true => write(&mut coordinators, &key, step).await,
            false => read(&mut coordinators, &key).await,
        };
        let took = asked.elapsed();
        let mut phases = shared.phases.lock().unwrap();
        // What fails does so for what is wrong now, not for what was when it began.
        let phase = match result {
            Ok(_) => phase,
            Err(_) => phases.len() - 1,
        };
        let phase = &mut phases[phase];
        phase.moved_on += moved;
        match result {
            Ok(Done::Written) => {
                acknowledged.insert(key, step);
                phase.succeeded(took);
            }
            Ok(Done::Found(found)) => {
                phase.succeeded(took);
                phase.stale += u64::from(found < known);
            }
            Err(status) => phase.failed(reason(&status), &status),
        }
    }
    acknowledged
}

enum Done {
    Written,
    Found(Option<u64>),
}

async fn write(coordinators: &mut [Client], key: &str, number: u64) -> (Result<Done, Status>, u64) {
    let mut value = format!("{number:020}").into_bytes();
    value.resize(VALUE_LEN, b'.');
    let claim = number.is_multiple_of(CLAIM_EVERY);
    let message = Message::Write(WriteKeyValueRequest {
        tenant_id: TENANT.into(),
        key: key.into(),
        value: value.into(),
        idempotency_key: claim.then(|| format!("{key}-{number}")),
        ..WriteKeyValueRequest::default()
    });
    let (answer, moved) = first_there(coordinators, message).await;
    (answer.map(|_| Done::Written), moved)
}

async fn read(coordinators: &mut [Client], key: &str) -> (Result<Done, Status>, u64) {
    let (found, moved) = read_number(coordinators, key).await;
    (found.map(Done::Found), moved)
}

/// What a key shows, and how often the client went to another coordinator.
pub async fn read_number(
    coordinators: &mut [Client],
    key: &str,
) -> (Result<Option<u64>, Status>, u64) {
    let message = Message::Read(ReadKeyValueRequest {
        tenant_id: TENANT.into(),
        key: key.into(),
        ..ReadKeyValueRequest::default()
    });
    let (answer, moved) = first_there(coordinators, message).await;
    let number = |value: Bytes| std::str::from_utf8(&value[..20]).unwrap().parse().unwrap();
    let found = match answer {
        Ok(value) => Ok(Some(number(value))),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    };
    (found, moved)
}

enum Message {
    Write(WriteKeyValueRequest),
    Read(ReadKeyValueRequest),
}

impl Message {
    /// The value read; empty for a write.
    async fn ask(&self, client: &mut Client) -> Result<Bytes, Status> {
        match self {
            Self::Write(message) => {
                let request = in_time(message.clone());
                client.write_key_value(request).await.map(|_| Bytes::new())
            }
            Self::Read(message) => {
                let request = in_time(message.clone());
                let answer = client.read_key_value(request).await?;
                Ok(answer.into_inner().value)
            }
        }
    }
}

fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// Asks one coordinator, and the next when that one is not there. Says how often it was not.
async fn first_there(
    coordinators: &mut [Client],
    message: Message,
) -> (Result<Bytes, Status>, u64) {
    let mut moved = 0;
    let last = coordinators.len() - 1;
    for (number, client) in coordinators.iter_mut().enumerate() {
        match message.ask(client).await {
            Err(status) if number < last && is_gone(&status) => moved += 1,
            answer => return (answer, moved),
        }
    }
    unreachable!("the last one's answer is taken")
}

/// Whether it was the connection that failed, or a coordinator that stops: what clients have other coordinators for.
/// One that is there and does not answer is something else.
fn is_gone(status: &Status) -> bool {
    let gone = ["STOPPING", "Unavailable", "Cancelled", "Unknown"];
    gone.contains(&reason(status).as_str()) && !status.message().contains("Timeout expired")
}

/// PairDB's code, or gRPC's where no coordinator answered.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => info.reason.clone(),
        None => format!("{:?}", status.code()),
    }
}
