//! What a shortage broke comes back by itself when it is over: `cargo test --test shortage`.
//!
//! One process with a coordinator and a storage node, that is really short of descriptors, or on a disk that is really
//! full.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of processes waits for them"
)]

mod kit;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kit::{Program, Server, SmallDisk, until};
use pairdb::proto::v1::{ReadKeyValueRequest, WriteKeyValueRequest};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tempfile::TempDir;

const TENANT: &str = "short";
/// What a node keeps in reserve, and some.
const DISK_MIB: u64 = 400;
const MIB: usize = 1024 * 1024;
/// Until not a byte more fits.
const TO_THE_BRIM: [usize; 3] = [MIB, 4096, 1];

/// A cluster of one node in one process.
struct Cluster(Server);

impl Cluster {
    /// On data in `directory`; `program` is `pairdb` without arguments.
    fn start(program: Program, directory: &Path) -> Self {
        let data = directory.join("data");
        let dev = ["dev", "--nodes", "1", "--data", data.to_str().unwrap()];
        Self(Server::start(program.with(&dev).with(&Server::FREE_PORTS)))
    }

    fn create_tenant(&self) {
        let create = ["tenant", "create", TENANT, "--replication-factor", "1"];
        self.0.ok(&create);
    }

    /// Whether it takes a write.
    fn puts(&self, key: &str) -> bool {
        let put = ["put", key, "value", "--tenant", TENANT];
        self.0.run(&put).1 == 0
    }

    fn has(&self, key: &str) -> bool {
        let get = ["get", key, "--tenant", TENANT];
        self.0.run(&get).1 == 0
    }

    fn until_it_writes(&self) {
        until("it comes back", || self.puts("again").then_some(()));
    }

    /// Stops it. Returns whether it was a clean stop.
    fn stop(mut self) -> bool {
        self.0.signal(Signal::TERM);
        self.0.ended() == Some(0)
    }
}

#[test]
fn a_node_on_a_full_disk_reads_starts_and_comes_back() {
    let Some(disk) = SmallDisk::new(DISK_MIB) else {
        return; // it has said so, and failed in continuous integration
    };
    let start = || Cluster::start(disk.program(&[]), disk.path());
    let cluster = start();
    cluster.create_tenant();
    assert!(cluster.puts("kept"));
    disk.fill(&TO_THE_BRIM);
    until("it notices", || (!cluster.puts("refused")).then_some(()));
    assert!(cluster.has("kept"));
    drop(cluster);

    let cluster = start();
    assert!(cluster.has("kept"), "after it was killed");
    assert!(!cluster.puts("refused"));
    assert!(!cluster.stop(), "it can't say that it stopped cleanly");

    disk.fill(&TO_THE_BRIM);
    let cluster = start();
    assert!(cluster.has("kept"), "after it was stopped");
    assert!(!cluster.puts("refused"));
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
    assert_eq!(cluster.0.ok(&once)["is_duplicate"], false);
    assert_eq!(cluster.0.ok(&once)["is_duplicate"], true);
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

struct Client(kit::Client);

impl Client {
    async fn new(cluster: &Cluster) -> Self {
        let client = cluster.0.client().await;
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
    let cluster = Cluster::start(Program::new(&[]), directory.path());
    cluster.create_tenant();
    let mut client = Client::new(&cluster).await;
    assert!(client.write(0).await);
    let few = Rlimit {
        current: Some(8),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(Some(cluster.0.pid()), Resource::Nofile, few).unwrap();
    // Until the journal is full and the engine wants another.
    let mut written = 1;
    while client.write(written).await {
        written += 1;
        assert!(written < 300, "it does not notice");
    }
    assert!(client.has(0).await, "it goes on reading");
    prlimit(Some(cluster.0.pid()), Resource::Nofile, before).unwrap();
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
