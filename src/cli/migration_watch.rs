//! Watching a migration until it is over.
//!
//! On a terminal a bar moves; elsewhere there is a line whenever something has changed. A coordinator that does not
//! answer for a while ends nothing: the migration goes on without whoever watches.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use tokio::time::{Instant, sleep};

use super::bounds::patience;
use super::client::{Client, ClientArgs, Effect, failure};
use super::exit::{Exit, Failure};
use super::migration_view::{is_over, progress, status};
use super::output;
use crate::proto::v1::{GetMigrationStatusRequest, GetMigrationStatusResponse};

/// Between two looks.
const POLL: Duration = Duration::from_millis(500);
/// Between two lines where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// How long a command waits for a migration.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// Give up waiting after so long; the migration goes on
    #[arg(long, value_parser = patience, value_name = "DURATION")]
    pub wait_max: Option<Duration>,
}

/// What a migration is to end with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// With everything moved.
    Completed,
    /// With everything as it was.
    Cancelled,
}

/// Asks how far a migration has come.
pub async fn look(
    args: &ClientArgs,
    client: &mut Client,
    id: &str,
) -> Result<GetMigrationStatusResponse, Failure> {
    let request = GetMigrationStatusRequest {
        migration_id: id.to_owned(),
    };
    let found = client.get_migration_status(args.request(request)).await;
    let found = found.map_err(|status| failure(&status, Effect::Reads))?;
    Ok(found.into_inner())
}

/// Waits until a migration is over.
pub async fn watch(
    args: &ClientArgs,
    client: &mut Client,
    id: &str,
    wait: &WaitArgs,
    wanted: Wanted,
) -> Result<GetMigrationStatusResponse, Failure> {
    let give_up = wait.wait_max.map(|most| Instant::now() + most);
    let mut shown = Shown::new(args.json);
    let mut last = None;
    loop {
        match look(args, client, id).await {
            Ok(migration) => {
                shown.show(&migration)?;
                if is_over(&migration) {
                    shown.end();
                    return ended(migration, wanted);
                }
                last = Some(migration);
            }
            // It goes on without the coordinator that was asked.
            Err(failure) if failure.exit == Exit::Unavailable => shown.silent(&failure),
            Err(failure) => {
                shown.end();
                return Err(failure);
            }
        }
        if give_up.is_some_and(|give_up| Instant::now() >= give_up) {
            shown.end();
            return Err(too_late(id, last.as_ref()));
        }
        sleep(POLL).await;
    }
}

/// What the end of a migration is to a command.
fn ended(
    migration: GetMigrationStatusResponse,
    wanted: Wanted,
) -> Result<GetMigrationStatusResponse, Failure> {
    let id = &migration.migration_id;
    let (code, message) = match (migration.status.as_str(), wanted) {
        ("completed", Wanted::Completed) | ("cancelled", Wanted::Cancelled) => {
            return Ok(migration);
        }
        ("cancelled", _) => (
            "MIGRATION_CANCELLED",
            format!("{id} was cancelled; everything is as it was before"),
        ),
        ("completed", _) => (
            "MIGRATION_COMPLETED",
            format!("{id} was completed before it could be cancelled"),
        ),
        _ => (
            "MIGRATION_FAILED",
            format!("{id} failed: {}", migration.error_message),
        ),
    };
    Err(Failure::new(Exit::Failure, code, message))
}

fn too_late(id: &str, last: Option<&GetMigrationStatusResponse>) -> Failure {
    let why = match last {
        None => "the coordinator did not say how far it has come".to_owned(),
        Some(last) if last.waits_for.is_empty() => progress(last),
        Some(last) => format!("it waits for {}", last.waits_for),
    };
    Failure::new(
        Exit::Unavailable,
        "TIMEOUT",
        format!("{id} is not over yet, and goes on: {why}"),
    )
    .hint(format!("`pairdb migration watch {id}` waits for it again"))
}

/// What was shown last.
struct Shown {
    bar: ProgressBar,
    /// Lines instead of the bar.
    as_lines: bool,
    line: String,
    since: Option<Instant>,
    is_silent: bool,
}

impl Shown {
    fn new(is_json: bool) -> Self {
        let bar = output::progress("{prefix} [{bar:30}] {percent}%  {wide_msg}");
        bar.set_length(100);
        Self {
            bar,
            as_lines: !is_json && !std::io::stderr().is_terminal(),
            line: String::new(),
            since: None,
            is_silent: false,
        }
    }

    fn show(&mut self, migration: &GetMigrationStatusResponse) -> Result<(), Failure> {
        self.is_silent = false;
        let percentage = migration.progress.unwrap_or_default().percentage;
        let mut text = format!("{}: {}", status(migration), progress(migration));
        if !migration.waits_for.is_empty() {
            text += &format!("; waits for: {}", migration.waits_for);
        }
        self.bar.set_prefix(migration.migration_id.clone());
        self.bar.set_position(percentage as u64);
        self.bar.set_message(text.clone());
        let is_due = self.since.is_none_or(|since| since.elapsed() >= LINE_PAUSE);
        if !self.as_lines || text == self.line || !(is_due || is_over(migration)) {
            return Ok(());
        }
        output::line(&format!(
            "{} {percentage:.0} % {text}",
            migration.migration_id
        ))?;
        self.line = text;
        self.since = Some(Instant::now());
        Ok(())
    }

    fn silent(&mut self, failure: &Failure) {
        self.bar.set_message(failure.message.clone());
        if self.as_lines && !self.is_silent {
            output::note(&format!("still trying: {failure}"));
        }
        self.is_silent = true;
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_that_was_wanted_is_success() {
        let over = |status: &str| GetMigrationStatusResponse {
            migration_id: "m-1".into(),
            status: status.into(),
            error_message: "no node would be left".into(),
            ..GetMigrationStatusResponse::default()
        };
        let (completed, cancelled) = (Wanted::Completed, Wanted::Cancelled);
        assert!(ended(over("completed"), completed).is_ok());
        assert!(ended(over("cancelled"), cancelled).is_ok());
        for (status, wanted, code) in [
            ("cancelled", completed, "MIGRATION_CANCELLED"),
            ("completed", cancelled, "MIGRATION_COMPLETED"),
            ("failed", completed, "MIGRATION_FAILED"),
            ("failed", cancelled, "MIGRATION_FAILED"),
        ] {
            let failure = ended(over(status), wanted).unwrap_err();
            assert_eq!((failure.exit, &*failure.code), (Exit::Failure, code));
        }
    }

    #[test]
    fn who_gives_up_waiting_is_told_what_it_waits_for() {
        let waiting = GetMigrationStatusResponse {
            waits_for: "n3 to answer; start it".into(),
            ..GetMigrationStatusResponse::default()
        };
        let failure = too_late("m-1", Some(&waiting));
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(
            failure
                .message
                .ends_with("it waits for n3 to answer; start it")
        );
        assert!(too_late("m-1", None).message.contains("did not say"));
    }
}
