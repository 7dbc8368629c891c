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
    #[error(
        "{source_name}: {key}: no such key; {}there are: {known}",
        did_you_mean(meant)
    )]
    UnknownKey {
        /// The file, environment variable or flag.
        source_name: String,
        /// The key, dotted.
        key: String,
        /// The one that was probably meant.
        meant: Option<String>,
        /// The keys beside it.
        known: String,
    },
    /// An environment variable begins like ours and is none.
    #[error("{}", unknown_variable(name, meant))]
    UnknownVariable {
        /// Its name.
        name: String,
        /// The one that was probably meant.
        meant: Option<String>,
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

fn did_you_mean(meant: &Option<String>) -> String {
    meant
        .as_ref()
        .map_or_else(String::new, |meant| format!("did you mean {meant}? "))
}

fn unknown_variable(name: &str, meant: &Option<String>) -> String {
    match meant {
        Some(meant) => format!("{name}: no such variable; did you mean {meant}?"),
        None => format!(
            "{name}: no such variable; those of settings are named PAIRDB_SECTION__KEY, and `pairdb config` shows all keys"
        ),
    }
}
