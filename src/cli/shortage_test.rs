//! What a shortage broke comes back by itself when it is over: `cargo test --test shortage`.
//!
//! One process with a coordinator and a storage node, that is really short of descriptors, or on a disk that is really full.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and says what it can't try"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use pairdb::proto::v1::{ReadKeyValueRequest, WriteKeyValueRequest};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pairdb");
const PATIENCE: Duration = Duration::from_secs(60);
const TENANT: &str = "short";
/// What a node keeps in reserve, and some.
const DISK_MIB: u64 = 400;
const MIB: usize = 1024 * 1024;

/// A cluster of one node in one process. Killed when dropped.
struct Cluster {
    child: Child,
    ready: Value,
}

impl Cluster {
    /// On the data in `directory`; `program` is what starts the program.
    fn start(mut program: Command, directory: &Path) -> Self {
        program.args(["dev", "--nodes", "1", "--json", "--data"]);
        program.arg(directory.join("data"));
        for port in ["--grpc-port", "--http-port", "--metrics-port"] {
            program.args([port, "0"]);
        }
        let level = std::env::var("RUST_LOG").unwrap_or("error".into());
        program.env("RUST_LOG", level).stdin(Stdio::null());
        let mut child = program.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line);
        let ready = ready.unwrap_or_else(|_| panic!("{program:?} said {line:?}"));
        Self { child, ready }
    }

    fn url(&self) -> String {
        format!("http://{}", self.ready["grpc"].as_str().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    /// Runs a client command. Returns what it said, if it succeeded.
    fn run(&self, arguments: &[&str]) -> Option<Value> {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .args(["--json", "--server", &self.url()]);
        let output = command.output().unwrap();
        let said = || serde_json::from_slice(&output.stdout).unwrap();
        output.status.success().then(said)
    }

    fn create_tenant(&self) {
        let create = ["tenant", "create", TENANT, "--replication-factor", "1"];
        self.run(&create).unwrap();
    }

    fn put(&self, key: &str) -> Option<Value> {
        self.run(&["put", key, "value", "--tenant", TENANT])
    }

    fn has(&self, key: &str) -> bool {
        self.run(&["get", key, "--tenant", TENANT]).is_some()
    }

    /// Waits until something can be written.
    fn until_it_writes(&self) {
        let asked = Instant::now();
        while self.put("again").is_none() {
            assert!(asked.elapsed() < PATIENCE, "it does not come back");
        }
    }

    /// Stops it. Returns whether it was a clean stop.
    fn stop(mut self) -> bool {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// A memory disk that only a process of its own sees, and those that it lets in.
struct SmallDisk {
    holder: Child,
    directory: TempDir,
}

impl SmallDisk {
    /// `None` where the system does not let tests have one.
    fn new() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut holder = Command::new("unshare");
        holder.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        holder.arg("mount -t tmpfs -o size=\"$1\"m none \"$2\" && echo mounted && exec cat");
        holder
            .args(["sh", &DISK_MIB.to_string()])
            .arg(directory.path());
        holder.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().ok()?;
        let mut said = [0; 7];
        let mut stdout = holder.stdout.take().unwrap();
        let mounted = stdout.read_exact(&mut said).is_ok();
        let disk = Self { holder, directory };
        mounted.then_some(disk)
    }

    /// The program, on this disk.
    fn program(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--preserve-credentials", "--mount", "--target"]);
        command.arg(self.holder.id().to_string()).arg(PROGRAM);
        command
    }

    fn filler(&self) -> PathBuf {
        let (holder, directory) = (self.holder.id(), self.directory.path());
        format!("/proc/{holder}/root{}/filler", directory.display()).into()
    }

    /// Until not a byte more fits.
    fn fill(&self) {
        let mut options = std::fs::File::options();
        let opened = options.create(true).append(true).open(self.filler());
        let mut filler = opened.unwrap();
        for len in [MIB, 4096, 1] {
            while filler.write_all(&vec![1; len]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn a_node_on_a_full_disk_reads_starts_and_comes_back() {
    let Some(disk) = SmallDisk::new() else {
        println!("no disk can be filled here: neither mounts nor user namespaces are allowed");
        return;
    };
    let start = || Cluster::start(disk.program(), disk.directory.path());
    let cluster = start();
    cluster.create_tenant();
    cluster.put("kept").unwrap();
    disk.fill();
    let asked = Instant::now();
    while cluster.put("refused").is_some() {
        assert!(asked.elapsed() < PATIENCE, "it does not notice");
    }
    assert!(cluster.has("kept"));
    drop(cluster);

    let cluster = start();
    assert!(cluster.has("kept"), "after it was killed");
    assert!(cluster.put("refused").is_none());
    assert!(!cluster.stop(), "it can't say that it stopped cleanly");

    disk.fill();
    let cluster = start();
    assert!(cluster.has("kept"), "after it was stopped");
    assert!(cluster.put("refused").is_none());
    disk.free();
    cluster.until_it_writes();
    let once = [
        "put",
        "once",
        "value",
        "--tenant",
        TENANT,
        "--idempotency-key",
        "order",
    ];
    assert_eq!(cluster.run(&once).unwrap()["is_duplicate"], false);
    assert_eq!(cluster.run(&once).unwrap()["is_duplicate"], true);
    assert!(cluster.has("kept"));
    assert!(cluster.stop());
}

/// Values that don't get smaller.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..MIB - 1024).map(byte).collect()
}

struct Client(CoordinatorServiceClient<Channel>);

impl Client {
    async fn new(cluster: &Cluster) -> Self {
        let endpoint = Endpoint::from_shared(cluster.url()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let client = CoordinatorServiceClient::new(channel);
        Self(client.max_decoding_message_size(4 * MIB))
    }

    async fn write(&mut self, number: u64) -> bool {
        let request = WriteKeyValueRequest {
            tenant_id: TENANT.into(),
            key: format!("key {number}"),
            value: noise(number).into(),
            ..WriteKeyValueRequest::default()
        };
        self.0.write_key_value(request).await.is_ok()
    }

    async fn has(&mut self, number: u64) -> bool {
        let request = ReadKeyValueRequest {
            tenant_id: TENANT.into(),
            key: format!("key {number}"),
            ..ReadKeyValueRequest::default()
        };
        let read = self.0.read_key_value(request).await;
        read.is_ok_and(|read| read.into_inner().value == noise(number))
    }
}

#[tokio::test]
async fn a_node_that_was_short_of_descriptors_comes_back() {
    let directory = TempDir::new().unwrap();
    let cluster = Cluster::start(Command::new(PROGRAM), directory.path());
    cluster.create_tenant();
    let mut client = Client::new(&cluster).await;
    assert!(client.write(0).await);
    let few = Rlimit {
        current: Some(8),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(Some(cluster.pid()), Resource::Nofile, few).unwrap();
    // Until the journal is full and the engine wants another.
    let mut written = 1;
    while client.write(written).await {
        written += 1;
        assert!(written < 300, "it does not notice");
    }
    assert!(client.has(0).await, "it goes on reading");
    prlimit(Some(cluster.pid()), Resource::Nofile, before).unwrap();
    cluster.until_it_writes();
    for number in 0..written {
        assert!(client.has(number).await, "{number} was acknowledged");
    }
    assert!(client.write(written).await);
    drop(client);
    assert!(cluster.stop());
    only_its_owner_reads(&directory.path().join("data"));
}

fn only_its_owner_reads(path: &Path) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let mode = meta.permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            only_its_owner_reads(&entry.unwrap().path());
        }
    }
}
