//! Where traces are sent: a collector that speaks OpenTelemetry's protocol over gRPC.
//!
//! What waits to be sent is bounded; what does not fit, and what the collector does not take in time, is dropped. A
//! collector that is away costs traces, never requests.

use std::time::Duration;

use http::Uri;
use opentelemetry::trace::{SpanKind, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    ParentBasedSampler, Sampler, SamplingResult, SdkTracerProvider, ShouldSample, Tracer,
};
use serde::{Deserialize, Serialize};
use tonic::transport::Endpoint;

use crate::adapters::tls::{ClientTls, CommandFiles};

/// The span that may begin a trace.
const REQUEST: &str = "request";

/// The longest time for the last spans to be sent when the process stops.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(1);

/// Traces by OpenTelemetry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingSettings {
    /// The collector's OTLP/gRPC address, such as http://otel-collector:4317; empty: nothing is traced. With https the
    /// collector's certificate must be of an authority of the machine, or of one in SSL_CERT_FILE.
    pub endpoint: String,
    /// The share of requests that are traced, of those whose caller has not decided: 0 to 1.
    pub sample: f64,
    /// Whether a caller's `traceparent` decides that its request is traced. If not, chance does for each of them, too;
    /// needed where callers are not to be trusted with the cost.
    pub trust_callers: bool,
    /// The longest time that one export may take, connecting included.
    pub timeout: Duration,
}

impl Default for TracingSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sample: 0.01,
            trust_callers: true,
            timeout: Duration::from_secs(10),
        }
    }
}

impl TracingSettings {
    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// With the key of what can't be.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let is_url = |uri: Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri
                    .authority()
                    .is_some_and(|host| !host.as_str().contains('@'))
        };
        if !self.endpoint.is_empty() && !self.endpoint.parse().is_ok_and(is_url) {
            let problem = "is not a URL such as http://otel-collector:4317".into();
            return Err(("tracing.endpoint", problem));
        }
        Ok(())
    }
}

/// Sends traces until it is stopped.
pub struct Exporter(SdkTracerProvider);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[error("tracing.endpoint: {0}")]
pub struct NotStarted(String);

impl Exporter {
    /// Begins to send what `service`'s instance `instance` traces, within the current tokio runtime. It connects by
    /// itself, when there is something to send. `None` if nothing is to be traced.
    ///
    /// # Errors
    /// When the address can't be one.
    pub fn start(
        settings: &TracingSettings,
        service: &'static str,
        instance: &str,
    ) -> Result<Option<Self>, NotStarted> {
        if settings.endpoint.is_empty() {
            return Ok(None);
        }
        let not_started = |error: &dyn std::error::Error| NotStarted(error.to_string());
        let endpoint = Endpoint::from_shared(settings.endpoint.clone())
            .map_err(|error| not_started(&error))?
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout);
        let uri = endpoint.uri();
        let channel = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) => {
                let machines_own = CommandFiles {
                    ca: None,
                    own: None,
                };
                let tls =
                    ClientTls::of_command(machines_own).map_err(|error| not_started(&error))?;
                tls.connect_lazily(&endpoint, host, uri.port_u16().unwrap_or(443))
            }
            _ => endpoint.connect_lazy(),
        };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| not_started(&error))?;
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(settings))
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Some(Self(provider)))
    }

    /// Makes spans.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.0.tracer("pairdb")
    }

    /// Sends what waits, for a bounded time. To be called within the runtime, which is not held up.
    pub async fn stop(self) {
        let stopping =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_EXPORT_MAX));
        if let Ok(Err(error)) = stopping.await {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// A caller decides, if that is wanted, and chance for the rest. What a coordinator decided its storage nodes follow.
fn sampler(settings: &TracingSettings) -> ParentBasedSampler {
    let requests_else = |others| RequestsByChance {
        share: settings.sample,
        others,
    };
    // Nothing but a request begins a trace.
    let sampler = Sampler::parent_based(requests_else(Sampler::AlwaysOff));
    match settings.trust_callers {
        true => sampler,
        // Whoever calls for anything but a request is one of us.
        false => sampler.with_remote_parent_sampled(requests_else(Sampler::AlwaysOn)),
    }
}

/// A share of the requests, and all or none of the other spans.
#[derive(Clone, Debug)]
struct RequestsByChance {
    share: f64,
    others: Sampler,
}

impl ShouldSample for RequestsByChance {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[opentelemetry::trace::Link],
    ) -> SamplingResult {
        let by_chance = Sampler::TraceIdRatioBased(self.share);
        let sampler = match name {
            REQUEST => &by_chance,
            _ => &self.others,
        };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceState};

    use super::*;

    #[test]
    fn settings_name_what_can_not_be() {
        let with = |endpoint: &str, sample| TracingSettings {
            endpoint: endpoint.into(),
            sample,
            ..TracingSettings::default()
        };
        assert_eq!(TracingSettings::default().validate(), Ok(()));
        assert_eq!(with("http://collector:4317", 1.0).validate(), Ok(()));
        assert_eq!(with("https://collector", 0.0).validate(), Ok(()));
        for endpoint in [
            "collector:4317",
            "ftp://collector",
            "http://",
            "http://user:secret@collector",
        ] {
            let (key, problem) = with(endpoint, 1.0).validate().unwrap_err();
            assert_eq!(key, "tracing.endpoint", "{endpoint}");
            assert!(!problem.contains("secret"));
        }
    }

    #[test]
    fn a_caller_that_is_not_trusted_decides_nothing() {
        let followed = |trust_callers, name: &str| {
            let settings = TracingSettings {
                sample: 0.0,
                trust_callers,
                ..TracingSettings::default()
            };
            let (trace, span) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([7; 8]));
            let told = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE);
            let caller = Context::new().with_remote_span_context(told);
            let kind = SpanKind::Server;
            let result =
                sampler(&settings).should_sample(Some(&caller), trace, name, &kind, &[], &[]);
            result.decision == opentelemetry_sdk::trace::SamplingDecision::RecordAndSample
        };
        assert!(followed(true, REQUEST));
        assert!(!followed(false, REQUEST));
        assert!(followed(false, "stored"), "its caller is a coordinator");
    }

    #[test]
    fn only_requests_begin_traces() {
        let begins = |name, sample| {
            let settings = TracingSettings {
                sample,
                ..TracingSettings::default()
            };
            let (kind, trace) = (SpanKind::Internal, TraceId::from_bytes([7; 16]));
            let result = sampler(&settings).should_sample(None, trace, name, &kind, &[], &[]);
            result.decision == opentelemetry_sdk::trace::SamplingDecision::RecordAndSample
        };
        assert!(begins(REQUEST, 1.0));
        assert!(!begins(REQUEST, 0.0));
        assert!(!begins("task", 1.0));
    }
}
