//! x

pub mod adapters;
pub mod placement;
pub mod ports;
pub mod proto;
pub mod quorum;
pub mod sabotage;
pub mod version;
