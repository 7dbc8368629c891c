//! The log: tracing to standard error, for people on a terminal and as JSON elsewhere; and traces to a collector, if
//! there is one.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::super::exit::Failure;
use super::span_fields::SpanFields;
use crate::adapters::trace::Exporter;
use crate::config::{LogFormat, LoggingSettings};

/// Starts logging, and tracing to `exporter`. `RUST_LOG` wins over the configured level.
pub(super) fn start(
    settings: &LoggingSettings,
    exporter: Option<&Exporter>,
) -> Result<(), Failure> {
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
    let log = layer().with_ansi(terminal).with_writer(std::io::stderr);
    let log: Box<dyn Layer<Registry> + Send + Sync> = match as_json {
        true => log.json().fmt_fields(SpanFields).boxed(),
        false => log.boxed(),
    };
    let traces = exporter.map(|exporter| {
        tracing_opentelemetry::layer()
            .with_tracer(exporter.tracer())
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::DEBUG))
    });
    tracing_subscriber::registry()
        .with(log.with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(|error| Failure::local(format!("can't start logging: {error}")))
}

/// Whatever the log's level: our spans, and warnings within them.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("pairdb")
        && (metadata.is_span() || *metadata.level() <= Level::WARN)
}
