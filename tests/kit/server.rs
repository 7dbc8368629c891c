//! A process that serves.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use super::log::Log;
use super::{PATIENCE, Program, http_get, watch};

/// A client of a coordinator.
pub type Client = CoordinatorServiceClient<Channel>;

/// A server that has said that it is ready. Killed when dropped; its log is shown where the test fails.
pub struct Server {
    child: Child,
    shown: String,
    log: Arc<Log>,
    /// What it said when it was ready: its addresses, and its name.
    pub ready: Value,
}

impl Server {
    /// Starts it, and waits until it says that it is ready.
    pub fn start(program: Program) -> Self {
        let (out, log) = (Log::new(), Arc::new(Log::new()));
        // The other end of its input is held until this process ends, however it does: it does not stay behind.
        let mut program = program.with(&["--json", "--end-with-input"]);
        let child = program.spawn(Stdio::piped(), out.stdio(), log.stdio());
        let mut server = Self {
            child,
            shown: program.shown(),
            log,
            ready: Value::Null,
        };
        watch::add(server.pid(), &server.shown, Arc::clone(&server.log));
        let began = Instant::now();
        let line = loop {
            if let Some(line) = out.first_line() {
                break line;
            }
            let ended = server.child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "{} ended: {ended:?}", server.shown);
            assert!(
                began.elapsed() < PATIENCE,
                "{} does not say that it is ready",
                server.shown
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        server.ready = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{} said {line:?}", server.shown));
        server
    }

    /// A whole cluster in one process, with its data there.
    pub fn dev(data: &Path) -> Self {
        let data = data.to_str().expect("a path that is text");
        Self::start(Program::new(&["dev", "--data", data]).with(&Self::FREE_PORTS))
    }

    /// What makes `pairdb dev` listen on ports that nobody has.
    pub const FREE_PORTS: [&str; 6] = [
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--metrics-port",
        "0",
    ];

    /// Where it listens: `grpc`, `http` or `metrics`.
    #[track_caller]
    pub fn address(&self, of: &str) -> SocketAddr {
        let address = self.ready[of].as_str();
        let address = address.unwrap_or_else(|| panic!("no {of}: {}", self.ready));
        address.parse().expect("an address")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address("grpc"))
    }

    pub async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(self.url()).expect("a URL");
        Client::new(endpoint.connect().await.expect("it takes connections"))
    }

    /// What its metrics are now.
    pub fn metrics(&self) -> String {
        http_get(self.address("metrics"), "/metrics")
    }

    /// Runs a client command against it. Returns its JSON and its exit code.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> (Value, i32) {
        let done = Program::new(arguments).with(&["--json"]).at(self).run();
        let code = done.code;
        let code = code.unwrap_or_else(|| panic!("a signal ended {done}"));
        let json = match code {
            0 => done.json(),
            _ => serde_json::from_slice(&done.stderr).unwrap_or_else(|_| panic!("no JSON: {done}")),
        };
        (json, code)
    }

    /// Runs a client command that succeeds.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let (json, code) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?} failed: {json}");
        json
    }

    /// Runs a client command that fails. Returns the error's name and the exit code.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> (String, i32) {
        let (json, code) = self.run(arguments);
        let error = &json["error"];
        assert_eq!(error["exit_code"], code, "{arguments:?}: {json}");
        let message = error["message"].as_str();
        assert!(message.is_some_and(|text| !text.is_empty()), "{json}");
        let name = error["code"].as_str().expect("an error has a name");
        (name.to_owned(), code)
    }

    /// What a client command writes for people.
    #[track_caller]
    pub fn text(&self, arguments: &[&str]) -> String {
        let done = Program::new(arguments).at(self).run().exits(0);
        done.stdout().to_owned()
    }

    /// Whether its log has this.
    pub fn has_logged(&self, text: &str) -> bool {
        self.log.end().contains(text)
    }

    pub fn pid(&self) -> Pid {
        let pid = self.child.id().try_into().ok().and_then(Pid::from_raw);
        pid.expect("a process has an id")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is there");
    }

    /// The most memory that it ever had, in bytes.
    pub fn memory_peak(&self) -> usize {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("it is there");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.expect("Linux tells").parse::<usize>().expect("KiB") * 1024
    }

    /// Ends its input, as the end of the process that started it would.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end. Returns its exit code; `None` when a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status.code();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{} does not end, and wrote {}",
                self.shown,
                self.log.end()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells it to stop, which it does well.
    #[track_caller]
    pub fn stops(mut self, signal: Signal) {
        self.signal(signal);
        assert_eq!(self.ended(), Some(0), "{}", self.log.end());
    }

    /// kill -9. What it said when it was ready is still known.
    #[track_caller]
    pub fn dies(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.ended(), None);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // SIGKILL, which ends a stopped process, too; it may have ended before
        let _ = self.child.wait();
        watch::remove(self.pid());
        if std::thread::panicking() {
            eprintln!("--- {} wrote:\n{}", self.shown, self.log.end());
        }
    }
}
