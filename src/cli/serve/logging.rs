//! The log: tracing to standard error, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::super::exit::Failure;
use crate::config::{LogFormat, LoggingSettings};

/// Starts logging. `RUST_LOG` wins over the configured level.
pub fn start_logging(settings: &LoggingSettings) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives)
            .map_err(|error| Failure::usage(format!("RUST_LOG: {error}")))?,
        _ => EnvFilter::try_new(&settings.level).map_err(|error| {
            Failure::usage(format!("logging.level: '{}': {error}", settings.level))
        })?,
    };
    let terminal = std::io::stderr().is_terminal();
    let as_json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_writer(std::io::stderr);
    let started = if as_json {
        log.json().try_init()
    } else {
        log.try_init()
    };
    started.map_err(|error| Failure::local(format!("can't start logging: {error}")))
}
