//! Five storage nodes and two coordinators, each a process, on one metadata file in a temporary folder.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const NODES: usize = 5;
const COORDINATORS: usize = 2;
pub const TENANT: &str = "outage";

/// What the servers are set to unless the environment says otherwise: everything soon, so that the test is short.
const SETTINGS: [(&str, &str); 5] = [
    ("RUST_LOG", "error"),
    ("PAIRDB_COORDINATOR__ANTI_ENTROPY_PERIOD", "2s"),
    ("PAIRDB_COORDINATOR__ANTI_ENTROPY_PAUSE", "500ms"),
    ("PAIRDB_REPLICA__HINT_PAUSE_MIN", "500ms"),
    ("PAIRDB_REPLICA__HINT_PAUSE_MAX", "5s"),
];

fn pairdb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pairdb"));
    command.args(arguments).arg("--json").stdin(Stdio::null());
    for (name, value) in SETTINGS {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command
}

/// A process that has said that it is ready. Killed when dropped.
struct Server {
    child: Child,
    ready: Value,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        // The other end of its input is held until this process ends, however it does: it does not stay behind.
        let mut child = pairdb(arguments)
            .arg("--end-with-input")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{arguments:?} said {line:?}"));
        Self { child, ready }
    }

    fn address(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // SIGKILL, which ends a stopped process, too
        let _ = self.child.wait();
    }
}

/// All of them.
pub struct Cluster {
    nodes: Vec<Server>,
    coordinators: Vec<Server>,
    directory: TempDir,
}

impl Cluster {
    pub fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut cluster = Self {
            nodes: Vec::new(),
            coordinators: Vec::new(),
            directory,
        };
        for _ in 0..COORDINATORS {
            let metadata = cluster.metadata();
            let where_to = ["coordinator", "--metadata", &metadata];
            let ports = "--listen 127.0.0.1:0 --http-port 0 --metrics-port 0";
            let ports: Vec<&str> = ports.split(' ').collect();
            let coordinator = Server::start(&[&where_to[..], &ports].concat());
            cluster.coordinators.push(coordinator);
        }
        for node in 0..NODES {
            let server = cluster.node(node, "127.0.0.1:0");
            let (host, port) = server.address().rsplit_once(':').unwrap();
            cluster.run(&["node", "add", &cluster.name_of(node), host, port]);
            cluster.nodes.push(server);
        }
        cluster.run(&["tenant", "create", TENANT, "--replication-factor", "3"]);
        cluster
    }

    /// Where coordinators answer.
    pub fn coordinators(&self) -> Vec<String> {
        let addresses = self.coordinators.iter().map(Server::address);
        addresses
            .map(|address| format!("http://{address}"))
            .collect()
    }

    pub fn name_of(&self, node: usize) -> String {
        format!("node-{}", node + 1)
    }

    pub fn kill(&mut self, node: usize) {
        let child = &mut self.nodes[node].child;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn restart(&mut self, node: usize) {
        let address = self.nodes[node].address().to_owned();
        self.nodes[node] = self.node(node, &address);
    }

    pub fn signal(&self, node: usize, signal: &str) {
        let pid = self.nodes[node].child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    fn metadata(&self) -> String {
        format!(
            "sqlite:{}",
            self.directory.path().join("metadata.sqlite").display()
        )
    }

    fn node(&self, node: usize, listen: &str) -> Server {
        let name = self.name_of(node);
        let data = self.directory.path().join(&name);
        let (data, metadata) = (data.to_str().unwrap(), self.metadata());
        let named = ["storage", "--node-id", &name, "--data", data];
        Server::start(&[&named[..], &["--listen", listen, "--metadata", &metadata]].concat())
    }

    fn run(&self, arguments: &[&str]) {
        let output = pairdb(arguments)
            .args(["--server", &self.coordinators()[0]])
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?} failed: {output:?}");
    }
}
