//! x

pub mod placement;
pub mod proto;
pub mod sabotage;
pub mod version;
pub mod quorum;
