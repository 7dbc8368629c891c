//! x

pub mod proto;
pub mod sabotage;
pub mod version;
