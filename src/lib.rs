//! PairDB: a multi-tenant Dynamo-style key-value store whose promises are checked by deterministic simulation.

pub mod adapters;
pub mod coordinator;
pub mod placement;
pub mod ports;
pub mod proto;
pub mod quorum;
pub mod sabotage;
pub mod version;
