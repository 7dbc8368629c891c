//! The coordinator: routes a client's request to the owners of its key, judges their answers by quorum, settles
//! conflicts at the edge and repairs what it finds stale.
//!
//! What it is not: it keeps no data and gives out no dots. A replica accepts a write and gives it its dot, everything
//! else joins (dotted version vectors, Preguiça, Baquero, Almeida, Fonte, Gonçalves 2012), so any number of
//! coordinators may run, crash and come back without coordination among them.
//!
//! Invariants:
//! - a write is acknowledged only when the owners its consistency asks for have it durably;
//! - every attempt of one write carries one write id, and one stamp until a greater one is met;
//! - a quorum read answers only what a quorum holds;
//! - nothing waits past its deadline, and nothing here grows without bound.

mod admission;
mod ahead;
mod answer;
mod anti_entropy;
mod api_keys;
mod ask;
mod asked_already;
mod clock_watch;
mod cluster_clock;
mod convergence;
mod convergence_report;
mod crowded;
mod drive;
mod error;
mod exchange;
mod heal;
mod health;
mod held_claim;
mod hints;
mod idempotency;
mod listing;
mod metadata;
mod migration;
mod node_admin;
mod older;
mod order;
mod owners;
mod pass_failure;
mod plan;
mod probes;
mod promise;
mod read;
mod refill;
mod repair;
mod replication;
mod request;
mod routing;
mod service;
mod settings;
mod standings;
mod status;
mod store_health;
mod tenant_admin;
mod tenants;
mod topologies;
mod validate;
mod verify;
mod wait;
mod write;

#[cfg(test)]
mod background_repair_test;
#[cfg(test)]
mod coordinator_test;
#[cfg(test)]
mod idempotency_test;
#[cfg(test)]
mod migration_test;
#[cfg(test)]
mod test_cluster;

pub use convergence::Convergence;
pub use convergence_report::{ConvergenceReport, NodeConvergence, TargetHints};
pub use error::{CoordinatorError, QuorumNotReached};
pub use migration::{Forecast, MigrationGauges, MigrationView, NodeForecast};
pub use node_admin::{NodeOverview, NodesChanged};
pub use request::{ClockEntry, ReadOutcome, ReadRequest, ReadValue, WriteOutcome, WriteRequest};
pub use service::{Coordinator, Readiness};
pub use settings::{CoordinatorSettings, IdempotencyOutage};
pub use status::Status;
pub use tenant_admin::{Admin, FactorChanged};
pub use verify::{Difference, Holds, Unverified, Verified};
