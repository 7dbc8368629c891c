//! Exit codes and failures: what went wrong, in a form that a person can act on and a script can branch on.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::{Value, json};

use crate::config::ConfigError;

/// What the process exits with. The numbers are a promise to scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Anything that has no code of its own.
    Failure = 1,
    /// The command line, the configuration or a value in it is wrong, or too large; nothing was done.
    Usage = 2,
    /// No such key, tenant, node or migration.
    NotFound = 3,
    /// It exists already, or the idempotency key belongs to another request, or to one that is still running.
    Conflict = 4,
    /// Too few replicas answered, or the server can't be reached; nothing was written.
    Unavailable = 5,
    /// The write may or may not take effect; reading the key tells.
    Indeterminate = 6,
    /// Refused: by the cluster's state, for lack of a permission, or because a limit is reached.
    Refused = 7,
}

/// The table for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  any other failure
  2  usage: the command line, the configuration or a value is wrong, or too large
  3  not found: no such key, tenant, node or migration
  4  conflict: it exists already, or the idempotency key is another request's, or of one still running
  5  unavailable: too few replicas answered, or no server there; nothing was written
  6  indeterminate: the write may or may not take effect
  7  refused: by the cluster's state, for lack of a permission, or because a limit is reached";

/// Why a command failed, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// A stable name: an `ErrorCode` of the protocol, or one of the command line's own.
    pub code: String,
    /// The cause.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// What the server said beside the message.
    pub details: BTreeMap<String, String>,
}

impl Failure {
    /// A failure of the command line's own.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            details: BTreeMap::new(),
        }
    }

    /// A wrong command line or value.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    /// Anything else that went wrong on this machine.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, "FAILED", message)
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the way out, if there is one.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<&str>) -> Self {
        self.hint = hint.map(str::to_owned);
        self
    }

    /// The form for scripts.
    pub fn to_json(&self) -> Value {
        json!({
            "error": {
                "code": self.code,
                "message": self.message,
                "hint": self.hint,
                "details": self.details,
                "exit_code": self.exit as u8,
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, "CONFIGURATION", error.to_string())
    }
}

impl From<&clap::Error> for Failure {
    /// The parser writes paragraphs: what is wrong, tips, and the usage.
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(one_line);
        let wrong = paragraphs.next().unwrap_or_default();
        let wrong = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a subcommand is missing",
            _ => wrong.strip_prefix("error: ").unwrap_or(&wrong),
        };
        let way_out: Vec<String> = paragraphs
            .filter(|text| text.starts_with("tip: ") || text.starts_with("Usage: "))
            .collect();
        Self::usage(wrong).hint(match way_out.is_empty() {
            true => "--help shows what there is".to_owned(),
            false => way_out.join("; "),
        })
    }
}

fn one_line(paragraph: &str) -> String {
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
