//! Three coordinators and five storage nodes, each a process, on PostgreSQL and Redis. One node has a disk that can be filled.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const COORDINATORS: usize = 3;
pub const TENANT: &str = "trial";
const NODES: usize = 5;
/// The node with the small disk.
const SMALL: usize = 3;
/// Its size: what a node keeps in reserve, and some.
const DISK_MIB: u64 = 512;
const PATIENCE: Duration = Duration::from_secs(60);

/// All processes.
pub struct Cluster {
    database: String,
    redis: String,
    directory: TempDir,
    coordinators: Vec<Server>,
    nodes: Vec<Server>,
    small_disk: bool,
}

/// A process that has said that it is ready. Killed when dropped.
struct Server {
    child: Child,
    ready: Value,
}

/// A storage node's disk.
pub struct Disk(PathBuf);

impl Cluster {
    pub fn start(database: String, redis: String) -> Self {
        let mut cluster = Self {
            database,
            redis,
            directory: TempDir::new().unwrap(),
            coordinators: Vec::new(),
            nodes: Vec::new(),
            small_disk: can_mount(),
        };
        for _ in 0..COORDINATORS {
            let coordinator = cluster.coordinator("127.0.0.1:0", "0", "0");
            cluster.coordinators.push(coordinator);
        }
        for node in 0..NODES {
            let server = cluster.node(node, "127.0.0.1:0");
            let (host, port) = server.grpc().rsplit_once(':').unwrap();
            cluster.run(&["node", "add", &name_of(node), host, port]);
            cluster.nodes.push(server);
        }
        cluster.run(&["tenant", "create", TENANT, "--replication-factor", "3"]);
        cluster
    }

    pub fn coordinators(&self) -> Vec<String> {
        let addresses = self.coordinators.iter().map(Server::grpc);
        addresses
            .map(|address| format!("http://{address}"))
            .collect()
    }

    pub fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].signal(signal);
    }

    pub fn kill(&mut self, node: usize) {
        let child = &mut self.nodes[node].child;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn restart_node(&mut self, node: usize) {
        let address = self.nodes[node].grpc().to_owned();
        self.nodes[node] = self.node(node, &address);
    }

    /// As an update does it: it is told to stop, has ended well, and another takes its place.
    pub fn restart_coordinator(&mut self, coordinator: usize) {
        let old = &mut self.coordinators[coordinator];
        old.signal(Signal::TERM);
        let asked = Instant::now();
        let status = loop {
            match old.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(asked.elapsed() < PATIENCE, "it does not stop"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "it stopped with {status}");
        let port = |name: &str| {
            let address = old.ready[name].as_str().unwrap();
            address.rsplit_once(':').unwrap().1.to_owned()
        };
        let (grpc, http, metrics) = (old.grpc().to_owned(), port("http"), port("metrics"));
        self.coordinators[coordinator] = self.coordinator(&grpc, &http, &metrics);
    }

    /// The disk that can be filled, where the system lets tests have one.
    pub fn disk(&self) -> Option<Disk> {
        let process = self.nodes[SMALL].child.id();
        let data = self.data(SMALL);
        let inside = format!(
            "/proc/{process}/root{}/filler",
            data.parent().unwrap().display()
        );
        self.small_disk.then(|| Disk(inside.into()))
    }

    /// Waits until `pairdb status` says so of a node.
    pub async fn until_reported(&self, node: &str, what: &str) {
        let asked = Instant::now();
        loop {
            let status = self.status();
            let mut lines = status.lines().filter(|line| line.starts_with(node));
            if lines.any(|line| line.contains(what)) {
                return;
            }
            assert!(asked.elapsed() < PATIENCE, "not '{what}': {status}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What `pairdb status` says.
    pub fn status(&self) -> String {
        let output = self
            .pairdb(&["status", "--server", &self.coordinators()[0]])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// What each coordinator says of itself.
    pub fn reports(&self) -> Vec<String> {
        let report = |coordinator: &Server| {
            let ready = http_get(coordinator.ready["http"].as_str().unwrap(), "/ready");
            let metrics = http_get(coordinator.ready["metrics"].as_str().unwrap(), "/metrics");
            let sum = |name: &str| -> u64 {
                let series = metrics.lines().filter(|line| line.starts_with(name));
                let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
                values.sum()
            };
            format!(
                "{} has answered {} requests since it started, {} of them with an error; {ready}",
                coordinator.grpc(),
                sum("coordinator_requests_total{"),
                sum("coordinator_request_errors_total{"),
            )
        };
        self.coordinators.iter().map(report).collect()
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.path().join(name_of(node)).join("data")
    }

    fn node(&self, node: usize, listen: &str) -> Server {
        let (name, data) = (name_of(node), self.data(node));
        let disk = data.parent().unwrap();
        std::fs::create_dir_all(disk).unwrap();
        let mut command = match node == SMALL && self.small_disk {
            true => on_small_disk(disk),
            false => Command::new(PROGRAM),
        };
        command.args(["storage", "--node-id", &name, "--listen", listen, "--data"]);
        command.arg(data);
        self.start_server(command)
    }

    fn coordinator(&self, listen: &str, http: &str, metrics: &str) -> Server {
        let mut command = Command::new(PROGRAM);
        command.args(["coordinator", "--listen", listen, "--http-port", http]);
        command.args(["--metrics-port", metrics]);
        self.start_server(command)
    }

    fn start_server(&self, mut command: Command) -> Server {
        let mut child = self
            .told(&mut command)
            .args(["--json", "--end-with-input"])
            .stdin(Stdio::piped()) // held until this process ends, however it does
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line);
        let ready = ready.unwrap_or_else(|_| panic!("{command:?} said {line:?}"));
        Server { child, ready }
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = self.pairdb(arguments);
        let output = command
            .args(["--server", &self.coordinators()[0]])
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?} failed: {output:?}");
    }

    fn pairdb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        self.told(command.args(arguments));
        command
    }

    /// Tells a process where the stores are.
    fn told<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .stdin(Stdio::null())
            .env_remove("PAIRDB_SERVER")
            .env(
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or("error".into()),
            )
            .env("PAIRDB_DATABASE__URL", &self.database)
            .env("PAIRDB_DATABASE__CONNECTIONS_MIN", "1")
            .env("PAIRDB_REDIS__URL", &self.redis)
            // Ten processes and two stores on what may be two slow cores: half a second is not much then.
            .env("PAIRDB_REDIS__CALL_TIMEOUT", "2s")
            .env("PAIRDB_COORDINATOR__IDEMPOTENCY_OUTAGE", "refuse")
    }
}

/// The body of the answer.
fn http_get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_pairdb");

fn name_of(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// A mount that only the process sees and that is gone with it.
fn unshare(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command
}

fn can_mount() -> bool {
    let tried = unshare("mount -t tmpfs none /mnt").output();
    tried.is_ok_and(|output| output.status.success())
}

/// The program, with a memory disk mounted there.
fn on_small_disk(directory: &std::path::Path) -> Command {
    let mut command = unshare(
        "mount -t tmpfs -o size=\"$1\"m none \"$2\" && program=\"$3\" && shift 3 && exec \"$program\" \"$@\"",
    );
    command.args(["sh", &DISK_MIB.to_string()]);
    command.arg(directory).arg(PROGRAM);
    command
}

impl Disk {
    /// Until nothing more fits.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(&self.0).unwrap();
        let bytes = vec![1; 1024 * 1024];
        while filler.write_all(&bytes).is_ok() {}
    }

    /// There is room again.
    pub fn free(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

impl Server {
    fn grpc(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // SIGKILL, which ends a stopped process, too
        let _ = self.child.wait();
    }
}
