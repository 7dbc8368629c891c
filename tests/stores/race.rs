//! Two hundred clients repeat one request with one idempotency key, through two coordinators, one of which is killed
//! while they do. There is one effect and one answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pairdb::proto::v1::{
    ReadKeyValueRequest, ReadKeyValueResponse, WriteKeyValueRequest, WriteKeyValueResponse,
};
use rustix::process::Signal;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use crate::kit::{Client, Cluster, PATIENCE, Server};

const CLIENTS: usize = 200;
const ROUNDS: u64 = 8;

/// In every other round the owners are held while one coordinator works, so it dies with the claim, and what it sent
/// takes effect after its death.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_and_a_killed_coordinator_make_one_effect() {
    let cluster = Cluster::new(crate::settings()).started(1, 3);
    for policy in ["siblings", "last_write_wins"] {
        let create = ["tenant", "create", policy, "--conflict-policy", policy];
        cluster.front().ok(&create);
    }
    for round in 0..ROUNDS {
        let request = request(round);
        let answers = match round % 2 {
            0 => killed_at_work(&cluster, &request, round).await,
            _ => killed_with_the_claim(&cluster, &request).await,
        };
        let originals = answers.are_one(round);
        is_one_write(cluster.front(), &request, round).await;
        println!(
            "round {round}: {} retries, {originals} answered first hand, all {:?} after the kill",
            answers.retries, answers.took
        );
    }
}

fn request(round: u64) -> WriteKeyValueRequest {
    let tenant = match round % 4 {
        0 => "last_write_wins",
        _ => "siblings",
    };
    WriteKeyValueRequest {
        tenant_id: tenant.to_owned(),
        key: format!("raced-{round}"),
        value: vec![7; 100].into(),
        idempotency_key: Some(format!("race-{round}")),
        ..WriteKeyValueRequest::default()
    }
}

/// Clients that wait for the start: half of them ask the coordinator that will die first, all others the one that
/// stays.
struct Race {
    doomed: Arc<Barrier>,
    safe: Arc<Barrier>,
    clients: Vec<JoinHandle<(WriteKeyValueResponse, usize)>>,
}

impl Race {
    async fn new(victim: &Server, survivor: &Server, request: &WriteKeyValueRequest) -> Self {
        let [doomed, safe] = [0, 1].map(|_| Arc::new(Barrier::new(CLIENTS / 2 + 1)));
        let (dies, stays) = (victim.client().await, survivor.client().await);
        let clients = (0..CLIENTS).map(|n| {
            let (first, start) = match n % 2 {
                0 => (dies.clone(), Arc::clone(&doomed)),
                _ => (stays.clone(), Arc::clone(&safe)),
            };
            let (then, request) = (stays.clone(), request.clone());
            tokio::spawn(async move {
                start.wait().await;
                write_until_answered(first, then, request).await
            })
        });
        let clients = clients.collect();
        Self {
            doomed,
            safe,
            clients,
        }
    }

    async fn answers(self, killed: Instant) -> Answers {
        let (mut all, mut retries) = (Vec::new(), 0);
        for client in self.clients {
            let (answer, tries) = client.await.unwrap();
            all.push(answer);
            retries += tries - 1;
        }
        let took = killed.elapsed();
        Answers { all, retries, took }
    }
}

/// What all clients were told.
struct Answers {
    all: Vec<WriteKeyValueResponse>,
    retries: usize,
    /// From the kill to the last of them.
    took: Duration,
}

impl Answers {
    /// Says how many were answered first hand.
    fn are_one(&self, round: u64) -> usize {
        let same =
            |answer: &WriteKeyValueResponse| (answer.vector_clock.clone(), answer.context.clone());
        let first = same(&self.all[0]);
        for answer in &self.all {
            assert_eq!(same(answer), first, "round {round}: another answer");
            assert!(!answer.without_idempotency, "round {round}");
        }
        let originals = self.all.iter().filter(|answer| !answer.is_duplicate);
        let originals = originals.count();
        assert!(
            originals <= 1,
            "round {round}: {originals} of the answers are the first"
        );
        originals
    }
}

/// One of two coordinators is killed while both work.
async fn killed_at_work(cluster: &Cluster, request: &WriteKeyValueRequest, round: u64) -> Answers {
    let victim = cluster.coordinator();
    let race = Race::new(&victim, cluster.front(), request).await;
    futures::join!(race.doomed.wait(), race.safe.wait());
    tokio::time::sleep(Duration::from_millis(15 * round)).await;
    let killed = Instant::now();
    drop(victim);
    race.answers(killed).await
}

/// A coordinator is killed while it holds the claim and waits for owners that are held.
async fn killed_with_the_claim(cluster: &Cluster, request: &WriteKeyValueRequest) -> Answers {
    let victim = cluster.coordinator();
    let race = Race::new(&victim, cluster.front(), request).await;
    let held = &cluster.nodes[1..];
    held.iter().for_each(|node| node.signal(Signal::STOP));
    race.doomed.wait().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let killed = Instant::now();
    drop(victim);
    held.iter().for_each(|node| node.signal(Signal::CONT));
    race.safe.wait().await;
    race.answers(killed).await
}

/// Several owners may have stamped it. It is one write all the same, and who replaces what was shown replaces it all.
async fn is_one_write(through: &Server, request: &WriteKeyValueRequest, round: u64) {
    let shown = read_all(through, request).await;
    assert_eq!(
        (shown.value, shown.siblings.len()),
        (request.value.clone(), 0),
        "round {round}"
    );
    let replacing = WriteKeyValueRequest {
        value: "next".into(),
        context: shown.context,
        idempotency_key: None,
        ..request.clone()
    };
    let mut client = through.client().await;
    client.write_key_value(replacing).await.unwrap();
    let shown = read_all(through, request).await;
    assert_eq!(
        (&shown.value[..], shown.siblings.len()),
        (&b"next"[..], 0),
        "round {round}: {shown:?}"
    );
}

/// What all owners of the key know.
async fn read_all(through: &Server, written: &WriteKeyValueRequest) -> ReadKeyValueResponse {
    let read = ReadKeyValueRequest {
        tenant_id: written.tenant_id.clone(),
        key: written.key.clone(),
        consistency: "all".into(),
        ..ReadKeyValueRequest::default()
    };
    let read = through.client().await.read_key_value(read).await;
    read.unwrap().into_inner()
}

/// Asks `first` once and then `then` until it answers. Returns the answer and how often it asked.
async fn write_until_answered(
    mut first: Client,
    mut then: Client,
    request: WriteKeyValueRequest,
) -> (WriteKeyValueResponse, usize) {
    let began = Instant::now();
    let mut answer = first.write_key_value(request.clone()).await;
    let mut tries = 1;
    loop {
        match answer {
            Ok(answer) => return (answer.into_inner(), tries),
            Err(status) => assert!(began.elapsed() < PATIENCE, "still: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = then.write_key_value(request.clone()).await;
        tries += 1;
    }
}
