//! Redis: one server, or several as a cluster or under a sentinel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::certificates::Certificates;
use super::guard::{Guard, directory, free_port, on_a_free_port, run};
use super::proxy::Proxy;

/// A private server.
#[derive(Debug)]
pub struct Redis {
    guard: Option<Guard>,
    command: Vec<String>,
    directory: PathBuf,
    /// Of the connections without TLS.
    pub port: u16,
    /// Of the connections with TLS.
    pub tls_port: u16,
    /// What it shows who asks for TLS.
    pub certificates: Certificates,
}

/// The server that the tests of this binary share.
pub fn redis() -> &'static Redis {
    static SHARED: OnceLock<Redis> = OnceLock::new();
    SHARED.get_or_init(|| Redis::start(&[]))
}

impl Redis {
    /// A server of its own, for who stops and holds it. It keeps what it acknowledged.
    pub fn own() -> Self {
        Self::start(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Three servers that are one cluster.
    pub fn cluster() -> [Self; 3] {
        let member =
            |_| Self::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
        let members = [0, 1, 2].map(member);
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(
            members
                .iter()
                .map(|member| format!("127.0.0.1:{}", member.port)),
        );
        run(create.args(["--cluster-replicas", "0", "--cluster-yes"]));
        for member in &members {
            member.await_text(&["cluster", "info"], "cluster_state:ok");
        }
        members
    }

    /// A sentinel that watches `master` under the name `claims`.
    pub fn sentinel(master: &Self) -> Self {
        let watched = format!("sentinel monitor claims 127.0.0.1 {} 1\n", master.port);
        let down =
            "sentinel down-after-milliseconds claims 500\nsentinel failover-timeout claims 2000\n";
        let sentinel = Self::start_as("--sentinel", &[], &(watched + down));
        sentinel.await_text(&["sentinel", "masters"], "claims");
        sentinel
    }

    /// A copy of `master` that takes over when the sentinel says so.
    pub fn replica(master: &Self) -> Self {
        let replica = Self::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        replica.await_text(&["info", "replication"], "master_link_status:up");
        replica
    }

    fn start(settings: &[&str]) -> Self {
        Self::start_as("--protected-mode no", settings, "save \"\"\n")
    }

    fn start_as(kind: &str, settings: &[&str], file: &str) -> Self {
        let directory = directory("redis");
        let certificates = Certificates::make(&directory);
        on_a_free_port("Redis", |port| {
            let tls_port = free_port();
            // A cluster's own port is 10 000 above, unless it is told.
            let bus_port = free_port();
            let path = directory.join("redis.conf");
            fs::write(&path, file).map_err(|error| error.to_string())?;
            let mut command = vec!["redis-server".to_owned(), path.display().to_string()];
            command.extend(kind.split(' ').map(String::from));
            let show = |path: &PathBuf| path.display().to_string();
            for (name, value) in [
                ("--port", port.to_string()),
                ("--tls-port", tls_port.to_string()),
                ("--tls-cert-file", show(&certificates.certificate)),
                ("--tls-key-file", show(&certificates.key)),
                ("--tls-ca-cert-file", show(&certificates.authority)),
                ("--tls-auth-clients", "no".to_owned()),
                ("--bind", "127.0.0.1".to_owned()),
                ("--dir", show(&directory)),
            ] {
                command.extend([name.to_owned(), value]);
            }
            if settings.contains(&"--cluster-enabled") {
                command.extend(["--cluster-port".to_owned(), bus_port.to_string()]);
            }
            command.extend(settings.iter().copied().map(String::from));
            let mut server = Self {
                guard: None,
                command,
                directory: directory.clone(),
                port,
                tls_port,
                certificates: certificates.clone(),
            };
            server.begin()?;
            Ok(server)
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A way to it, and its URL by this way.
    pub fn through_a_proxy(&self) -> (Proxy, String) {
        let proxy = Proxy::to(self.port);
        let url = format!("redis://127.0.0.1:{}/", proxy.port());
        (proxy, url)
    }

    /// Runs a command as an operator would, and returns what it prints.
    pub fn command(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        run(Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &port])
            .args(words))
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.stop();
        }
    }

    /// Starts it after it was stopped, on the same data and port. Panics if it can't be.
    pub fn start_again(&mut self) {
        self.begin().expect("it started before");
    }

    /// Holds it, as an overloaded machine does.
    pub fn hold(&self) {
        self.guard.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.guard.as_ref().expect("it runs").signal(Signal::CONT);
    }

    fn begin(&mut self) -> Result<(), String> {
        let port = self.port.to_string();
        let is_ready = || {
            let mut ping = Command::new("redis-cli");
            let answer = ping.args(["-h", "127.0.0.1", "-p", &port, "ping"]).output();
            answer.is_ok_and(|answer| answer.stdout.starts_with(b"PONG"))
        };
        self.guard = Some(Guard::start(&self.directory, &self.command, is_ready)?);
        Ok(())
    }

    /// Waits until a command prints that.
    pub fn await_text(&self, words: &[&str], text: &str) {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.command(words);
            if answer.contains(text) {
                return;
            }
            assert!(
                Instant::now() < give_up,
                "{words:?} never says {text}: {answer}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.guard.is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
