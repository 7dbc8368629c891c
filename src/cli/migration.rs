//! `pairdb migration`: changes of owners that were asked for.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Client, ClientArgs, Effect, failure};
use super::exit::Failure;
use super::migration_view::{self, details, is_over};
use super::migration_watch::{WaitArgs, Wanted, look, watch};
use super::output;
use crate::proto::v1::{
    CancelMigrationRequest, GetMigrationStatusResponse, ListMigrationsRequest, PaceMigrationRequest,
};

/// What `migration --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb migration list
  pairdb migration watch m-5d1f08a2c3b4e697
  pairdb migration pace m-5d1f08a2c3b4e697 20MiB    # at most so much in a second
  pairdb migration cancel m-5d1f08a2c3b4e697 --wait

A migration moves data because nodes or a replication factor change. It runs in the background, one
at a time; others wait for their turn. `pairdb node` and `pairdb tenant set-replication` ask for one.";

const WATCH_EXAMPLES: &str = "\
Example:
  pairdb migration watch m-5d1f08a2c3b4e697 --wait-max 2h

Without a name it watches the one under way. Exits with 0 when it is completed, with 1 when it
failed or was cancelled, and with 5 when it is not over after --wait-max. It goes on without whoever
watches.";

/// What to do with migrations.
#[derive(Subcommand, Debug)]
pub enum MigrationCommand {
    /// List the migrations, those asked for last first
    #[command(after_help = "Example:\n  pairdb migration list --limit 100 --json")]
    List(List),
    /// Show how far a migration has come, and what it waits for
    #[command(after_help = "Example:\n  pairdb migration show m-5d1f08a2c3b4e697")]
    Show(Show),
    /// Watch a migration until it is over
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(Watch),
    /// Cancel a migration: what has moved is moved back
    #[command(after_help = "Example:\n  pairdb migration cancel m-5d1f08a2c3b4e697 --wait")]
    Cancel(Cancel),
    /// Say how many bytes a migration may move in a second
    #[command(
        after_help = "Examples:\n  pairdb migration pace m-5d1f08a2c3b4e697 20MiB\n  \
                      pairdb migration pace m-5d1f08a2c3b4e697 0            # it rests\n  \
                      pairdb migration pace m-5d1f08a2c3b4e697 unlimited"
    )]
    Pace(Pace),
}

/// The arguments of `migration list`.
#[derive(Args, Debug)]
pub struct List {
    /// How many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    limit: u32,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `migration show`.
#[derive(Args, Debug)]
pub struct Show {
    /// The migration's name
    migration: String,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `migration watch`.
#[derive(Args, Debug)]
pub struct Watch {
    /// The migration's name [default: the one that was asked for first and is not over]
    migration: Option<String>,
    /// For how long
    #[command(flatten)]
    patience: WaitArgs,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `migration cancel`.
#[derive(Args, Debug)]
pub struct Cancel {
    /// The migration's name
    migration: String,
    /// Return when everything is as it was before
    #[arg(long)]
    wait: bool,
    /// For how long
    #[command(flatten)]
    patience: WaitArgs,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// The arguments of `migration pace`.
#[derive(Args, Debug)]
pub struct Pace {
    /// The migration's name
    migration: String,
    /// Bytes a second, such as 500KiB or 20MiB; 0: it rests; 'unlimited': as many as storage nodes let pass
    #[arg(value_parser = pace)]
    pace: Bytes,
    /// Where and how
    #[command(flatten)]
    client: ClientArgs,
}

/// Bytes a second; `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bytes(Option<u64>);

fn pace(text: &str) -> Result<Bytes, String> {
    if text == "unlimited" {
        return Ok(Bytes(None));
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => 0,
    };
    let number: Option<u64> = digits.trim_end().parse().ok();
    let bytes = number.filter(|_| factor > 0);
    let bytes = bytes.and_then(|number| number.checked_mul(factor));
    let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
    let bytes = bytes.ok_or("not a number of bytes, such as 500KiB or 20MiB, or 'unlimited'")?;
    Ok(Bytes(Some(bytes)))
}

impl MigrationCommand {
    /// Where and how.
    pub const fn client(&self) -> &ClientArgs {
        match self {
            Self::List(list) => &list.client,
            Self::Show(show) => &show.client,
            Self::Watch(watch) => &watch.client,
            Self::Cancel(cancel) => &cancel.client,
            Self::Pace(pace) => &pace.client,
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let args = self.client().clone();
        let mut client = args.connect().await?;
        match self {
            Self::List(list) => list.run(&mut client).await,
            Self::Show(show) => {
                let found = look(&args, &mut client, &show.migration).await?;
                print(&args, &found)
            }
            Self::Watch(watch) => watch.run(&mut client).await,
            Self::Cancel(cancel) => cancel.run(&mut client).await,
            Self::Pace(pace) => pace.run(&mut client).await,
        }
    }
}

/// Asks for migrations, those asked for last first.
pub async fn migrations(
    args: &ClientArgs,
    client: &mut Client,
    limit: u32,
) -> Result<Vec<GetMigrationStatusResponse>, Failure> {
    let listed = client.list_migrations(args.request(ListMigrationsRequest { limit }));
    let listed = listed.await;
    let listed = listed.map_err(|status| failure(&status, Effect::Reads))?;
    Ok(listed.into_inner().migrations)
}

fn print(args: &ClientArgs, migration: &GetMigrationStatusResponse) -> Result<(), Failure> {
    match args.json {
        true => output::json(&migration_view::to_json(migration)),
        false => details(migration),
    }
}

impl List {
    async fn run(self, client: &mut Client) -> Result<(), Failure> {
        let found = migrations(&self.client, client, self.limit).await?;
        if self.client.json {
            let found: Vec<_> = found.iter().map(migration_view::to_json).collect();
            return output::json(&json!({ "migrations": found }));
        }
        match found.is_empty() {
            true => output::line("no migrations"),
            false => migration_view::table(&found),
        }
    }
}

impl Watch {
    async fn run(self, client: &mut Client) -> Result<(), Failure> {
        let args = &self.client;
        let id = match self.migration {
            Some(id) => id,
            None => {
                let found = migrations(args, client, 0).await?;
                let open = found.into_iter().rev().find(|found| !is_over(found));
                let Some(open) = open else {
                    return args.print(
                        || json!({ "migration_id": null }),
                        || "no migration is under way".to_owned(),
                    );
                };
                open.migration_id
            }
        };
        let over = watch(args, client, &id, &self.patience, Wanted::Completed).await?;
        print(args, &over)
    }
}

impl Cancel {
    async fn run(self, client: &mut Client) -> Result<(), Failure> {
        let args = &self.client;
        let migration_id = self.migration.clone();
        let cancel = client.cancel_migration(args.request(CancelMigrationRequest { migration_id }));
        let cancelled = cancel.await;
        let cancelled = cancelled.map_err(|status| failure(&status, Effect::Writes))?;
        let cancelled = cancelled.into_inner();
        if !self.wait || is_over(&cancelled) {
            return print(args, &cancelled);
        }
        let wanted = Wanted::Cancelled;
        let over = watch(args, client, &self.migration, &self.patience, wanted).await?;
        print(args, &over)
    }
}

impl Pace {
    async fn run(self, client: &mut Client) -> Result<(), Failure> {
        let Bytes(bytes_per_second_max) = self.pace;
        let pace = client.pace_migration(self.client.request(PaceMigrationRequest {
            migration_id: self.migration,
            bytes_per_second_max,
        }));
        let paced = pace.await;
        let paced = paced.map_err(|status| failure(&status, Effect::Writes))?;
        print(&self.client, &paced.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_bytes_a_second_or_none() {
        for (text, bytes) in [
            ("unlimited", None),
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("500KiB", Some(500 << 10)),
            ("20 MiB", Some(20 << 20)),
            ("1g", Some(1 << 30)),
        ] {
            assert_eq!(pace(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "fast",
            "-1",
            "20MB",
            "9223372036854775808",
            "99999999999g",
        ] {
            assert!(pace(text).is_err(), "{text}");
        }
    }
}
