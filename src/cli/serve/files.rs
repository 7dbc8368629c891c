//! The files of a serving process: how many it may have open, and who reads those that it makes.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

use crate::config::Config;

/// What each storage node keeps open of its engine's tables and journals.
const ENGINE: u64 = 1024;
/// Connections that coordinators and other nodes have to a storage node.
const PEERS: u64 = 256;
/// Metadata, logs, listeners, timers, and what is opened for a moment.
const OTHERS: u64 = 128;

/// Lets the process open as many files as the system allows it to, and keeps what it makes to its own user. Returns how
/// many.
pub fn prepare() -> u64 {
    umask(Mode::from_raw_mode(0o077));
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let now = limit.current.unwrap_or(u64::MAX);
    if now < most {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return most;
        }
    }
    now
}

/// Says so when so few files may be open that the connections that are configured don't all fit.
pub fn warn_of_few(open_max: u64, service: &str, config: &Config) {
    let needed = needed(service, config);
    if open_max < needed {
        tracing::warn!(
            open_max,
            needed,
            "too few files may be open for the connections that are configured: raise the limit (ulimit -n, LimitNOFILE), \
             or lower grpc.connections_max and http.connections_max"
        );
    }
}

fn needed(service: &str, config: &Config) -> u64 {
    let clients = config
        .grpc
        .connections_max
        .saturating_add(config.http.connections_max);
    let clients = u64::try_from(clients).unwrap_or(u64::MAX);
    let stores = u64::from(config.database.connections_max);
    match service {
        "pairdb-storage" => ENGINE + PEERS + OTHERS + stores,
        "pairdb-coordinator" => clients.saturating_add(OTHERS + stores),
        _ => clients.saturating_add(3 * (ENGINE + PEERS) + OTHERS + stores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_clients_need_more_files() {
        let few = Config::default();
        let mut many = Config::default();
        many.http.connections_max += 5000;
        for service in ["pairdb-coordinator", "pairdb-dev"] {
            assert_eq!(needed(service, &many), needed(service, &few) + 5000);
        }
        let storage = |config| needed("pairdb-storage", config);
        assert_eq!(storage(&many), storage(&few), "it has no clients");
    }
}
