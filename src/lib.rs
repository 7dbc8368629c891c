//! PairDB: a multi-tenant Dynamo-style key-value store whose promises are checked by deterministic simulation.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests may use what the product may not"
    )
)]

pub mod adapters;
pub mod api;
pub mod buggify;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod marks;
pub mod mutant;
pub mod placement;
pub mod ports;
pub mod proto;
pub mod quorum;
pub mod replica;
pub mod sizes;
#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod test_servers;
pub mod version;
