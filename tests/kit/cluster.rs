//! Coordinators and storage nodes, each a process of its own, with their data in one temporary folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Program, Server, SmallDisk, few_partitions};

/// An address on which the system chooses the port.
const ANY: &str = "127.0.0.1:0";

/// All of them. Storage nodes are named and counted from `node-1` on, coordinators from 0 on.
pub struct Cluster {
    // In the order in which they go: processes, and then what they stand on.
    pub coordinators: Vec<Server>,
    pub nodes: Vec<Server>,
    /// Of one node, by its number.
    small_disk: Option<(usize, SmallDisk)>,
    directory: TempDir,
    settings: Vec<(String, String)>,
    /// `--metadata`, where the settings don't name a database.
    metadata: Option<String>,
}

/// The settings of a cluster whose metadata are in a PostgreSQL, its claims in a Redis.
pub fn on_stores(database: &str, redis: &str) -> Vec<(String, String)> {
    let settings = [
        ("PAIRDB_DATABASE__URL", database),
        ("PAIRDB_DATABASE__CONNECTIONS_MIN", "1"),
        ("PAIRDB_REDIS__URL", redis),
        // Ten processes and two stores on what may be two slow cores: half a second is not much then.
        ("PAIRDB_REDIS__CALL_TIMEOUT", "2s"),
        ("PAIRDB_COORDINATOR__IDEMPOTENCY_OUTAGE", "refuse"),
    ];
    settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

impl Cluster {
    /// Nobody yet. All will share one SQLite file.
    pub fn on_sqlite(settings: Vec<(String, String)>) -> Self {
        let mut cluster = Self::new(settings);
        let file = cluster.directory.path().join("metadata.sqlite");
        cluster.metadata = Some(format!("sqlite:{}", file.display()));
        cluster
    }

    /// Nobody yet. All will be told these settings, which say where the stores are.
    pub fn new(settings: Vec<(String, String)>) -> Self {
        Self {
            directory: TempDir::new().expect("a temporary folder"),
            settings,
            metadata: None,
            small_disk: None,
            coordinators: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Owners will change in a second; of a cluster that shares one SQLite file.
    pub fn with_few_partitions(self) -> Self {
        few_partitions(&self.metadata_file());
        self
    }

    /// One node will have this disk.
    pub fn with_small_disk(mut self, number: usize, disk: Option<SmallDisk>) -> Self {
        self.small_disk = disk.map(|disk| (number, disk));
        self
    }

    /// With so many of both, all part of it.
    pub fn started(mut self, coordinators: usize, nodes: usize) -> Self {
        for _ in 0..coordinators {
            let coordinator = self.coordinator();
            self.coordinators.push(coordinator);
        }
        for number in 1..=nodes {
            let node = self.node(number, ANY, &[]);
            self.add(&node);
            self.nodes.push(node);
        }
        self
    }

    /// The first coordinator.
    pub fn front(&self) -> &Server {
        &self.coordinators[0]
    }

    /// Where the coordinators answer.
    pub fn urls(&self) -> Vec<String> {
        self.coordinators.iter().map(Server::url).collect()
    }

    /// A further coordinator, which the caller keeps.
    pub fn coordinator(&self) -> Server {
        self.coordinator_at(ANY, "0", "0")
    }

    fn coordinator_at(&self, listen: &str, http: &str, metrics: &str) -> Server {
        let ports = ["--http-port", http, "--metrics-port", metrics];
        let program = Program::new(&["coordinator", "--listen", listen]).with(&ports);
        Server::start(self.told(program))
    }

    /// A storage node, which the caller keeps, and adds to the cluster if it is to be part of it.
    pub fn node(&self, number: usize, listen: &str, more: &[&str]) -> Server {
        Server::start(self.node_program(number, listen, more))
    }

    /// The command that starts a storage node.
    pub fn node_program(&self, number: usize, listen: &str, more: &[&str]) -> Program {
        self.node_program_on(&self.data(number), number, listen, more)
    }

    /// The same, on other data.
    pub fn node_program_on(
        &self,
        data: &Path,
        number: usize,
        listen: &str,
        more: &[&str],
    ) -> Program {
        let name = format!("node-{number}");
        let data = data.to_str().expect("a path that is text");
        let named = ["storage", "--node-id", &name];
        let arguments = [&named[..], &["--listen", listen, "--data", data]].concat();
        let program = match self.disk_of(number) {
            Some(disk) => disk.program(&arguments),
            None => Program::new(&arguments),
        };
        self.told(program).with(more)
    }

    /// Makes a storage node part of the cluster.
    pub fn add(&self, node: &Server) -> Value {
        let name = node.ready["node"].as_str().expect("a node has a name");
        let address = node.address("grpc");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        self.front().ok(&["node", "add", name, &host, &port])
    }

    /// Where a storage node answers, or did.
    pub fn node_address(&self, number: usize) -> SocketAddr {
        self.nodes[number - 1].address("grpc")
    }

    pub fn signal_node(&self, number: usize, signal: Signal) {
        self.nodes[number - 1].signal(signal);
    }

    /// kill -9.
    pub fn kill_node(&mut self, number: usize) {
        self.nodes[number - 1].dies();
    }

    /// Starts a node that was killed, on its data and at its address.
    pub fn restart_node(&mut self, number: usize) {
        let address = self.node_address(number).to_string();
        self.nodes[number - 1] = self.node(number, &address, &[]);
    }

    /// kill -9, and another one starts in its place.
    pub fn kill_coordinator(&mut self, number: usize) {
        let old = &mut self.coordinators[number];
        old.dies();
        let port = |of: &str| old.address(of).port().to_string();
        let (grpc, http, metrics) = (old.address("grpc"), port("http"), port("metrics"));
        let coordinator = self.coordinator_at(&grpc.to_string(), &http, &metrics);
        self.coordinators[number] = coordinator;
    }

    /// Where the metadata are, in a cluster that shares one SQLite file.
    pub fn metadata_file(&self) -> PathBuf {
        self.directory.path().join("metadata.sqlite")
    }

    /// As an update does it: it is told to stop, has ended well, and another takes its place.
    pub fn restart_coordinator(&mut self, number: usize) {
        let old = &mut self.coordinators[number];
        old.signal(Signal::TERM);
        assert_eq!(old.ended(), Some(0), "it did not stop well");
        let port = |of: &str| old.address(of).port().to_string();
        let (grpc, http, metrics) = (old.address("grpc"), port("http"), port("metrics"));
        let coordinator = self.coordinator_at(&grpc.to_string(), &http, &metrics);
        self.coordinators[number] = coordinator;
    }

    /// The small disk, where the system lets tests have one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.small_disk.as_ref().map(|(_, disk)| disk)
    }

    fn disk_of(&self, number: usize) -> Option<&SmallDisk> {
        let disk = self.small_disk.as_ref();
        disk.and_then(|(node, disk)| (*node == number).then_some(disk))
    }

    fn data(&self, number: usize) -> PathBuf {
        match self.disk_of(number) {
            Some(disk) => disk.path().join("data"),
            None => self.directory.path().join(format!("node-{number}")),
        }
    }

    /// Tells a process where the stores are, and all else that was set.
    fn told(&self, program: Program) -> Program {
        let program = program.settings(&self.settings);
        match &self.metadata {
            Some(metadata) => program.with(&["--metadata", metadata]),
            None => program,
        }
    }
}
