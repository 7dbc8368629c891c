//! How far each number and each duration may go: the one place for all of them.
//!
//! A bound is not advice. Below it nothing would be served, or what is configured would not be kept (a claim that is
//! kept for no time is none); above it a counter, a timer or the memory of any machine would be exceeded. What two
//! settings must be to each other is checked where they are.

use std::time::Duration;

use serde_json::Value;

use super::durations;
use crate::replica::ReplicaSettings;

/// From the least to the greatest, both included.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Range {
    Whole(u64, u64),
    Share,
    Time(Duration, Duration),
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MILLION: u64 = 1_000_000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// As durations are written: 365.25 days.
const YEAR: Duration = Duration::from_secs(31_557_600);

/// By key.
const RANGES: &[(&str, Range)] = &[
    ("auth.jwt_leeway", Range::Time(Duration::ZERO, HOUR)),
    ("auth.key_outage_max", Range::Time(Duration::ZERO, YEAR)),
    ("auth.key_ttl", Range::Time(ms(1), DAY)),
    ("auth.keys_max", Range::Whole(1, 10 * MILLION)),
    ("coordinator.anti_entropy_lease", Range::Time(SECOND, HOUR)),
    ("coordinator.anti_entropy_pause", Range::Time(ms(10), YEAR)),
    ("coordinator.anti_entropy_period", Range::Time(ms(10), YEAR)),
    ("coordinator.claim_lease", Range::Time(ms(10), HOUR)),
    ("coordinator.clock_ahead_max", Range::Time(ms(1), DAY)),
    (
        "coordinator.hedge_delay_min",
        Range::Time(Duration::ZERO, MINUTE),
    ),
    (
        "coordinator.idempotency_retention",
        Range::Time(MINUTE, YEAR),
    ),
    ("coordinator.in_flight_max", Range::Whole(1, MILLION)),
    ("coordinator.probe_interval", Range::Time(ms(10), MINUTE)),
    ("coordinator.read_timeout", Range::Time(ms(1), HOUR)),
    (
        "coordinator.repair_queue_max",
        Range::Whole(1, 10 * MILLION),
    ),
    ("coordinator.stamp_patience_min", Range::Time(ms(1), MINUTE)),
    (
        "coordinator.tenant_entries_max",
        Range::Whole(1, 10 * MILLION),
    ),
    ("coordinator.tenant_ttl", Range::Time(ms(1), DAY)),
    ("coordinator.topology_refresh", Range::Time(ms(10), DAY)),
    ("coordinator.value_bytes_max", Range::Whole(1, 32 * MIB)),
    ("coordinator.write_timeout", Range::Time(ms(1), HOUR)),
    ("database.call_timeout", Range::Time(ms(10), HOUR)),
    ("database.connection_lifetime", Range::Time(SECOND, YEAR)),
    // One of them hears of changes.
    ("database.connections_max", Range::Whole(2, 10_000)),
    ("database.connections_min", Range::Whole(0, 10_000)),
    ("grpc.body_timeout", Range::Time(ms(10), HOUR)),
    ("grpc.connections_max", Range::Whole(1, MILLION)),
    ("grpc.connections_per_peer_max", Range::Whole(1, MILLION)),
    ("grpc.first_request_timeout", Range::Time(ms(10), HOUR)),
    ("grpc.idle_timeout", Range::Time(ms(10), DAY)),
    ("grpc.keepalive", Range::Time(ms(100), DAY)),
    ("grpc.message_bytes_max", Range::Whole(KIB, 256 * MIB)),
    ("grpc.reply_timeout", Range::Time(ms(10), HOUR)),
    ("grpc.requests_per_connection_max", Range::Whole(1, MILLION)),
    ("http.body_bytes_max", Range::Whole(KIB, 256 * MIB)),
    ("http.body_timeout", Range::Time(ms(10), HOUR)),
    ("http.connections_max", Range::Whole(1, MILLION)),
    ("http.connections_per_peer_max", Range::Whole(1, MILLION)),
    ("http.header_timeout", Range::Time(ms(10), HOUR)),
    ("http.reply_timeout", Range::Time(ms(10), HOUR)),
    ("join.virtual_nodes", Range::Whole(1, 4096)),
    // 0 is unlimited.
    (
        "limits.bytes_per_second",
        Range::Whole(0, BYTES_PER_SECOND_MAX),
    ),
    (
        "limits.reads_per_second",
        Range::Whole(0, REQUESTS_PER_SECOND_MAX),
    ),
    ("limits.tenants_max", Range::Whole(1, 10 * MILLION)),
    (
        "limits.writes_per_second",
        Range::Whole(0, REQUESTS_PER_SECOND_MAX),
    ),
    // 0 takes a free one.
    ("metrics.port", Range::Whole(0, PORT_MAX)),
    ("redis.call_timeout", Range::Time(ms(10), MINUTE)),
    ("replica.batch_bytes_max", Range::Whole(KIB, GIB)),
    ("replica.batch_max", Range::Whole(1, MILLION)),
    (
        "replica.counter_reservation",
        Range::Whole(1, 1000 * MILLION),
    ),
    ("replica.hint_pause_max", Range::Time(ms(1), DAY)),
    ("replica.hint_pause_min", Range::Time(ms(1), DAY)),
    // Room for a large write.
    ("replica.queue_bytes_max", Range::Whole(MIB, 1024 * GIB)),
    ("replica.queue_max", Range::Whole(1, 10 * MILLION)),
    ("replica.recent_writes_max", Range::Whole(1, 100 * MILLION)),
    (
        "replica.siblings_bytes_max",
        Range::Whole(1, ReplicaSettings::SIBLINGS_BYTES_HIGHEST as u64),
    ),
    ("replica.siblings_max", Range::Whole(1, 10_000)),
    ("replica.tombstone_grace", Range::Time(SECOND, YEAR)),
    (
        "replica.upkeep_bytes_per_second",
        Range::Whole(KIB, 1024 * GIB),
    ),
    ("server.http_port", Range::Whole(0, PORT_MAX)),
    (
        "server.memory_bytes_max",
        Range::Whole(64 * MIB, 1024 * GIB),
    ),
    ("server.port", Range::Whole(0, PORT_MAX)),
    ("server.shutdown_timeout", Range::Time(ms(1), HOUR)),
    ("storage.port", Range::Whole(0, PORT_MAX)),
    ("tls.handshake_timeout", Range::Time(ms(10), HOUR)),
    ("tls.handshakes_max", Range::Whole(1, MILLION)),
    ("tls.reload_interval", Range::Time(ms(10), DAY)),
    ("tracing.sample", Range::Share),
    ("tracing.timeout", Range::Time(ms(10), HOUR)),
    ("transport.connect_timeout", Range::Time(ms(10), HOUR)),
    ("transport.idle_max", Range::Time(ms(100), DAY)),
    ("transport.in_flight_max", Range::Whole(1, MILLION)),
    ("transport.keepalive_interval", Range::Time(ms(10), HOUR)),
    ("transport.keepalive_timeout", Range::Time(ms(10), HOUR)),
    ("transport.message_bytes_max", Range::Whole(MIB, GIB)),
    ("transport.queued_bytes_max", Range::Whole(MIB, 1024 * GIB)),
    ("transport.reconnect_delay_max", Range::Time(ms(1), HOUR)),
    ("transport.reconnect_delay_min", Range::Time(ms(1), HOUR)),
    ("transport.sweep_interval", Range::Time(ms(1), SECOND)),
];

/// A port, or 0.
const PORT_MAX: u64 = 65_535;
/// What a bucket can count.
const REQUESTS_PER_SECOND_MAX: u64 = 100 * MILLION;
const BYTES_PER_SECOND_MAX: u64 = 100 * MILLION * 64;

/// A smaller one and a greater one: of a pair like these, neither makes sense alone.
const PAIRS: &[(&str, &str)] = &[
    ("database.connections_min", "database.connections_max"),
    ("replica.hint_pause_min", "replica.hint_pause_max"),
    (
        "transport.reconnect_delay_min",
        "transport.reconnect_delay_max",
    ),
];

/// Checks a configuration whose durations have been read. An error is a key and what is wrong with it.
pub(super) fn check(tree: &Value) -> Result<(), (&'static str, String)> {
    for (key, range) in RANGES {
        if let Some(value) = at(tree, key) {
            range.check(value).map_err(|problem| (*key, problem))?;
        }
    }
    for (smaller, greater) in PAIRS {
        let (Some(least), Some(most)) = (at(tree, smaller), at(tree, greater)) else {
            continue;
        };
        if comparable(least) > comparable(most) {
            let problem = format!("{} is more than {greater}, {}", shown(least), shown(most));
            return Err((smaller, problem));
        }
    }
    Ok(())
}

impl Range {
    fn check(self, value: &Value) -> Result<(), String> {
        let (is_within, least, most) = match self {
            Self::Whole(least, most) => {
                if value.as_f64().is_some_and(|number| number.fract() != 0.0) {
                    return Err(format!("{value} is not a whole number"));
                }
                let is_within = value.as_u64().is_some_and(|n| (least..=most).contains(&n));
                (is_within, least.to_string(), most.to_string())
            }
            Self::Share => {
                let is_within = value.as_f64().is_some_and(|n| (0.0..=1.0).contains(&n));
                (is_within, "0".to_owned(), "1".to_owned())
            }
            Self::Time(least, most) => {
                let is_within =
                    durations::duration(value).is_some_and(|time| (least..=most).contains(&time));
                (is_within, durations::text(least), durations::text(most))
            }
        };
        match is_within {
            true => Ok(()),
            false => Err(format!(
                "{} is not between {least} and {most}",
                shown(value)
            )),
        }
    }
}

fn at<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    tree.pointer(&format!("/{}", key.replace('.', "/")))
}

fn comparable(value: &Value) -> Duration {
    let whole = || Duration::from_nanos(value.as_u64().unwrap_or(0));
    durations::duration(value).unwrap_or_else(whole)
}

fn shown(value: &Value) -> String {
    durations::duration(value).map_or_else(|| value.to_string(), durations::text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn defaults() -> Value {
        serde_json::to_value(Config::default()).unwrap()
    }

    /// All numbers and durations, by key.
    fn numbers(value: &Value, key: &str, found: &mut Vec<String>) {
        match value {
            _ if durations::duration(value).is_some() => found.push(key.to_owned()),
            Value::Number(_) => found.push(key.to_owned()),
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                let key = match key {
                    "" => name.clone(),
                    key => format!("{key}.{name}"),
                };
                numbers(value, &key, found);
            }),
            _ => {}
        }
    }

    #[test]
    fn every_number_has_a_range_and_every_range_a_number() {
        let mut keys = Vec::new();
        numbers(&defaults(), "", &mut keys);
        keys.sort_unstable();
        let ranges: Vec<&str> = RANGES.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ranges, "the table of ranges, in alphabetical order");
        check(&defaults()).unwrap();
    }

    #[test]
    fn what_is_beyond_is_named_with_its_range() {
        let refused = |key: &str, value: Value| {
            let mut tree = defaults();
            *tree
                .pointer_mut(&format!("/{}", key.replace('.', "/")))
                .unwrap() = value;
            check(&tree).unwrap_err().1
        };
        let time = |secs: u64| serde_json::json!({ "secs": secs, "nanos": 0 });
        for (key, value, problem) in [
            (
                "grpc.connections_max",
                0.into(),
                "0 is not between 1 and 1000000",
            ),
            (
                "http.connections_max",
                (1u64 << 63).into(),
                "9223372036854775808 is not between 1 and 1000000",
            ),
            (
                "replica.batch_max",
                (-1).into(),
                "-1 is not between 1 and 1000000",
            ),
            ("replica.batch_max", 1.5.into(), "1.5 is not a whole number"),
            (
                "server.port",
                70_000.into(),
                "70000 is not between 0 and 65535",
            ),
            ("tracing.sample", 1.1.into(), "1.1 is not between 0 and 1"),
            (
                "tracing.sample",
                (-0.1).into(),
                "-0.1 is not between 0 and 1",
            ),
            // What no number is comes as none.
            (
                "tracing.sample",
                f64::NAN.into(),
                "null is not between 0 and 1",
            ),
            ("tracing.timeout", time(0), "0s is not between 10ms and 1h"),
            (
                "redis.call_timeout",
                time(0),
                "0s is not between 10ms and 1m",
            ),
            (
                "coordinator.idempotency_retention",
                time(0),
                "0s is not between 1m and 1year",
            ),
            (
                "transport.reconnect_delay_min",
                time(5),
                "5s is more than transport.reconnect_delay_max, 1s",
            ),
            (
                "database.connections_min",
                51.into(),
                "51 is more than database.connections_max, 50",
            ),
        ] {
            assert_eq!(refused(key, value), problem, "{key}");
        }
    }

    /// What is at the ends of the ranges is taken by everything that is made of it: no bound is one on paper only.
    #[test]
    fn the_greatest_of_all_is_still_a_configuration() {
        for pick in [
            |range: Range| match range {
                Range::Whole(least, _) => least.into(),
                Range::Share => 0.into(),
                Range::Time(least, _) => serde_json::to_value(least).unwrap(),
            },
            |range: Range| match range {
                Range::Whole(_, most) => most.into(),
                Range::Share => 1.into(),
                Range::Time(_, most) => serde_json::to_value(most).unwrap(),
            },
        ] {
            let mut tree = defaults();
            for (key, range) in RANGES {
                let value: Value = pick(*range);
                *tree
                    .pointer_mut(&format!("/{}", key.replace('.', "/")))
                    .unwrap() = value;
            }
            check(&tree).unwrap();
            let _: Config = serde_json::from_value(tree).unwrap();
        }
    }
}
