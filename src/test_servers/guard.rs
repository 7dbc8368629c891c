//! A server process that ends with the process that started it, or before.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the server and waits for the end of its own input, which comes with the end of the process that runs the
/// tests. Signals meant for that one (ctrl-c reaches both) don't keep it from its work.
const GUARD: &str = r#"
trap : INT TERM HUP
directory=$1; shift
"$@" </dev/null >>"$directory/log" 2>&1 &
echo $! >"$directory/pid.new" && mv "$directory/pid.new" "$directory/pid"
keeps=
while read -r word; do keeps=$word; done
kill -KILL $! 2>/dev/null
wait
[ -n "$keeps" ] || rm -rf "$directory"
"#;

/// A running server.
#[derive(Debug)]
pub struct Guard {
    directory: PathBuf,
    shell: Child,
}

impl Guard {
    /// Starts `command` and waits until `is_ready`.
    ///
    /// # Errors
    /// What it wrote, if it ends instead or takes too long.
    pub fn start(
        directory: &Path,
        command: &[String],
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<Self, String> {
        let _ = fs::remove_file(directory.join("pid"));
        let shell = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(directory)
            .args(command)
            .stdin(Stdio::piped())
            .spawn();
        let shell = shell.map_err(|error| format!("no shell: {error}"))?;
        let guard = Self {
            directory: directory.to_owned(),
            shell,
        };
        let give_up = Instant::now() + PATIENCE;
        while !is_ready() {
            let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
            if guard
                .pid()
                .is_some_and(|pid| rustix::process::test_kill_process(pid).is_err())
            {
                let cause = format!("{command:?} ended: {}", log());
                guard.stop();
                return Err(cause);
            }
            if Instant::now() > give_up {
                let cause = format!("{command:?} is not ready after {PATIENCE:?}: {}", log());
                guard.stop();
                return Err(cause);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(guard)
    }

    /// Holds the server, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("a server that is ready has a process");
        kill_process(pid, signal).expect("the server is there");
    }

    /// The same for the processes it started itself.
    pub fn signal_children(&self, signal: Signal) {
        let pid = self.pid().expect("a server that is ready has a process");
        let pid = pid.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("the server is there");
        for child in children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        {
            let _ = kill_process(child, signal); // some come and go
        }
    }

    /// Kills the server and leaves its folder as it is.
    pub fn stop(mut self) {
        if let Some(pipe) = self.shell.stdin.as_mut() {
            let _ = pipe.write_all(b"keep\n");
        }
    }

    fn pid(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.directory.join("pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A new folder below the system's temporary one.
pub fn directory(name: &str) -> PathBuf {
    let made = tempfile::Builder::new()
        .prefix(&format!("pairdb-{name}-"))
        .tempdir();
    made.expect("a temporary folder").keep()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Tries another port when somebody was faster. Panics when it is something else.
pub fn on_a_free_port<T>(what: &str, start: impl Fn(u16) -> Result<T, String>) -> T {
    let mut failure = String::new();
    for _ in 0..3 {
        match start(free_port()) {
            Ok(server) => return server,
            Err(cause) => failure = cause,
        }
    }
    panic!("{what} can't be started; tests need it (`.ci/test` installs it on Debian): {failure}")
}

/// Runs a command to its end. Panics, with what it wrote, unless it succeeds.
pub fn run(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!(
            "{command:?} can't be run; tests need it (`.ci/test` installs it on Debian): {error}"
        ),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
