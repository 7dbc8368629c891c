//! What is wrong with a configuration: where it was given, which key, and why.

/// A configuration can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read or parsed.
    #[error("{file}: {problem}")]
    File {
        /// Its path as given.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such key.
    #[error("{source_name}: {key}: no such key; there are: {known}")]
    UnknownKey {
        /// The file, environment variable or flag.
        source_name: String,
        /// The key, dotted.
        key: String,
        /// The keys beside it.
        known: String,
    },
    /// The value does not fit.
    #[error("{source_name}: {key}: {problem}")]
    BadValue {
        /// The file, environment variable or flag; "defaults" when it was given nowhere.
        source_name: String,
        /// The key, dotted.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}
