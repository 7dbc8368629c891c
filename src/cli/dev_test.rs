//! The program as its users meet it: real processes, real ports, real disks, and everything through the command line.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of processes waits for them"
)]

#[path = "dev_test/collector.rs"]
mod collector;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use collector::Collector;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use pairdb::proto::v1::replica_reply::Outcome;
use pairdb::proto::v1::replica_request::Operation;
use pairdb::proto::v1::storage_service_client::StorageServiceClient;
use pairdb::proto::v1::{self, ReadKeyValueRequest, WriteKeyValueRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Request;
use tonic::transport::Endpoint;

/// No step of these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn pairdb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pairdb"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("PAIRDB_SERVER")
        .env("RUST_LOG", "error");
    command
}

/// A server process that has said that it is ready. Killed when dropped.
struct Server {
    child: Child,
    ready: Value,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        // The other end of its input is held until this process ends, however it does: it does not stay behind.
        let mut child = pairdb(arguments)
            .args(["--json", "--end-with-input"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{arguments:?} said {line:?}"));
        Self { child, ready }
    }

    fn dev(data: &Path) -> Self {
        let data = data.to_str().unwrap();
        Self::start(&[
            "dev",
            "--data",
            data,
            "--grpc-port",
            "0",
            "--http-port",
            "0",
            "--metrics-port",
            "0",
        ])
    }

    fn url(&self) -> String {
        format!("http://{}", self.ready["grpc"].as_str().unwrap())
    }

    /// Runs a client command against it and returns its JSON and its exit code.
    fn run(&self, arguments: &[&str]) -> (Value, i32) {
        let output = pairdb(arguments)
            .args(["--json", "--server", &self.url()])
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        let text = if code == 0 {
            &output.stdout
        } else {
            &output.stderr
        };
        let json = serde_json::from_slice(text)
            .unwrap_or_else(|_| panic!("{arguments:?} said {output:?}"));
        (json, code)
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let (json, code) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?} failed: {json}");
        json
    }

    fn fails(&self, arguments: &[&str]) -> (String, i32) {
        let (json, code) = self.run(arguments);
        let error = &json["error"];
        assert_eq!(error["exit_code"], code, "{arguments:?}: {json}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        (error["code"].as_str().unwrap().to_owned(), code)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for its end and returns the exit code; `None` when it was killed.
    fn ended(mut self) -> Option<i32> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < give_up, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stops(self, signal: &str) {
        self.signal(signal);
        assert_eq!(self.ended(), Some(0));
    }

    fn dies(self) {
        self.signal("KILL");
        assert_eq!(self.ended(), None);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn storage_node(
    directory: &Path,
    metadata: &str,
    number: usize,
    listen: &str,
    sync: &str,
) -> Server {
    let data = directory.join(format!("node-{number}"));
    let name = format!("node-{number}");
    Server::start(&[
        "storage",
        "--node-id",
        &name,
        "--data",
        data.to_str().unwrap(),
        "--listen",
        listen,
        "--metadata",
        metadata,
        "--sync",
        sync,
        "--metrics",
        "127.0.0.1:0",
    ])
}

fn coordinator(metadata: &str) -> Server {
    let listen = [
        "coordinator",
        "--metadata",
        metadata,
        "--listen",
        "127.0.0.1:0",
    ];
    Server::start(&[&listen[..], &["--http-port", "0", "--metrics-port", "0"]].concat())
}

/// Makes storage nodes part of the coordinator's cluster.
fn join(front: &Server, nodes: &[Server]) {
    for node in nodes {
        let (host, port) = node.ready["grpc"]
            .as_str()
            .unwrap()
            .rsplit_once(':')
            .unwrap();
        let name = node.ready["node"].as_str().unwrap();
        front.ok(&["node", "add", name, host, port]);
    }
}

fn http_get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn a_cluster_does_what_the_commands_say_and_its_exit_codes_mean_something() {
    let directory = TempDir::new().unwrap();
    let cluster = Server::dev(directory.path());

    // Put, get, delete.
    let put = cluster.ok(&["put", "greeting", "hello"]);
    assert_eq!(put["consistency"], "quorum");
    assert!(put["replicas"].as_i64() >= Some(2));
    assert_eq!(put["is_duplicate"], false);
    let got = cluster.ok(&["get", "greeting"]);
    assert_eq!(
        (&got["value_utf8"], &got["value_base64"]),
        (&json!("hello"), &json!("aGVsbG8="))
    );
    let floor = got["context"].as_str().unwrap();
    assert_eq!(
        cluster.ok(&[
            "get",
            "greeting",
            "--consistency",
            "one",
            "--context",
            floor
        ])["value_utf8"],
        "hello"
    );
    cluster.ok(&["delete", "greeting"]);
    assert_eq!(
        cluster.fails(&["get", "greeting"]),
        ("KEY_NOT_FOUND".into(), 3)
    );
    cluster.ok(&["delete", "never there"]);

    // Values byte for byte, out of a file, through pipes.
    let bytes: Vec<u8> = (0..=255).collect();
    let file = directory.path().join("value");
    std::fs::write(&file, &bytes).unwrap();
    cluster.ok(&["put", "bytes", "--file", file.to_str().unwrap()]);
    let raw = pairdb(&["get", "bytes", "--server", &cluster.url()])
        .output()
        .unwrap();
    assert_eq!(raw.stdout, bytes);
    let mut pipe = pairdb(&["put", "piped", "--server", &cluster.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    pipe.stdin
        .take()
        .unwrap()
        .write_all(b"from a pipe")
        .unwrap();
    let piped = pipe.wait_with_output().unwrap();
    assert!(
        piped.status.success() && stdout(&piped).starts_with("written: piped on "),
        "{piped:?}"
    );
    assert_eq!(cluster.ok(&["get", "piped"])["value_utf8"], "from a pipe");
    assert_eq!(cluster.ok(&["put", "empty", ""])["key"], "empty");
    assert_eq!(cluster.ok(&["get", "empty"])["value_utf8"], "");

    // Idempotency.
    let once = ["put", "order", "1", "--idempotency-key", "order-17"];
    assert_eq!(cluster.ok(&once)["is_duplicate"], false);
    assert_eq!(cluster.ok(&once)["is_duplicate"], true);
    let other = cluster.fails(&["put", "order", "2", "--idempotency-key", "order-17"]);
    assert_eq!(other, ("IDEMPOTENCY_KEY_CONFLICT".into(), 4));

    // Tenants, and concurrent values of one that keeps them.
    assert_eq!(
        cluster.fails(&["get", "k", "--tenant", "carts"]),
        ("TENANT_NOT_FOUND".into(), 3)
    );
    let carts = cluster.ok(&["tenant", "create", "carts", "--conflict-policy", "siblings"]);
    assert_eq!(
        (&carts["replication_factor"], &carts["conflict_policy"]),
        (&json!(3), &json!("siblings"))
    );
    assert_eq!(
        cluster.fails(&["tenant", "create", "carts"]),
        ("TENANT_EXISTS".into(), 4)
    );
    assert_eq!(
        cluster.ok(&["tenant", "get", "carts"])["conflict_policy"],
        "siblings"
    );
    assert_eq!(
        cluster.ok(&["tenant", "set-replication", "carts", "3"])["new_replication_factor"],
        3
    );
    assert_eq!(
        cluster.fails(&["tenant", "set-replication", "carts", "1"]),
        ("NODE_IN_USE".into(), 7)
    );
    cluster.ok(&["put", "cart", "milk", "--tenant", "carts"]);
    cluster.ok(&["put", "cart", "bread", "--tenant", "carts"]);
    let cart = cluster.ok(&["get", "cart", "--tenant", "carts"]);
    assert_eq!(cart["siblings"].as_array().unwrap().len(), 2);
    let listed = pairdb(&[
        "get",
        "cart",
        "--tenant",
        "carts",
        "--server",
        &cluster.url(),
    ])
    .output()
    .unwrap();
    assert!(
        stdout(&listed).starts_with("--- value 1 of 2, written 2")
            && stdout(&listed).contains("\nmilk\n")
    );
    let two = ["--warn", "1", "--max", "2"];
    let limited = cluster.ok(&[&["tenant", "set-sibling-limits", "carts"], &two[..]].concat());
    assert_eq!(limited["siblings_max"], 2);
    assert_eq!(
        cluster.fails(&["put", "cart", "eggs", "--tenant", "carts"]),
        ("KEY_CROWDED".into(), 7),
        "a third that knows of none"
    );
    let context = cart["context"].as_str().unwrap();
    cluster.ok(&[
        "put",
        "cart",
        "milk and bread",
        "--tenant",
        "carts",
        "--context",
        context,
    ]);
    let settled = cluster.ok(&["get", "cart", "--tenant", "carts"]);
    assert_eq!(settled["value_utf8"], "milk and bread");

    // Nodes and status.
    let nodes = cluster.ok(&["node", "list"]);
    let names: Vec<_> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["node"])
        .collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    assert_eq!(
        cluster.fails(&["node", "add", "node-4", "127.0.0.1", "1"]),
        ("NODE_IN_USE".into(), 7)
    );
    assert_eq!(
        cluster.fails(&["node", "remove", "node-1"]),
        ("NODE_IN_USE".into(), 7)
    );
    let status = cluster.ok(&["status"]);
    assert_eq!(
        (&status["serving"], &status["nodes_reachable"]),
        (&json!(true), &json!(3))
    );
    let text = pairdb(&["status", "--server", &cluster.url()])
        .output()
        .unwrap();
    assert!(
        stdout(&text).contains(": ready, epoch 1, 3 of 3 storage nodes reachable"),
        "{text:?}"
    );
    assert!(
        !stdout(&text).contains('\x1b'),
        "no colours where there is no terminal"
    );

    // The wrong port, or a process that is no coordinator: named, and nothing was written.
    let port = |name: &str| cluster.ready[name].as_str().unwrap().to_owned();
    let storage = cluster.ready["nodes"][0]["address"].as_str().unwrap();
    for (server, code) in [
        (port("http"), "NOT_PAIRDB"),
        (port("metrics"), "NOT_PAIRDB"),
        (storage.to_owned(), "UNIMPLEMENTED"),
    ] {
        let put = pairdb(&["put", "k", "v", "--json", "--server", &server])
            .output()
            .unwrap();
        let error: Value = serde_json::from_slice(&put.stderr).unwrap();
        assert_eq!(
            (error["error"]["code"].as_str(), put.status.code()),
            (Some(code), Some(5)),
            "{server}: {error}"
        );
        let hint = error["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("50051"), "{server}: {hint}");
    }

    // Health and metrics over HTTP.
    assert!(
        http_get(cluster.ready["http"].as_str().unwrap(), "/ready").starts_with("HTTP/1.1 200")
    );
    let metrics = http_get(cluster.ready["metrics"].as_str().unwrap(), "/metrics");
    assert!(
        metrics.contains("\ncoordinator_storage_nodes_active 3\n"),
        "{metrics}"
    );

    // Wrong values are the caller's fault, and say so.
    assert_eq!(
        cluster.fails(&["put", "", "x"]),
        ("INVALID_REQUEST".into(), 2)
    );
    assert_eq!(
        cluster.fails(&["get", "k", "--tenant", "a:b"]),
        ("INVALID_REQUEST".into(), 2)
    );
    assert_eq!(
        cluster.fails(&["get", "k", "--context", "bm9uc2Vuc2U="]),
        ("INVALID_REQUEST".into(), 2)
    );

    cluster.stops("INT");
}

#[test]
fn acknowledged_puts_survive_a_stop_and_a_kill() {
    let directory = TempDir::new().unwrap();
    let put = |cluster: &Server, from: usize| {
        for number in from..from + 20 {
            cluster.ok(&["put", &format!("key-{number}"), &format!("value-{number}")]);
        }
    };
    let check = |cluster: &Server, count: usize| {
        for number in 0..count {
            let got = cluster.ok(&["get", &format!("key-{number}")]);
            assert_eq!(got["value_utf8"], format!("value-{number}"));
        }
    };

    let first = Server::dev(directory.path());
    put(&first, 0);
    first.stops("TERM");

    let second = Server::dev(directory.path());
    check(&second, 20);
    put(&second, 20);
    second.dies();

    let third = Server::dev(directory.path());
    check(&third, 40);
    third.stops("INT");
}

/// Several clients write, each its own keys, until the cluster is killed under them. Returns what was acknowledged.
async fn write_until_killed(cluster: Server, round: usize) -> Vec<String> {
    let channel = Endpoint::from_shared(cluster.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let clients = (0..16).map(|client| {
        let mut connection = CoordinatorServiceClient::new(channel.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let key = format!("round-{round}-client-{client}-{number}");
                let request = WriteKeyValueRequest {
                    tenant_id: "default".into(),
                    key: key.clone(),
                    value: key.clone().into(),
                    ..WriteKeyValueRequest::default()
                };
                if connection.write_key_value(request).await.is_err() {
                    break;
                }
                acknowledged.push(key);
            }
            acknowledged
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_millis(300 + 137 * round as u64)).await;
    cluster.dies();
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    acknowledged
}

#[tokio::test]
async fn a_kill_under_load_loses_nothing_that_was_acknowledged() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let before = acknowledged.len();
        acknowledged.extend(write_until_killed(Server::dev(directory.path()), round).await);
        assert!(acknowledged.len() > before + 16, "it hardly wrote anything");
    }
    let cluster = Server::dev(directory.path());
    let channel = Endpoint::from_shared(cluster.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut connection = CoordinatorServiceClient::new(channel);
    for key in acknowledged {
        let request = ReadKeyValueRequest {
            tenant_id: "default".into(),
            key: key.clone(),
            ..ReadKeyValueRequest::default()
        };
        let read = connection.read_key_value(request).await;
        let value = read
            .unwrap_or_else(|status| panic!("{key}: {status:?}"))
            .into_inner()
            .value;
        assert_eq!(value, key);
    }
    // The connection is still open, and nobody looks after it here: that must not hold the cluster up.
    let asked = Instant::now();
    cluster.stops("INT");
    assert!(asked.elapsed() < Duration::from_secs(10));
    drop(connection);
}

#[test]
fn what_can_not_be_started_says_why_and_what_to_do() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().to_str().unwrap();
    let cluster = Server::dev(directory.path());
    let port = cluster.ready["grpc"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1;
    let fails = |arguments: &[&str]| {
        let output = pairdb(arguments).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };

    let (code, text) = fails(&["dev", "--ephemeral", "--grpc-port", port]);
    assert_eq!(code, 2);
    assert!(
        text.contains(&format!("the gRPC port {port} is taken")) && text.contains("--grpc-port"),
        "{text}"
    );

    let other = [
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--metrics-port",
        "0",
    ];
    let (code, text) = fails(&[&["dev", "--data", data][..], &other].concat());
    assert_eq!(code, 1);
    assert!(
        text.contains("in use by another process") && text.contains("--data"),
        "{text}"
    );
    assert_eq!(cluster.ok(&["status"])["nodes_reachable"], 3);
    cluster.stops("INT");

    let (code, text) = fails(&[&["dev", "--data", data, "--nodes", "5"][..], &other].concat());
    assert_eq!(code, 2);
    assert!(
        text.contains("holds a cluster of 3 storage nodes, and --nodes says 5"),
        "{text}"
    );

    let (code, text) = fails(&["get", "key", "--server", "127.0.0.1:1"]);
    assert_eq!(code, 5);
    assert!(
        text.contains("no server answers at 127.0.0.1:1") && text.contains("pairdb dev"),
        "{text}"
    );

    let config = directory.path().join("pairdb.toml");
    std::fs::write(&config, "[server]\nprot = 1\n").unwrap();
    let (code, text) = fails(&["config", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(
        text.contains("pairdb.toml: server.prot: no such key"),
        "{text}"
    );
}

#[test]
fn the_configuration_in_effect_is_shown() {
    let output = pairdb(&["config"])
        .env("PAIRDB_COORDINATOR__READ_TIMEOUT", "1500ms")
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("[coordinator]\n")
            && stdout(&output).contains("read_timeout = \"1s 500ms\"")
    );
    let json: Value =
        serde_json::from_slice(&pairdb(&["config", "--json"]).output().unwrap().stdout).unwrap();
    assert_eq!(json["server"]["shutdown_timeout"], "30s");
}

#[test]
fn the_demonstration_shows_the_quorum_at_work() {
    let output = pairdb(&["dev", "--demo", "--ephemeral"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        stdout(&output).contains("node-3 has stopped; 2 of 3 are left"),
        "{output:?}"
    );
    assert!(
        stdout(&output).contains("get greeting: 'hello again'"),
        "{output:?}"
    );
}

#[test]
fn coordinator_and_storage_nodes_run_as_processes_of_their_own() {
    let directory = TempDir::new().unwrap();
    let metadata = format!(
        "sqlite:{}",
        directory.path().join("metadata.sqlite").display()
    );
    // Each of them configured somewhat differently.
    let sync = ["always", "interval:50ms", "always"];
    let storage = |number: usize, listen: &str| {
        storage_node(
            directory.path(),
            &metadata,
            number,
            listen,
            sync[number - 1],
        )
    };
    let coordinator = || coordinator(&metadata);

    let front = coordinator();
    let mut nodes: Vec<Server> = (1..=3)
        .map(|number| storage(number, "127.0.0.1:0"))
        .collect();
    join(&front, &nodes);
    front.ok(&["put", "greeting", "hello"]);
    let metrics = http_get(nodes[0].ready["metrics"].as_str().unwrap(), "/metrics");
    assert!(metrics.contains("\nstorage_commit_merged"), "{metrics}");

    // A second coordinator, and a storage node that is killed and comes back.
    let second = coordinator();
    let address = nodes[2].ready["grpc"].as_str().unwrap().to_owned();
    nodes.pop().unwrap().dies();
    assert_eq!(second.ok(&["get", "greeting"])["value_utf8"], "hello");
    second.ok(&["put", "greeting", "hello again"]);
    assert_eq!(
        second
            .fails(&[
                "put",
                "greeting",
                "x",
                "--consistency",
                "all",
                "--timeout",
                "2s"
            ])
            .1,
        6
    );
    nodes.push(storage(3, &address));
    let give_up = Instant::now() + PATIENCE;
    while front.run(&["get", "greeting", "--consistency", "all"]).1 != 0 {
        assert!(Instant::now() < give_up, "the node is not taken back");
        std::thread::sleep(Duration::from_millis(100));
    }
    front.stops("TERM");
    for node in nodes {
        node.stops("TERM");
    }
    assert_eq!(
        second.fails(&["get", "greeting", "--timeout", "2s"]),
        ("QUORUM_NOT_REACHED".into(), 5)
    );
    second.stops("INT");
}

#[test]
fn what_a_node_missed_is_owed_to_it_and_shown_and_waited_for() {
    let directory = TempDir::new().unwrap();
    let metadata = format!(
        "sqlite:{}",
        directory.path().join("metadata.sqlite").display()
    );
    let storage = |number: usize, listen: &str| {
        storage_node(directory.path(), &metadata, number, listen, "always")
    };
    let front = coordinator(&metadata);
    let mut nodes: Vec<Server> = (1..=3)
        .map(|number| storage(number, "127.0.0.1:0"))
        .collect();
    join(&front, &nodes);
    front.ok(&["put", "key 0", "value"]);
    assert_eq!(front.ok(&["hints"])["hints"], json!([]));
    assert_eq!(front.ok(&["hints", "wait", "--node", "node-3"])["hints"], 0);
    assert_eq!(
        front.fails(&["hints", "wait", "--node", "node-4"]),
        ("NODE_NOT_FOUND".into(), 3)
    );

    let address = nodes[2].ready["grpc"].as_str().unwrap().to_owned();
    nodes.pop().unwrap().dies();
    for number in 1..=5 {
        front.ok(&["put", &format!("key {number}"), "value"]);
    }
    let owed = |all: &Value| -> u64 {
        let hints = all["hints"].as_array().unwrap().iter();
        let hints = hints.filter(|hints| hints["target"] == "node-3");
        hints.map(|h| h["outstanding"].as_u64().unwrap()).sum()
    };
    let give_up = Instant::now() + PATIENCE;
    let hints = loop {
        let hints = front.ok(&["hints"]);
        if owed(&hints) >= 5 {
            break hints;
        }
        assert!(Instant::now() < give_up, "hints are missing: {hints}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(hints["did_not_answer"], json!(["node-3"]));
    assert_eq!(
        front.fails(&["hints", "wait", "--node", "node-3", "--timeout", "1s"]),
        ("TIMEOUT".into(), 5)
    );
    let convergence = &front.ok(&["status"])["convergence"];
    assert!(owed(convergence) >= 5, "{convergence}");
    let text = pairdb(&["status", "--server", &front.url()])
        .output()
        .unwrap();
    assert!(
        stdout(&text).contains("\nhints: node-3 is owed 5 keys by node-"),
        "{text:?}"
    );
    let metrics = http_get(front.ready["metrics"].as_str().unwrap(), "/metrics");
    assert!(
        metrics.contains("\ncoordinator_hints_outstanding{target=\"node-3\"} 5\n"),
        "{metrics}"
    );

    let unproved = pairdb(&["verify", "--json", "--server", &front.url()])
        .output()
        .unwrap();
    assert_eq!(unproved.status.code(), Some(5), "{unproved:?}");
    let found: Value = serde_json::from_slice(&unproved.stdout).unwrap();
    assert_eq!(
        (&found["keys"], &found["equal"], &found["differing"]),
        (&json!(6), &json!(false), &json!(0))
    );
    assert_eq!(found["not_compared"][0]["name"], "node-3");

    nodes.push(storage(3, &address));
    let waited = front.ok(&["hints", "wait", "--node", "node-3"]);
    assert!(waited["hints"].as_u64() <= Some(5), "{waited}");
    assert_eq!(owed(&front.ok(&["hints"])), 0);
    let found = front.ok(&["verify"]);
    assert_eq!(
        (&found["keys"], &found["equal"], &found["not_compared"]),
        (&json!(6), &json!(true), &json!([]))
    );
    assert_eq!(
        front.fails(&["verify", "--tenant", "nobody"]),
        ("TENANT_NOT_FOUND".into(), 3)
    );
    let text = pairdb(&["verify", "--tenant", "default", "--server", &front.url()])
        .output()
        .unwrap();
    assert!(
        stdout(&text).starts_with("all owners are equal: 6 keys compared in "),
        "{text:?}"
    );
    front.stops("TERM");
}

/// A caller's trace goes on through the coordinator to the storage nodes, and what nobody asked to follow is not
/// followed.
#[tokio::test]
async fn a_write_is_followed_from_its_client_to_the_storage_nodes() {
    let collector = Collector::start().await;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pairdb.toml");
    let endpoint = format!("http://{}", collector.address);
    let text = format!("[tracing]\nendpoint = \"{endpoint}\"\nsample = 0.0\n");
    std::fs::write(&file, text).unwrap();
    let ports = [
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--metrics-port",
        "0",
    ];
    let dev = ["dev", "--ephemeral", "--config", file.to_str().unwrap()];
    let cluster = Server::start(&[&dev[..], &ports].concat());
    let channel = Endpoint::from_shared(cluster.url())
        .unwrap()
        .connect()
        .await;
    let mut client = CoordinatorServiceClient::new(channel.unwrap());
    let write = |key: &str| {
        Request::new(WriteKeyValueRequest {
            tenant_id: "default".into(),
            key: key.into(),
            value: "v".into(),
            consistency: "all".into(),
            ..WriteKeyValueRequest::default()
        })
    };
    client.write_key_value(write("not followed")).await.unwrap();
    let mut followed = write("followed");
    let [trace, caller] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
    let traceparent = format!("00-{trace}-{caller}-01").parse().unwrap();
    followed.metadata_mut().insert("traceparent", traceparent);
    client.write_key_value(followed).await.unwrap();

    let named = |spans: &[Span], name: &str| -> Vec<Span> {
        spans
            .iter()
            .filter(|span| span.name == name)
            .cloned()
            .collect()
    };
    let spans = collector
        .until(|spans| {
            named(spans, "stored").len() >= 3 && !named(spans, "WriteKeyValue").is_empty()
        })
        .await;
    assert!(
        spans.iter().all(|span| span.trace_id == hex(trace)),
        "{spans:#?}"
    );
    let [request] = &named(&spans, "WriteKeyValue")[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(request.parent_span_id, hex(caller));
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(attribute(request, "tenant"), "default");
    let called = named(&spans, "replica");
    for call in &called {
        assert_eq!(call.kind(), SpanKind::Client);
        assert!(
            ["stamp", "join"].contains(&attribute(call, "operation").as_str()),
            "{call:?}"
        );
    }
    let mut nodes: Vec<_> = named(&spans, "stored")
        .iter()
        .map(|stored| {
            let call = called
                .iter()
                .find(|call| call.span_id == stored.parent_span_id);
            let call = call.expect("a node's part is caused by a call");
            assert_eq!(attribute(call, "node"), attribute(stored, "node"));
            attribute(stored, "node")
        })
        .collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);
    cluster.stops("TERM");
}

/// A collector that takes connections and never answers costs traces, and neither requests nor an orderly stop.
#[tokio::test]
async fn a_collector_that_hangs_holds_nothing_up() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pairdb.toml");
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let text = format!(
        "[server]\nruntime = \"current_thread\"\n[tracing]\nendpoint = \"{endpoint}\"\nsample = 1.0\n"
    );
    std::fs::write(&file, text).unwrap();
    let ports = [
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--metrics-port",
        "0",
    ];
    let dev = ["dev", "--ephemeral", "--config", file.to_str().unwrap()];
    let cluster = Server::start(&[&dev[..], &ports].concat());
    cluster.ok(&["put", "k", "v"]);
    let asked = Instant::now();
    cluster.stops("TERM");
    assert!(asked.elapsed() < Duration::from_secs(20));
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn attribute(span: &Span, name: &str) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == name);
    let value = found.and_then(|found| found.value.as_ref()?.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

#[test]
fn a_server_ends_with_the_process_that_holds_its_input() {
    let directory = TempDir::new().unwrap();
    let mut server = Server::dev(directory.path());
    server.ok(&["put", "k", "v"]);
    drop(server.child.stdin.take());
    assert_eq!(server.ended(), Some(0), "in order");
}

#[test]
fn a_made_up_epoch_or_name_harms_no_node() {
    let directory = TempDir::new().unwrap();
    let server = Server::dev(directory.path());
    server.ok(&["put", "k", "v"]);
    let node = server.ready["nodes"][0].clone();
    let epoch = server.ok(&["status"])["epoch"].clone();
    let after = {
        let mut name = b"\x06\x11\x07default".to_vec();
        name.extend(vec![b'k'; 66_000]);
        name
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let address = format!("http://{}", node["address"].as_str().unwrap());
        let channel = Endpoint::from_shared(address).unwrap().connect().await;
        let mut front = StorageServiceClient::new(channel.unwrap());
        let request = |epoch: u64, key: &[u8]| v1::ReplicaRequest {
            node_id: node["node"].as_str().unwrap().to_owned(),
            epoch,
            operation: Some(Operation::Read(v1::Read {
                key: key.to_vec().into(),
            })),
            ..v1::ReplicaRequest::default()
        };
        for (epoch, key) in [(1 << 63, &b"\0\0\x01tk"[..]), (1, &after)] {
            let answer = front.read(request(epoch, key)).await.unwrap().into_inner();
            let refused = matches!(answer.outcome, Some(Outcome::Refusal(_)));
            assert!(refused, "{epoch}: {:?}", answer.outcome);
        }
        let mut client = CoordinatorServiceClient::connect(server.url())
            .await
            .unwrap();
        let page = client.verify_page(v1::VerifyPageRequest {
            after: after.clone().into(),
            ..v1::VerifyPageRequest::default()
        });
        let refused = page.await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    });
    let status = server.ok(&["status"]);
    assert_eq!(
        (&status["epoch"], &status["nodes_reachable"]),
        (&epoch, &json!(3))
    );
    server.ok(&["put", "k", "w", "--consistency", "all"]);
    assert_eq!(
        server.ok(&["get", "k", "--consistency", "all"])["value_utf8"],
        "w"
    );
    let restarted = {
        server.stops("TERM");
        Server::dev(directory.path())
    };
    assert_eq!(
        restarted.ok(&["get", "k", "--consistency", "all"])["value_utf8"],
        "w"
    );
}

#[test]
fn a_name_belongs_to_one_process_at_a_time() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let metadata = format!("sqlite:{}", path("metadata.sqlite"));
    let coordinator = Server::start(&[
        "coordinator",
        "--metadata",
        &metadata,
        "--listen",
        "127.0.0.1:0",
        "--http-port",
        "0",
        "--metrics-port",
        "0",
    ]);
    let storage = |data: &str, more: &[&str]| {
        let data = path(data);
        let mut arguments = vec![
            "storage",
            "--node-id",
            "node-1",
            "--metadata",
            &metadata,
            "--data",
            &data,
            "--listen",
            "127.0.0.1:0",
        ];
        arguments.extend(more);
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let start = |arguments: Vec<String>| {
        Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let first = start(storage("one", &[]));
    let address = first.ready["grpc"].as_str().unwrap().to_owned();
    let (host, port) = address.split_once(':').unwrap();
    coordinator.ok(&["node", "add", "node-1", host, port]);
    let listed = || {
        let nodes = coordinator.ok(&["node", "list"]);
        let node = &nodes["nodes"][0];
        format!("{}:{}", node["host"].as_str().unwrap(), node["port"])
    };
    // With and without the wish to be found elsewhere.
    for more in [&["--advertise", "127.0.0.1:1"][..], &[]] {
        let second = storage("two", more);
        let second: Vec<&str> = second.iter().map(String::as_str).collect();
        let output = pairdb(&second).arg("--json").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(
            said.contains("NAME_IN_USE") && said.contains(&address),
            "{said}"
        );
        assert_eq!(listed(), address);
    }
    // Once it is gone, the node may be anywhere.
    first.stops("TERM");
    let moved = start(storage("one", &["--advertise", "127.0.0.1:1"]));
    let give_up = Instant::now() + PATIENCE;
    while listed() != "127.0.0.1:1" {
        assert!(Instant::now() < give_up, "the coordinator is told of it");
    }
    moved.stops("TERM");
}

/// What is wrong with a command line, or with the environment, is told in the form that was asked for.
#[test]
fn wrong_arguments_and_variables_are_errors_that_say_what_was_meant() {
    let told = |command: &mut Command| {
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (told, output.status.code())
    };
    let as_json = |text: &str| -> Value {
        serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
    };
    for (arguments, message) in [
        (
            &["get", "--json"][..],
            "required arguments were not provided",
        ),
        (
            &["get", "k", "--jsn", "--json"],
            "unexpected argument '--jsn'",
        ),
        (
            &["get", "k", "--timeout", "0s", "--json"],
            "0s is not between 1ms and 1day",
        ),
        (
            &["nonsense", "--json"],
            "unrecognized subcommand 'nonsense'",
        ),
        (&["tenant", "--json"], "--json"),
    ] {
        let (text, code) = told(&mut pairdb(arguments));
        let error = &as_json(&text)["error"];
        assert_eq!(
            (error["code"].as_str(), code),
            (Some("USAGE"), Some(2)),
            "{text}"
        );
        assert_eq!(error["exit_code"], 2);
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{text}"
        );
        assert!(!error["hint"].as_str().unwrap().is_empty(), "{text}");
    }
    let (text, code) = told(&mut pairdb(&["get"]));
    assert!(
        text.starts_with("error: ") && text.contains("Usage:"),
        "{text}"
    );
    assert_eq!(code, Some(2));

    // Before anything is served, or asked for.
    let directory = TempDir::new().unwrap();
    let data = directory.path().to_str().unwrap();
    for arguments in [
        &["dev", "--data", data, "--json"][..],
        &["get", "k", "--json"],
    ] {
        let (text, code) = told(pairdb(arguments).env("PAIRDB_AUTH_MODE", "required"));
        let error = &as_json(&text)["error"];
        assert_eq!(
            (error["code"].as_str(), code),
            (Some("CONFIGURATION"), Some(2)),
            "{text}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.ends_with("did you mean PAIRDB_AUTH__MODE?"),
            "{message}"
        );
    }
}
