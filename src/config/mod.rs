//! The configuration: one file, environment variables over it, flags over both, and defaults under all.
//!
//! What it is not: no handles, no connections, only settings. Every key has a default that is not null, and that
//! default's type is what text from the environment is read as. A key that is not there, or a value that does not fit,
//! is an error that names the key and where it was given. So is a variable that begins like ours and is none, a number
//! out of its range, and a secret that everybody knows: what was meant to shut a door never leaves it open.

mod durations;
mod error;
mod join;
mod layers;
#[cfg(test)]
mod page_test;
mod placeholders;
mod ranges;
mod sections;
mod source;
mod stores;
mod variables;

pub use error::ConfigError;
pub use join::JoinSettings;
pub use layers::{Layers, tree};
pub(crate) use sections::host_and_port;
pub use sections::{
    Config, LogFormat, LoggingSettings, MetricsSettings, RuntimeKind, ServerSettings,
    StorageSettings, SyncMode,
};
pub use stores::{DatabaseKind, DatabaseSettings, RedisSection};
pub use variables::check_names;
