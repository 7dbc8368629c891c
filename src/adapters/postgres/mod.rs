//! Metadata in PostgreSQL 14 or later, shared by coordinators and storage nodes on any number of machines.
//!
//! Every conditional change is decided by the database, in one transaction, and committed with `synchronous_commit` at
//! least `on`, whatever the server's default: a change that was answered survives a crash of the database. A *failover*
//! it survives only if the standby that takes over is a synchronous one (`synchronous_standby_names`): see
//! `src/ARCHITECTURE.md`, "An epoch is as durable as the metadata store".
//!
//! Changes are told by LISTEN and NOTIFY; a look at the tables now and then finds what was not told. All times are the
//! database's. What is relied on beyond tables and transactions: `COLLATE "C"`, `INSERT .. ON CONFLICT`, `unnest`,
//! `set_config`; advisory locks and LISTEN where there are any. A database that refuses the latter two (distributed
//! ones do) is migrated without the lock and looked at twice a second instead. Transactions that it asks to repeat are
//! repeated.
//!
//! What this is not: made for a pooler that gives each transaction another session (LISTEN and prepared statements need
//! one).

mod api_keys;
mod connection;
mod database;
mod error;
mod leases;
mod metadata;
mod migrations;
mod owner_changes;
mod watch;

use std::time::Duration;

pub use connection::check_url;
pub use metadata::PostgresMetadata;
pub use migrations::{migrate, migrations};

/// How the database is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostgresSettings {
    /// The most connections of this process, beside the one that listens.
    pub connections_max: u32,
    /// How many connections are kept open when there is nothing to do.
    pub connections_min: u32,
    /// After this long a connection is replaced by a new one.
    pub connection_lifetime: Duration,
    /// The longest a call may take, waiting for a connection included.
    pub call_timeout: Duration,
    /// How often to look for changes that were not told.
    pub look_interval: Duration,
    /// The same where the database tells of none.
    pub look_interval_untold: Duration,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            connections_max: 50,
            connections_min: 10,
            connection_lifetime: Duration::from_secs(30 * 60),
            call_timeout: Duration::from_secs(2),
            look_interval: Duration::from_secs(5),
            look_interval_untold: Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
#[path = "postgres_test.rs"]
mod tests;
