//! How an SQLite file is used.

use std::time::Duration;

/// How the file is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqliteSettings {
    /// The longest a call may take, waiting for other writers included.
    pub call_timeout: Duration,
    /// How many reads run at once.
    pub readers_max: u32,
    /// How often to look for changes by other processes, while anybody watches.
    pub watch_interval: Duration,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(2),
            readers_max: 4,
            watch_interval: Duration::from_millis(50),
        }
    }
}
