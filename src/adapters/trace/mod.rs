//! Traces: how a request is followed from its client through coordinators to storage nodes, and where that is sent.
//!
//! Spans are those of `tracing`; OpenTelemetry's layer turns them into traces and its exporter sends them. Between
//! processes the trace travels as W3C's [`traceparent`](https://www.w3.org/TR/trace-context/). The caller decides
//! whether a request is followed, else chance does; only requests begin traces, background work is followed only where
//! a request caused it.
//!
//! Without a collector configured no span of these is made, and a message carries nothing of a trace.

mod context;
mod export;

pub use context::{begin, failed, follow, named, pass_on};
pub use export::{Exporter, NotStarted, TracingSettings};
