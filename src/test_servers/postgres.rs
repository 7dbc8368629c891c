//! PostgreSQL, as the user `postgres` where the tests run as root, which it refuses to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use super::certificates::Certificates;
use super::guard::{Guard, directory, on_a_free_port, run};
use super::proxy::Proxy;

/// A private server. It also speaks TLS.
#[derive(Debug)]
pub struct Postgres {
    guard: Option<Guard>,
    command: Vec<String>,
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// What it shows who asks for TLS.
    pub certificates: Certificates,
}

/// The server that the tests of this binary share.
pub fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}

impl Postgres {
    /// A server of its own, for who stops and holds it.
    pub fn own() -> Self {
        Self::start()
    }

    fn start() -> Self {
        let directory = directory("postgres");
        let certificates = Certificates::make(&directory);
        if is_root() {
            run(Command::new("chown")
                .args(["-R", "postgres:"])
                .arg(&directory));
        }
        let data = directory.join("data");
        let mut initdb = as_postgres("initdb");
        initdb.extend(
            [
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
            ]
            .map(String::from),
        );
        initdb.extend([
            "--no-sync".to_owned(),
            format!("--pgdata={}", data.display()),
        ]);
        run(Command::new(&initdb[0])
            .args(&initdb[1..])
            .current_dir(&directory));
        on_a_free_port("PostgreSQL", |port| {
            let mut command = as_postgres("postgres");
            command.extend(["-D".to_owned(), data.display().to_string()]);
            for setting in [
                format!("port={port}"),
                "listen_addresses=127.0.0.1".to_owned(),
                format!("unix_socket_directories={}", directory.display()),
                "fsync=off".to_owned(),
                "max_connections=300".to_owned(),
                "ssl=on".to_owned(),
                format!("ssl_cert_file={}", certificates.certificate.display()),
                format!("ssl_key_file={}", certificates.key.display()),
            ] {
                command.extend(["-c".to_owned(), setting]);
            }
            let mut server = Self {
                guard: None,
                command,
                directory: directory.clone(),
                port,
                databases: AtomicU32::new(0),
                certificates: certificates.clone(),
            };
            server.begin()?;
            Ok(server)
        })
    }

    /// Makes an empty database and tells its URL.
    pub fn fresh(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} STRATEGY file_copy"),
        );
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:unneeded@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// A way to a database that it has made, and the database's URL by this way.
    pub fn through_a_proxy(&self, url: &str) -> (Proxy, String) {
        let proxy = Proxy::to(self.port);
        let [old, new] = [self.port, proxy.port()].map(|port| format!("127.0.0.1:{port}/"));
        // In the clear, so that the proxy understands it.
        let url = format!("{}?sslmode=disable", url.replace(&old, &new));
        (proxy, url)
    }

    /// Ends all its connections to a database, in whatever they are.
    pub fn terminate(&self, database: &str) {
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.sql(database, all);
    }

    /// Runs SQL as an operator would, and returns what it prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let port = self.port.to_string();
        let psql = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            database,
        ];
        let mut command = Command::new(binary("psql"));
        run(command
            .args(psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]))
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

    /// Holds all its processes, as an overloaded machine does.
    pub fn hold(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal_all(Signal::CONT);
    }

    fn begin(&mut self) -> Result<(), String> {
        // What a killed one left behind keeps the next one from its port for as long as its children live.
        let _ = fs::remove_file(self.directory.join("data/postmaster.pid"));
        let port = self.port.to_string();
        let is_ready = || {
            let mut probe = Command::new(binary("pg_isready"));
            probe
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .stderr(Stdio::null());
            probe.status().is_ok_and(|status| status.success())
        };
        self.guard = Some(Guard::start(&self.directory, &self.command, is_ready)?);
        Ok(())
    }

    fn signal_all(&self, signal: Signal) {
        let guard = self.guard.as_ref().expect("it runs");
        guard.signal_children(signal);
        guard.signal(signal);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.guard.is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The start of a command line.
fn as_postgres(name: &str) -> Vec<String> {
    let drop_root = [
        "setpriv",
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        "--",
    ];
    let mut command: Vec<String> = match is_root() {
        true => drop_root.map(String::from).into(),
        false => Vec::new(),
    };
    command.push(binary(name).display().to_string());
    command
}

/// Of the newest version that Debian's packages installed, or whatever PATH knows.
fn binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .map(|(version, path)| (version, path.join("bin").join(name)))
        .filter(|(_, path)| path.exists())
        .max();
    newest.map_or_else(|| Path::new(name).to_owned(), |(_, path)| path)
}
