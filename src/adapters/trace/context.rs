//! The trace that a span belongs to: taken from a caller, told to who is called.

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header, and the field of messages between processes.
const TRACEPARENT: &str = "traceparent";

/// 55 bytes of the version there is, and some for those to come.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// Makes `span` part of the trace that the caller's headers tell of, or of a new one. Returns what the trace is called,
/// if there is one: for the log.
pub fn begin(span: &Span, headers: &HeaderMap) -> Option<TraceId> {
    let told = headers
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= TRACEPARENT_BYTES_MAX)
        .map(parse);
    let caller = told
        .as_ref()
        .map(|told| told.span().span_context().trace_id());
    if let Some(told) = told {
        let _no_collector = span.set_parent(told);
    }
    let context = span.context();
    let span = context.span();
    let own = span.span_context().is_valid();
    let own = own.then(|| span.span_context().trace_id());
    own.or(caller).filter(|id| *id != TraceId::INVALID)
}

/// Names `span` in its trace, if that is followed.
pub fn named(span: &Span, name: &str) {
    let context = span.context();
    if context.span().is_recording() {
        context.span().update_name(name.to_owned());
    }
}

/// Notes in `span`'s trace that the request failed, and whether that was the system's fault.
pub fn failed(span: &Span, code: &str, own_fault: bool) {
    span.set_attribute("code", code.to_owned());
    if own_fault {
        span.set_status(Status::error(code.to_owned()));
    }
}

/// What to tell a process that is called within `span`; empty if the trace is not followed.
pub fn pass_on(span: &Span) -> String {
    if span.is_disabled() {
        return String::new();
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    match context.is_sampled() {
        true => format!("00-{}-{}-01", context.trace_id(), context.span_id()),
        false => String::new(),
    }
}

/// Makes `span` part of the trace that another process told of with [`pass_on`].
pub fn follow(span: &Span, traceparent: &str) {
    let _no_collector = span.set_parent(parse(traceparent));
}

/// Nonsense is no trace.
fn parse(traceparent: &str) -> opentelemetry::Context {
    TraceContextPropagator::new().extract(&Told(traceparent))
}

struct Told<'a>(&'a str);

impl Extractor for Told<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(traceparent: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, traceparent.parse().unwrap());
        headers
    }

    #[test]
    fn the_log_names_the_callers_trace_also_without_a_collector() {
        let told = headers("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        let id = begin(&Span::none(), &told);
        assert_eq!(
            id.map(|id| id.to_string()).as_deref(),
            Some("0af7651916cd43dd8448eb211c80319c")
        );
    }

    #[test]
    fn nonsense_is_no_trace() {
        for text in [
            "",
            "00-0-0-01",
            "no trace at all",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(begin(&Span::none(), &headers(text)), None, "{text}");
        }
        assert_eq!(begin(&Span::none(), &HeaderMap::new()), None);
    }

    #[test]
    fn what_is_not_followed_is_not_told() {
        assert_eq!(pass_on(&Span::none()), "");
    }
}
