//! One command of the program, from its start to its end.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::log::Log;
use super::{PATIENCE, Server};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pairdb");

/// A command that has not been run.
pub struct Program {
    command: Command,
    input: Vec<u8>,
    patience: Duration,
}

/// What became of a command.
pub struct Done {
    shown: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Program {
    /// `pairdb` with these arguments.
    pub fn new(arguments: &[&str]) -> Self {
        Self::of(Command::new(PROGRAM)).with(arguments)
    }

    /// Another program, or one that ends as `pairdb`.
    pub fn of(mut command: Command) -> Self {
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PAIRDB_") {
                command.env_remove(name);
            }
        }
        let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into());
        command.env("RUST_LOG", level);
        Self {
            command,
            input: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// More arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn settings(mut self, settings: &[(String, String)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (name, value));
        self.command.envs(settings);
        self
    }

    /// What is piped into it.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Asks this server.
    pub fn at(self, server: &Server) -> Self {
        self.with(&["--server", &server.url()])
    }

    /// How long it may take.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Done {
        let (stdout, stderr) = (Log::new(), Log::new());
        let stdin = match self.input.is_empty() {
            true => Stdio::null(),
            false => Stdio::piped(),
        };
        let mut child = self.spawn(stdin, stdout.stdio(), stderr.stdio());
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(&self.input).expect("it reads its input");
        }
        let began = Instant::now();
        let status = loop {
            match child.try_wait().expect("it is a child of this process") {
                Some(status) => break status,
                None if began.elapsed() < self.patience => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let (shown, wrote) = (self.shown(), stdout.end() + &stderr.end());
                    panic!("{shown} did not end within {:?}: {wrote}", self.patience);
                }
            }
        };
        Done {
            shown: self.shown(),
            code: status.code(),
            stdout: stdout.bytes(),
            stderr: stderr.bytes(),
        }
    }

    /// Begins it.
    pub(super) fn spawn(&mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Child {
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = self.command.spawn();
        child.unwrap_or_else(|error| panic!("{} can't be run: {error}", self.shown()))
    }

    /// The command line.
    pub(super) fn shown(&self) -> String {
        let arguments = self.command.get_args().map(OsStr::to_string_lossy);
        let arguments: Vec<_> = arguments.collect();
        let program = self.command.get_program().to_string_lossy();
        format!("{program} {}", arguments.join(" "))
    }
}

impl Done {
    /// That was its exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// That is in what it wrote to standard output.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout().contains(text), "no '{text}': {self}");
        self
    }

    /// That is in what it wrote to standard error.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(self.stderr().contains(text), "no '{text}': {self}");
        self
    }

    pub fn stdout(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap_or_else(|_| panic!("no text: {self}"))
    }

    pub fn stderr(&self) -> &str {
        str::from_utf8(&self.stderr).unwrap_or_else(|_| panic!("no text: {self}"))
    }

    /// What it wrote to standard output with `--json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self}"))
    }

    /// What it wrote of its failure with `--json`.
    #[track_caller]
    pub fn error(&self) -> Value {
        let said: Value =
            serde_json::from_slice(&self.stderr).unwrap_or_else(|_| panic!("no JSON: {self}"));
        said["error"].clone()
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        write!(
            f,
            "{} ended with {:?}\n{stdout}{stderr}",
            self.shown, self.code
        )
    }
}
