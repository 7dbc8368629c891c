//! A migration as people and scripts see it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{self, BAD, FAINT, GOOD, STRONG, styled};
use crate::proto::v1::{GetMigrationStatusResponse, MigrationProgress};

/// All of it for scripts.
pub fn to_json(migration: &GetMigrationStatusResponse) -> Value {
    let progress = migration.progress.unwrap_or_default();
    let known = |seconds: i64| (seconds != 0).then_some(seconds);
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "migration_id": migration.migration_id,
        "type": migration.r#type,
        "node": said(&migration.node_id),
        "changes": migration.changes,
        "status": migration.status,
        "cancelling": migration.cancelling,
        "progress": {
            "percentage": progress.percentage,
            "keys_migrated": progress.keys_migrated,
            "total_keys": progress.total_keys,
            "keys_per_second": progress.keys_per_second,
            "bytes": progress.bytes,
            "partitions": progress.partitions,
            "partitions_done": progress.partitions_done,
            "partitions_waiting": progress.partitions_waiting,
            "partitions_copying": progress.partitions_copying,
            "partitions_handing_over": progress.partitions_handing_over,
            "partitions_moved": progress.partitions_moved,
        },
        "created_at": migration.created_at,
        "started_at": known(migration.started_at),
        "estimated_completion": known(migration.estimated_completion),
        "ended_at": known(migration.ended_at),
        "waits_for": said(&migration.waits_for),
        "bytes_per_second_max": migration.bytes_per_second_max,
        "error": said(&migration.error_message),
    })
}

/// Whether it is over.
pub fn is_over(migration: &GetMigrationStatusResponse) -> bool {
    matches!(
        migration.status.as_str(),
        "completed" | "failed" | "cancelled"
    )
}

/// Its status, in one or two words.
pub fn status(migration: &GetMigrationStatusResponse) -> String {
    match migration.status.as_str() {
        _ if migration.cancelling => "cancelling".to_owned(),
        "in_progress" => "in progress".to_owned(),
        status => status.to_owned(),
    }
}

/// How far it has come, how fast it is, and how long it will take.
pub fn progress(migration: &GetMigrationStatusResponse) -> String {
    let progress = migration.progress.unwrap_or_default();
    if migration.started_at == 0 {
        return "it has not begun".to_owned();
    }
    let mut parts = vec![
        format!(
            "{} of {} partitions",
            progress.partitions_done, progress.partitions
        ),
        match progress.total_keys {
            0 => format!("{} keys", progress.keys_migrated),
            total => format!("{} of about {total} keys", progress.keys_migrated),
        },
        BinaryBytes(progress.bytes).to_string(),
    ];
    if progress.keys_per_second > 0 {
        parts.push(format!("{} keys/s", progress.keys_per_second));
    }
    if let Some(left) = seconds_left(migration) {
        parts.push(format!("about {} left", in_words(left)));
    }
    parts.join(", ")
}

/// The parts of it that tell what its partitions do now.
fn states(progress: &MigrationProgress) -> String {
    format!(
        "{} waiting, {} copying, {} handing over, {} giving up old copies, {} done",
        progress.partitions_waiting,
        progress.partitions_copying,
        progress.partitions_handing_over,
        progress.partitions_moved,
        progress.partitions_done,
    )
}

fn seconds_left(migration: &GetMigrationStatusResponse) -> Option<u64> {
    let at = migration.estimated_completion;
    let is_known = at != 0 && !is_over(migration);
    let left = is_known.then(|| u64::try_from(at - unix_seconds()));
    left.map(Result::unwrap_or_default)
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// "3m 20s".
pub fn in_words(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// A moment as people read it.
fn moment(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// All of it for people.
pub fn details(migration: &GetMigrationStatusResponse) -> Result<(), Failure> {
    let word = status(migration);
    let word = match migration.status.as_str() {
        "completed" => styled(GOOD, word),
        "failed" => styled(BAD, word),
        _ => styled(STRONG, word),
    };
    output::line(&format!("{}: {word}", migration.migration_id))?;
    for change in &migration.changes {
        output::line(&format!("  {change}"))?;
    }
    let all = migration.progress.unwrap_or_default();
    let percent = all.percentage;
    output::line(&format!(
        "progress: {percent:.0} %, {}",
        progress(migration)
    ))?;
    if migration.status == "in_progress" {
        output::line(&format!("partitions: {}", states(&all)))?;
    }
    match migration.bytes_per_second_max {
        None => {}
        Some(0) => output::line("pace: it rests")?,
        Some(bytes) => output::line(&format!("pace: at most {} a second", BinaryBytes(bytes)))?,
    }
    if !migration.waits_for.is_empty() {
        output::line(&format!("waits for: {}", migration.waits_for))?;
    }
    if !migration.error_message.is_empty() {
        output::line(&format!("failed: {}", migration.error_message))?;
    }
    let times = [
        ("asked for", migration.created_at),
        ("begun", migration.started_at),
        ("ended", migration.ended_at),
    ];
    let times = times.iter().filter(|(_, seconds)| *seconds != 0);
    let times: Vec<String> = times
        .map(|(what, seconds)| format!("{what} {}", moment(*seconds)))
        .collect();
    output::line(&styled(FAINT, times.join(", ")))
}

/// Several for people, a line for each.
pub fn table(migrations: &[GetMigrationStatusResponse]) -> Result<(), Failure> {
    let ids = migrations
        .iter()
        .map(|migration| migration.migration_id.len());
    let width = ids.max().unwrap_or(0).max("MIGRATION".len());
    let head = format!(
        "{:width$}  {:11}  {:>5}  WHAT",
        "MIGRATION", "STATUS", "DONE"
    );
    output::line(&styled(STRONG, head))?;
    for migration in migrations {
        let percent = migration.progress.unwrap_or_default().percentage;
        output::line(&format!(
            "{:width$}  {:11}  {percent:>4.0}%  {}",
            migration.migration_id,
            status(migration),
            migration.changes.join("; ")
        ))?;
        if !migration.waits_for.is_empty() {
            let why = format!("{:width$}  waits for: {}", "", migration.waits_for);
            output::line(&styled(FAINT, why))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration() -> GetMigrationStatusResponse {
        GetMigrationStatusResponse {
            migration_id: "m-1".into(),
            status: "in_progress".into(),
            started_at: 1,
            progress: Some(MigrationProgress {
                keys_migrated: 120,
                total_keys: 300,
                percentage: 40.0,
                partitions: 10,
                partitions_done: 4,
                partitions_copying: 6,
                bytes: 3 * 1024 * 1024,
                keys_per_second: 12,
                ..MigrationProgress::default()
            }),
            ..GetMigrationStatusResponse::default()
        }
    }

    #[test]
    fn progress_tells_what_is_known_and_nothing_else() {
        assert_eq!(
            progress(&migration()),
            "4 of 10 partitions, 120 of about 300 keys, 3.00 MiB, 12 keys/s"
        );
        let estimated = GetMigrationStatusResponse {
            estimated_completion: 1,
            ..migration()
        };
        assert!(progress(&estimated).ends_with("about 0s left"));
        let over = GetMigrationStatusResponse {
            status: "completed".into(),
            ..estimated
        };
        assert!(progress(&over).ends_with("12 keys/s"), "nothing is left");
        let pending = GetMigrationStatusResponse {
            started_at: 0,
            ..migration()
        };
        assert_eq!(progress(&pending), "it has not begun");
    }

    #[test]
    fn scripts_see_what_is_unknown_as_null() {
        let shown = to_json(&migration());
        for name in [
            "node",
            "estimated_completion",
            "ended_at",
            "waits_for",
            "error",
        ] {
            assert_eq!(shown[name], Value::Null, "{name}");
        }
        assert_eq!(shown["progress"]["partitions_done"], 4);
        assert_eq!(shown["bytes_per_second_max"], Value::Null, "no limit");
        let resting = GetMigrationStatusResponse {
            bytes_per_second_max: Some(0),
            ..migration()
        };
        assert_eq!(to_json(&resting)["bytes_per_second_max"], 0);
    }
}
