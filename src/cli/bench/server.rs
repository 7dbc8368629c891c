//! The server under load: one that runs already, or a cluster started for the purpose.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::super::exit::Failure;
use super::cpu::CpuTimes;

/// A started cluster is ready by then, or something is wrong.
const START_MAX: Duration = Duration::from_secs(30);

/// A server and, if known, its process.
pub struct Server {
    url: String,
    pid: Option<u32>,
    child: Option<Child>,
}

impl Server {
    /// One that runs already.
    pub fn given(url: &str, pid: Option<u32>) -> Self {
        Self {
            url: url.to_owned(),
            pid,
            child: None,
        }
    }

    /// Starts this program's own `dev --ephemeral` on free ports.
    pub async fn spawn(nodes: u16) -> Result<Self, Failure> {
        let failed = |cause: String| Failure::local(format!("can't start a cluster: {cause}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args([
                "dev",
                "--ephemeral",
                "--json",
                "--nodes",
                &nodes.to_string(),
            ])
            .args([
                "--grpc-port",
                "0",
                "--http-port",
                "0",
                "--metrics-port",
                "0",
            ])
            // Held until this process ends, however it does; then the cluster ends, too.
            .arg("--end-with-input")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let pid = child.id();
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| failed("it has no output".into()))?;
        let mut line = String::new();
        match tokio::time::timeout(START_MAX, BufReader::new(stdout).read_line(&mut line)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("it is not ready in time".into())),
        }
        let address = serde_json::from_str::<Value>(&line)
            .ok()
            .and_then(|ready| Some(ready.get("grpc")?.as_str()?.to_owned()))
            .ok_or_else(|| failed("it did not say where it is".into()))?;
        Ok(Self {
            url: format!("http://{address}"),
            pid,
            child: Some(child),
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its CPU time so far, if its process is known.
    pub fn cpu(&self) -> Option<CpuTimes> {
        CpuTimes::of(self.pid?)
    }

    /// Stops it if it was started for the purpose.
    pub async fn stop(self) -> Result<(), Failure> {
        let Some(mut child) = self.child else {
            return Ok(());
        };
        let failed =
            |cause: String| Failure::local(format!("the cluster did not stop cleanly: {cause}"));
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::INT).map_err(|error| failed(error.to_string()))?;
        }
        let status = child
            .wait()
            .await
            .map_err(|error| failed(error.to_string()))?;
        if status.success() {
            Ok(())
        } else {
            Err(failed(status.to_string()))
        }
    }
}
