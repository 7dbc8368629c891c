//! Idempotency in Redis 7 or later: one server, a cluster, or servers under sentinels.
//!
//! Each call is one script on one key, so one round trip and one atomic step, also in a cluster. A script that the
//! server doesn't know yet costs one more. Leases run by the server's clock, entries end by its `PEXPIRE`. Connecting
//! is lazy: a coordinator starts while Redis is down.
//!
//! What this is not: more durable than the Redis it is given. A server without `appendonly yes`, or a replica that
//! takes over without the last writes, forgets claims and answers, and a request repeated after that is a new one. A
//! server that evicts (`maxmemory-policy` other than `noeviction`) does so, too.

mod entry;
mod idempotency;
mod link;
mod url;

use std::time::Duration;

pub use idempotency::RedisIdempotency;
pub use url::{RedisUrl, RedisUrlError};

/// How Redis is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisSettings {
    /// What all keys begin with: one for each installation that shares the server.
    pub namespace: String,
    /// The longest a call may take, connecting included.
    pub call_timeout: Duration,
    /// The certificates, as PEM, that servers are trusted by instead of the machine's own.
    pub authorities: Option<Vec<u8>>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            namespace: "pairdb".to_owned(),
            call_timeout: Duration::from_millis(500),
            authorities: None,
        }
    }
}

#[cfg(test)]
#[path = "redis_test.rs"]
mod tests;
