//! Exit codes and failures: what went wrong, in a form that a person can act on and a script can branch on.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::{Value, json};

use crate::api::EXITS;
use crate::config::ConfigError;

pub use crate::api::Exit;

/// The table for `--help`.
pub fn exit_codes() -> String {
    let rows = EXITS.map(|(code, says)| format!("\n  {code}  {says}"));
    format!("Exit codes:{}", rows.concat())
}

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
