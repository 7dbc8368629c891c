//! Runs a program, for so long and with so much memory and no more: a mutant may loop for ever, or take all there is.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How much memory a program may have, in KiB.
const MEMORY_KIB_MAX: u64 = 4 * 1024 * 1024;
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status; `None` if it had to be stopped.
    pub status: Option<ExitStatus>,
    /// What it printed.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

impl Ended {
    /// Whether it says that all is well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs `program` in `directory`. What it prints goes through the file `output`.
///
/// # Errors
/// Says why it can't be run.
pub fn run(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    directory: &Path,
    output: &Path,
    limit: Duration,
) -> Result<Ended, String> {
    let problem = |error: std::io::Error| format!("{}: {error}", program.display());
    let printed = File::create(output).map_err(problem)?;
    let begun = Instant::now();
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -c 0; ulimit -v {MEMORY_KIB_MAX}; exec \"$0\" \"$@\""
        ))
        .arg(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(printed)
        .stderr(Stdio::null())
        .spawn()
        .map_err(problem)?;
    let status = wait(&mut child, begun + limit).map_err(problem)?;
    let output = std::fs::read(output).map_err(problem)?;
    Ok(Ended {
        status,
        output: String::from_utf8_lossy(&output).into_owned(),
        took: begun.elapsed(),
    })
}

fn wait(child: &mut Child, end: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}
