//! Coordinators and storage nodes as processes of their own, on a real PostgreSQL and a real Redis.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and shows what it measured with --nocapture"
)]

#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../test_servers/mod.rs"]
mod test_servers;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use pairdb::proto::v1::{
    ReadKeyValueRequest, ReadKeyValueResponse, WriteKeyValueRequest, WriteKeyValueResponse,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use test_servers::{Postgres, Redis, postgres, redis};
use tokio::sync::Barrier;
use tonic::transport::{Channel, Endpoint};

/// No step of these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

type Client = CoordinatorServiceClient<Channel>;

/// Where the stores are, as every process is told.
struct Stores {
    database: String,
    redis: String,
}

impl Stores {
    fn shared() -> Self {
        Self {
            database: postgres().fresh(),
            redis: redis().url(),
        }
    }

    fn pairdb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pairdb"));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("PAIRDB_SERVER")
            .env("RUST_LOG", "error")
            .env("PAIRDB_DATABASE__URL", &self.database)
            .env("PAIRDB_DATABASE__CONNECTIONS_MIN", "1")
            .env("PAIRDB_REDIS__URL", &self.redis)
            .env("PAIRDB_REDIS__CALL_TIMEOUT", "2s")
            .env(
                "PAIRDB_REDIS__NAMESPACE",
                self.database.rsplit_once('/').unwrap().1,
            )
            .env("PAIRDB_COORDINATOR__IDEMPOTENCY_OUTAGE", "refuse")
            .env("PAIRDB_COORDINATOR__CLAIM_LEASE", "1s");
        command
    }

    fn coordinator(&self) -> Process {
        let listen = [
            "coordinator",
            "--listen",
            "127.0.0.1:0",
            "--http-port",
            "0",
            "--metrics-port",
            "0",
        ];
        Process::start(self.pairdb(&listen))
    }

    fn storage(&self, directory: &TempDir, number: usize) -> Process {
        let name = format!("node-{number}");
        let data = directory.path().join(&name);
        let data = data.to_str().unwrap();
        let arguments = [
            "storage",
            "--node-id",
            &name,
            "--data",
            data,
            "--listen",
            "127.0.0.1:0",
        ];
        Process::start(self.pairdb(&arguments))
    }

    /// Storage nodes that are all part of the cluster.
    fn cluster(&self, directory: &TempDir, through: &Process, nodes: usize) -> Vec<Process> {
        let nodes: Vec<Process> = (1..=nodes)
            .map(|number| self.storage(directory, number))
            .collect();
        for node in &nodes {
            let (host, port) = node.ready["grpc"]
                .as_str()
                .unwrap()
                .rsplit_once(':')
                .unwrap();
            self.ok(
                through,
                &[
                    "node",
                    "add",
                    node.ready["node"].as_str().unwrap(),
                    host,
                    port,
                ],
            );
        }
        nodes
    }

    fn run(&self, through: &Process, arguments: &[&str]) -> (Value, i32) {
        let mut command = self.pairdb(arguments);
        let output = command
            .args(["--json", "--server", &through.url()])
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        let text = if code == 0 {
            &output.stdout
        } else {
            &output.stderr
        };
        let json = serde_json::from_slice(text);
        (
            json.unwrap_or_else(|_| panic!("{arguments:?} said {output:?}")),
            code,
        )
    }

    fn ok(&self, through: &Process, arguments: &[&str]) -> Value {
        let (json, code) = self.run(through, arguments);
        assert_eq!(code, 0, "{arguments:?} failed: {json}");
        json
    }
}

/// A server process that has said that it is ready. Killed when dropped.
struct Process {
    child: Child,
    ready: Value,
}

impl Process {
    fn start(mut command: Command) -> Self {
        // The other end of its input is held until this process ends, however it does: it does not stay behind.
        let mut child = command
            .args(["--json", "--end-with-input"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line);
        let ready = ready.unwrap_or_else(|_| panic!("{command:?} said {line:?}"));
        Self { child, ready }
    }

    fn url(&self) -> String {
        format!("http://{}", self.ready["grpc"].as_str().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        Client::new(endpoint.connect().await.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn coordinators_on_postgresql_and_redis_are_one_cluster() {
    let (stores, directory) = (Stores::shared(), TempDir::new().unwrap());
    let status = |arguments: &[&str]| stores.pairdb(arguments).output().unwrap().status.code();
    assert_eq!(status(&["migrate", "--check"]), Some(7));
    assert_eq!(status(&["migrate"]), Some(0));
    assert_eq!(status(&["migrate", "--check"]), Some(0));

    let coordinators = [0, 1, 2].map(|_| stores.coordinator());
    let nodes = stores.cluster(&directory, &coordinators[0], 5);
    for (n, through) in coordinators.iter().enumerate() {
        let (key, next) = (format!("key-{n}"), &coordinators[(n + 1) % 3]);
        stores.ok(through, &["put", &key, "a value"]);
        assert_eq!(stores.ok(next, &["get", &key])["value_utf8"], "a value");
        let tenant = format!("tenant-{n}");
        stores.ok(
            through,
            &["tenant", "create", &tenant, "--conflict-policy", "siblings"],
        );
        stores.ok(next, &["put", &key, "another", "--tenant", &tenant]);
        // One key, one effect, whichever of them is asked.
        let repeated = ["put", "repeated", "once", "--idempotency-key", "i"];
        let answer = stores.ok(through, &repeated);
        assert_eq!(answer["is_duplicate"], n > 0, "{answer}");
    }
    assert_eq!(
        stores.ok(&coordinators[2], &["status"])["nodes_reachable"],
        5
    );
    drop((coordinators, nodes));
}

#[test]
fn what_is_missing_for_postgresql_is_said() {
    let stores = Stores::shared();
    let output = stores
        .pairdb(&["coordinator"])
        .env("PAIRDB_REDIS__URL", "")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("redis.url: must be given where database.url is PostgreSQL"),
        "{text}"
    );

    let shown = stores.pairdb(&["config"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("postgres://postgres:***@127.0.0.1"),
        "{shown}"
    );

    let nobody = [
        "coordinator",
        "--metadata",
        "postgres://user:secret@127.0.0.1:1/none",
    ];
    let output = stores.pairdb(&nobody).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(
        text.contains("database.url: ") && !text.contains("secret"),
        "{text}"
    );
}

/// Two hundred clients repeat one request with one idempotency key, through two coordinators, one of which is killed while
/// they do. There is one effect and one answer.
///
/// In every other round the owners are held while that one works, so it dies with the claim, and what it sent takes effect
/// after its death.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_and_a_killed_coordinator_make_one_effect() {
    const CLIENTS: usize = 200;
    let (stores, directory) = (Stores::shared(), TempDir::new().unwrap());
    let survivor = stores.coordinator();
    let nodes = stores.cluster(&directory, &survivor, 3);
    for policy in ["siblings", "last_write_wins"] {
        stores.ok(
            &survivor,
            &["tenant", "create", policy, "--conflict-policy", policy],
        );
    }
    for round in 0..8 {
        let dies_with_claim = round % 2 == 1;
        let victim = stores.coordinator();
        let tenant = if round % 4 == 0 {
            "last_write_wins"
        } else {
            "siblings"
        };
        let request = WriteKeyValueRequest {
            tenant_id: tenant.to_owned(),
            key: format!("raced-{round}"),
            value: vec![7; 100].into(),
            idempotency_key: Some(format!("race-{round}")),
            ..WriteKeyValueRequest::default()
        };
        let start = [0, 1].map(|_| Arc::new(Barrier::new(CLIENTS / 2 + 1)));
        let (doomed, safe) = (victim.client().await, survivor.client().await);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let first = if n % 2 == 0 { &doomed } else { &safe };
                let (first, then, start) = (first.clone(), safe.clone(), Arc::clone(&start[n % 2]));
                let request = request.clone();
                tokio::spawn(async move {
                    start.wait().await;
                    write_until_answered(first, then, request).await
                })
            })
            .collect();
        if dies_with_claim {
            nodes[1..].iter().for_each(|node| node.signal(Signal::STOP));
            start[0].wait().await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        } else {
            futures::join!(start[0].wait(), start[1].wait());
            tokio::time::sleep(Duration::from_millis(15 * round as u64)).await;
        }
        let killed = Instant::now();
        drop(victim);
        if dies_with_claim {
            nodes[1..].iter().for_each(|node| node.signal(Signal::CONT));
            start[1].wait().await;
        }

        let (mut answers, mut retries) = (Vec::new(), 0);
        for client in clients {
            let (answer, tries) = client.await.unwrap();
            answers.push(answer);
            retries += tries - 1;
        }
        let (took, first) = (killed.elapsed(), &answers[0]);
        for answer in &answers {
            let same = |answer: &WriteKeyValueResponse| {
                (answer.vector_clock.clone(), answer.context.clone())
            };
            assert_eq!(same(answer), same(first), "round {round}: another answer");
            assert!(!answer.without_idempotency, "round {round}");
        }
        let originals = answers.iter().filter(|answer| !answer.is_duplicate).count();
        assert!(
            originals <= 1,
            "round {round}: {originals} of the answers are the first"
        );
        // Several owners may have stamped it. It is one write all the same, and who replaces what was shown replaces it all.
        let shown = read_all(&survivor, tenant, &request.key).await;
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
        survivor
            .client()
            .await
            .write_key_value(replacing)
            .await
            .unwrap();
        let shown = read_all(&survivor, tenant, &request.key).await;
        assert_eq!(
            (&shown.value[..], shown.siblings.len()),
            (&b"next"[..], 0),
            "round {round}: {shown:?}"
        );
        println!(
            "round {round}: {retries} retries, {originals} answered first hand, all {took:?} after the kill{}",
            if dies_with_claim {
                " with the claim"
            } else {
                ""
            },
        );
    }
}

/// What all owners of the key know.
async fn read_all(through: &Process, tenant: &str, key: &str) -> ReadKeyValueResponse {
    let read = ReadKeyValueRequest {
        tenant_id: tenant.to_owned(),
        key: key.to_owned(),
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

/// Both stores end and come back under a running cluster.
#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_lives_through_an_outage_of_its_stores() {
    let (mut database, mut claims) = (Postgres::own(), Redis::own());
    let stores = Stores {
        database: database.fresh(),
        redis: claims.url(),
    };
    let directory = TempDir::new().unwrap();
    let coordinators = [0, 1].map(|_| stores.coordinator());
    let _nodes = stores.cluster(&directory, &coordinators[0], 3);
    let once = ["put", "once", "x", "--idempotency-key", "before"];
    stores.ok(&coordinators[0], &once);
    stores.ok(&coordinators[1], &["put", "key", "before"]);

    database.stop();
    claims.stop();
    // What needs neither of them goes on; what needs one says so.
    stores.ok(&coordinators[0], &["put", "key", "meanwhile"]);
    assert_eq!(
        stores.ok(&coordinators[1], &["get", "key"])["value_utf8"],
        "meanwhile"
    );
    let (refused, code) = stores.run(
        &coordinators[0],
        &["put", "key", "x", "--idempotency-key", "new"],
    );
    assert_eq!(
        (refused["error"]["code"].as_str(), code),
        (Some("STORE_UNAVAILABLE"), 5),
        "{refused}"
    );
    let (refused, code) = stores.run(&coordinators[0], &["get", "key", "--tenant", "unheard-of"]);
    assert_eq!(
        (refused["error"]["code"].as_str(), code),
        (Some("STORE_UNAVAILABLE"), 5),
        "{refused}"
    );

    database.start_again();
    claims.start_again();
    let eventually = |through: &Process, arguments: &[&str]| {
        let began = Instant::now();
        loop {
            let (answer, code) = stores.run(through, arguments);
            if code == 0 {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{arguments:?}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let again = eventually(&coordinators[1], &once);
    assert_eq!(
        again["is_duplicate"], true,
        "Redis kept what it acknowledged: {again}"
    );
    eventually(&coordinators[0], &["tenant", "create", "after"]);
    eventually(
        &coordinators[1],
        &["put", "key", "after", "--tenant", "after"],
    );
}

#[test]
fn a_storage_node_that_was_part_of_the_cluster_starts_without_the_metadata_store() {
    let (stores, directory) = (Stores::shared(), TempDir::new().unwrap());
    let coordinator = stores.coordinator();
    let node = stores.storage(&directory, 1);
    let address = node.ready["grpc"].as_str().unwrap().to_owned();
    let (host, port) = address.rsplit_once(':').unwrap();
    stores.ok(&coordinator, &["node", "add", "node-1", host, port]);
    stores.ok(&coordinator, &["put", "k", "v"]);
    drop(node);

    // Nobody is at the address of the database any more, as far as these processes can tell.
    let away = Stores {
        database: "postgres://postgres@127.0.0.1:1/away".to_owned(),
        redis: stores.redis.clone(),
    };
    let start = |data: &str| {
        let data = directory.path().join(data);
        let arguments = [
            "storage",
            "--node-id",
            "node-1",
            "--data",
            data.to_str().unwrap(),
            "--listen",
            &address,
        ];
        let mut command = away.pairdb(&arguments);
        command.env("PAIRDB_DATABASE__CALL_TIMEOUT", "500ms");
        command
    };
    let without_data = start("new").arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&without_data.stderr);
    assert_eq!(without_data.status.code(), Some(5), "{said}");
    assert!(said.contains("METADATA_STORE"), "{said}");
    let node = Process::start(start("node-1"));
    let got = wait_for(|| {
        let (got, code) = stores.run(&coordinator, &["get", "k"]);
        (code == 0).then_some(got)
    });
    assert_eq!(got["value_utf8"], "v");
    stores.ok(&coordinator, &["put", "k", "w"]);
    drop(node);
}

/// Tries until there is something.
fn wait_for<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < give_up, "in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}
