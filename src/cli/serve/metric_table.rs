//! Every metric there is, in one place: its name, what it says, and its labels. `deploy/metrics.md` is made from it,
//! and so is what Prometheus is told.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// A metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// What a metric does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// It counts.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It has buckets of durations in seconds, and `_sum` and `_count`.
    Histogram,
    /// It has quantiles, `_sum` and `_count`.
    Summary,
}

use MetricKind::{Counter, Gauge, Histogram, Summary};

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

/// All of them, in the order of their names.
pub const METRICS: &[Metric] = &[
    metric(
        "coordinator_anti_entropy_bytes_total",
        Counter,
        &[],
        "Bytes of keys, hashes and records that owners exchanged when they were compared",
    ),
    metric(
        "coordinator_anti_entropy_leads",
        Gauge,
        &[],
        "1 where this coordinator leads the comparing of owners",
    ),
    metric(
        "coordinator_anti_entropy_records_total",
        Counter,
        &[],
        "Records that owners exchanged when they were compared",
    ),
    metric(
        "coordinator_anti_entropy_round_age_seconds",
        Gauge,
        &[],
        "How long ago all owners of everything were last compared",
    ),
    metric(
        "coordinator_anti_entropy_rounds_total",
        Counter,
        &[],
        "Rounds in which all owners of everything were compared",
    ),
    metric(
        "coordinator_cache_hits_total",
        Counter,
        &[],
        "Requests whose tenant was cached",
    ),
    metric(
        "coordinator_cache_misses_total",
        Counter,
        &[],
        "Requests whose tenant was not cached",
    ),
    metric(
        "coordinator_clock_skew_seconds",
        Gauge,
        &[],
        "How far the coordinator's wall clock is ahead of the storage nodes' median",
    ),
    metric(
        "coordinator_conflicts_total",
        Counter,
        &[],
        "Reads that found several concurrent values",
    ),
    metric(
        "coordinator_crowded_keys_total",
        Counter,
        &[],
        "Reads and writes of keys with as many unresolved siblings as their tenant is warned of",
    ),
    metric("coordinator_epoch", Gauge, &[], "The topology in use"),
    metric(
        "coordinator_hints_oldest_age_seconds",
        Gauge,
        &["target"],
        "How long the oldest of what a node is owed has been owed",
    ),
    metric(
        "coordinator_hints_outstanding",
        Gauge,
        &["target"],
        "Keys that other nodes owe a node",
    ),
    metric(
        "coordinator_metadata_store_up",
        Gauge,
        &[],
        "1 while the metadata store answers and takes changes",
    ),
    metric(
        "coordinator_migration_bytes_total",
        Counter,
        &[],
        "Bytes of keys, hashes and records that changes of owners moved",
    ),
    metric(
        "coordinator_migration_keys_total",
        Counter,
        &[],
        "Records that changes of owners copied to an owner that lacked them",
    ),
    metric(
        "coordinator_migration_leads",
        Gauge,
        &[],
        "1 where this coordinator leads changes of owners",
    ),
    metric(
        "coordinator_migration_partitions",
        Gauge,
        &["state"],
        "Partitions of the change of owners under way, where it is led: waiting, copying, handing_over, moved",
    ),
    metric(
        "coordinator_migration_partitions_at_once",
        Gauge,
        &[],
        "How many partitions a change of owners may work on at the same time, where it is led: few while requests wait",
    ),
    metric(
        "coordinator_migration_stalled_seconds",
        Gauge,
        &[],
        "How long there have been changes of owners and none has moved anything, where they are led",
    ),
    metric(
        "coordinator_migrations",
        Gauge,
        &["status"],
        "Changes of owners that are not over, as this coordinator knows: pending, in_progress",
    ),
    metric(
        "coordinator_node_clock_offset_seconds",
        Gauge,
        &["node"],
        "How far a storage node's wall clock is ahead of the coordinator's",
    ),
    metric(
        "coordinator_node_disk_used_percent",
        Gauge,
        &["node"],
        "How full a storage node's disk is",
    ),
    metric(
        "coordinator_node_epoch",
        Gauge,
        &["node"],
        "The newest topology a storage node knows",
    ),
    metric(
        "coordinator_node_keys",
        Gauge,
        &["node"],
        "About how many keys a storage node holds",
    ),
    metric(
        "coordinator_node_out_of_step",
        Gauge,
        &["node"],
        "1 while a storage node counts as missing, because it refuses everything for an epoch that the metadata store does not have",
    ),
    metric(
        "coordinator_node_refuses_writes",
        Gauge,
        &["node"],
        "1 while a storage node refuses writes",
    ),
    metric(
        "coordinator_node_up",
        Gauge,
        &["node"],
        "1 while a storage node answers",
    ),
    metric(
        "coordinator_quorum_failures_total",
        Counter,
        &["method"],
        "Requests that too few replicas answered",
    ),
    metric(
        "coordinator_ready",
        Gauge,
        &[],
        "1 while the coordinator takes requests",
    ),
    metric(
        "coordinator_repair_queue_size",
        Gauge,
        &[],
        "Keys that wait to be repaired",
    ),
    metric(
        "coordinator_repairs_before_answer_total",
        Counter,
        &[],
        "Reads that had to repair before they answered",
    ),
    metric(
        "coordinator_repairs_dropped_total",
        Counter,
        &[],
        "Repairs that found no place in the queue or were given up",
    ),
    metric(
        "coordinator_repairs_total",
        Counter,
        &[],
        "Keys that were repaired in the background",
    ),
    metric(
        "coordinator_replica_reads_total",
        Counter,
        &[],
        "Reads asked of storage nodes",
    ),
    metric(
        "coordinator_replica_writes_total",
        Counter,
        &[],
        "Stamps and joins asked of storage nodes",
    ),
    metric(
        "coordinator_request_duration_seconds",
        Histogram,
        &["front", "method"],
        "How long requests took",
    ),
    metric(
        "coordinator_request_errors_total",
        Counter,
        &["front", "method", "code"],
        "Requests that failed, by error code; ABANDONED: the client hung up first; DEADLINE_EXCEEDED: it had no answer in its time",
    ),
    metric(
        "coordinator_requests_in_flight",
        Gauge,
        &[],
        "Requests at work",
    ),
    metric(
        "coordinator_requests_refused_total",
        Counter,
        &["code"],
        "Requests refused for want of a valid token or of the right to what they ask for",
    ),
    metric(
        "coordinator_requests_total",
        Counter,
        &["front", "method"],
        "Requests that are over, failures and those whose client hung up included",
    ),
    metric(
        "coordinator_storage_node_refilling",
        Gauge,
        &["node"],
        "1 while a storage node that lost its memory gets everything back",
    ),
    metric(
        "coordinator_storage_nodes",
        Gauge,
        &[],
        "Storage nodes of the topology",
    ),
    metric(
        "coordinator_storage_nodes_active",
        Gauge,
        &[],
        "Storage nodes that do what they are asked",
    ),
    metric(
        "coordinator_tenants_short_of_nodes",
        Gauge,
        &[],
        "Tenants in use here whose keys have fewer replicas than their replication factor says, because there are fewer storage nodes",
    ),
    metric(
        "coordinator_tombstones_purged_total",
        Counter,
        &[],
        "Tombstones that all owners held and removed",
    ),
    metric(
        "coordinator_tombstones_waiting",
        Gauge,
        &["node"],
        "About how many tombstones wait to be purged",
    ),
    metric(
        "coordinator_trees",
        Gauge,
        &["state"],
        "Partitions of tenants by what the last comparing of their owners found: equal, divergent, unknown",
    ),
    metric(
        "listener_connections",
        Gauge,
        &["listener"],
        "Connections that a listener has: grpc, http, storage, metrics",
    ),
    metric(
        "listener_connections_ended_total",
        Counter,
        &["listener", "cause"],
        "Connections that a listener ended: gave_way to another, silent, idle, reply_not_taken, answered on a spare place",
    ),
    metric(
        "listener_connections_refused_total",
        Counter,
        &["listener"],
        "Connections that there was no place for: all that there may be were at work",
    ),
    metric(
        "message_bytes",
        Gauge,
        &["share"],
        "Bytes of messages that the process holds: front, brought by clients; inner, all others",
    ),
    metric(
        "message_bytes_max",
        Gauge,
        &[],
        "How many bytes of messages the process may hold",
    ),
    metric(
        "message_bytes_refused_total",
        Counter,
        &[],
        "Messages that there was no room for, or that gave way to others",
    ),
    metric(
        "process_panics_total",
        Counter,
        &[],
        "Panics, each of them a bug: the log says where. One in a request fails that request alone, one in what the process can't go on without ends it",
    ),
    metric(
        "storage_commit_duration_seconds",
        Histogram,
        &[],
        "How long commits of a storage node took, the disk's sync included",
    ),
    metric(
        "storage_commit_merged",
        Summary,
        &[],
        "How many batches one commit held",
    ),
    metric(
        "storage_stalls_total",
        Counter,
        &[],
        "Commits that waited for the engine to catch up",
    ),
    metric(
        "tls_certificate_expires_timestamp_seconds",
        Gauge,
        &["section"],
        "When the certificate in use ends, in seconds since 1970",
    ),
    metric(
        "tls_files_broken",
        Gauge,
        &["section"],
        "1 while files of certificates can't be used and those read before stay in use",
    ),
    metric(
        "tls_handshakes_refused_total",
        Counter,
        &["cause"],
        "Connections that were not let in: plaintext, no_certificate, bad_certificate, refused_by_client, hung_up, too_slow, failed",
    ),
    metric(
        "tls_reloads_total",
        Counter,
        &["section", "outcome"],
        "Changes of files of certificates: used, or refused because they can't be",
    ),
];

/// Tells the recorder of all of them; counters without labels begin at zero, so that the first event is an increase.
pub(super) fn describe() {
    for metric in METRICS {
        let Metric {
            name,
            kind,
            labels,
            help,
        } = *metric;
        match kind {
            Counter => {
                describe_counter!(name, help);
                if labels.is_empty() {
                    counter!(name).absolute(0);
                }
            }
            Gauge => describe_gauge!(name, help),
            Histogram => describe_histogram!(name, Unit::Seconds, help),
            Summary => describe_histogram!(name, help),
        }
    }
}

/// The table of `deploy/metrics.md`.
#[must_use]
pub fn table() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade from `src/cli/serve/metric_table.rs`; a test keeps the two equal. Coordinators serve what begins with\n\
         `coordinator_` at `metrics.port`, storage nodes what begins with `storage_` at `storage.metrics`, and both what begins\n\
         with `listener_`, `message_`, `process_` or `tls_`.\n\n\
         | name | kind | labels | what it says |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = metric.labels.join(", ");
        text += &format!(
            "| `{}` | {kind} | {labels} | {} |\n",
            metric.name, metric.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_table_in_deploy_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/metrics.md");
        if std::env::var_os("PAIRDB_WRITE_METRICS").is_some() {
            std::fs::write(path, table()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == table(),
            "run this test with PAIRDB_WRITE_METRICS=1"
        );
        assert!(METRICS.is_sorted_by_key(|metric| metric.name));
    }

    /// All names that the code counts, sets or records.
    #[test]
    fn what_the_code_measures_is_in_the_table_and_the_other_way_round() {
        let mut used = BTreeSet::new();
        collect(
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut used,
        );
        let known: BTreeSet<String> = METRICS
            .iter()
            .map(|metric| metric.name.to_owned())
            .collect();
        assert_eq!(used, known);
    }

    fn collect(folder: &Path, used: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, used);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for call in [
                    concat!("counter", "!("),
                    concat!("gauge", "!("),
                    concat!("histogram", "!("),
                ] {
                    let names = text.split(call).skip(1).map(str::trim_start);
                    let names = names.filter_map(|rest| rest.strip_prefix('"')?.split('"').next());
                    used.extend(names.map(str::to_owned));
                }
            }
        }
    }
}
