//! What is seen of every request, gRPC or HTTP: a span for the log and traces, and its count, duration and failure.
//!
//! The span has the request's name, its method, its front and, once the message is read, its tenant. What a method is
//! called comes from the routes, never from a client, so the number of series is bounded.

use std::borrow::Cow;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use metrics::{counter, histogram};
use tonic::Status;
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};

use super::error_table::{LATE, is_own_fault};
use super::methods::method;
use super::{deadline, log_pace, request_name};
use crate::adapters::trace;

/// The label of a method that there is none of: a name that a client made up must not become a series.
const UNKNOWN: &str = "unknown";

/// The code of a request whose client hung up before it was answered.
const ABANDONED: &str = "ABANDONED";

/// A request under way. Whose client hangs up is dropped, and counted all the same.
pub(super) struct Observation {
    front: &'static str,
    method: Cow<'static, str>,
    began: Instant,
    span: Span,
    /// How long the client waits; then the server gives its request up.
    timeout: Option<Duration>,
    ended: bool,
}

impl Observation {
    /// It begins.
    pub(super) fn begin(
        front: &'static str,
        method: impl Into<Cow<'static, str>>,
        name: &HeaderValue,
        headers: &HeaderMap,
    ) -> Self {
        let method = method.into();
        let request_id = name.to_str().unwrap_or_default();
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            request_id,
            front,
            method = &*method,
            tenant = field::Empty,
            trace_id = field::Empty,
        );
        if let Some(id) = trace::begin(&span, headers) {
            span.record("trace_id", field::display(id));
        }
        Self {
            front,
            method,
            began: Instant::now(),
            span,
            timeout: deadline::timeout(headers),
            ended: false,
        }
    }

    /// What the request's work belongs into.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// It ends, with the code of its failure if it failed.
    pub(super) fn end(mut self, failure: Option<&str>) {
        self.count(failure);
    }

    fn count(&mut self, failure: Option<&str>) {
        self.ended = true;
        let (front, method) = (self.front, std::mem::take(&mut self.method));
        let took = self.began.elapsed();
        trace::named(&self.span, &method);
        if let Some(code) = failure {
            trace::failed(&self.span, code, is_own_fault(code));
            let _entered = self.span.enter();
            // Why a store was needed that is down was told where it was noticed.
            let left_out = match code {
                "INTERNAL_ERROR" => log_pace::FAULT.tell(),
                "QUORUM_NOT_REACHED" => log_pace::QUORUM.tell(),
                LATE => log_pace::LATE.tell(),
                _ => None,
            };
            if let Some(left_out) = left_out {
                let ms = took.as_secs_f64() * 1000.0;
                tracing::warn!(code, ms, left_out, "a request failed");
            }
            if code == "QUORUM_NOT_REACHED" {
                counter!("coordinator_quorum_failures_total", "method" => method.clone())
                    .increment(1);
            }
            let code = code.to_owned();
            counter!("coordinator_request_errors_total", "front" => front, "method" => method.clone(), "code" => code)
                .increment(1);
        }
        counter!("coordinator_requests_total", "front" => front, "method" => method.clone())
            .increment(1);
        histogram!("coordinator_request_duration_seconds", "front" => front, "method" => method)
            .record(took.as_secs_f64());
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            let is_over = |timeout: Duration| self.began.elapsed() >= timeout;
            let is_late = self.timeout.is_some_and(is_over);
            self.count(Some(if is_late { LATE } else { ABANDONED }));
        }
    }
}

/// The request under way is one of this tenant.
pub(super) fn tenant(name: &str) {
    Span::current().record("tenant", name);
}

/// A read found several concurrent values.
pub(super) fn conflict() {
    counter!("coordinator_conflicts_total").increment(1);
}

/// The stable code of a failed status.
pub(super) fn code_of(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => info.reason.clone(),
        None => format!("{:?}", status.code()),
    }
}

/// Observes gRPC requests of the coordinator's service and names them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observe;

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed(inner)
    }
}

/// See [`Observe`].
#[derive(Clone, Debug)]
pub(super) struct Observed<S>(S);

impl<S, A, B> Service<Request<A>> for Observed<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let Some(method) = label(request.uri().path()) else {
            return self.0.call(request).boxed();
        };
        let name = request_name::name(request.headers_mut());
        let observation = Observation::begin("grpc", method, &name, request.headers());
        let span = observation.span();
        let answer = span.in_scope(|| self.0.call(request));
        async move {
            let mut answer = answer.await;
            match &mut answer {
                Ok(answer) => {
                    observation.end(failure(answer.headers()).as_deref());
                    answer.headers_mut().insert(request_name::HEADER, name);
                }
                Err(_) => observation.end(Some(UNKNOWN)),
            }
            answer
        }
        .instrument(span)
        .boxed()
    }
}

/// A failed call has its status where the answer would begin.
fn failure(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status").filter(|code| *code != "0")?;
    Status::from_header_map(headers).map(|status| code_of(&status))
}

/// The method of a call of the coordinator's service.
fn label(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("/pairdb.v1.CoordinatorService/")?;
    Some(method(name).map_or(UNKNOWN, |known| known.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::super::methods::METHODS;
    use super::*;
    use crate::proto::DESCRIPTORS;

    #[test]
    fn every_method_has_its_name() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let services = files.iter().flat_map(|file| &file.service);
        let service = services.filter(|service| service.name() == "CoordinatorService");
        let methods = service.flat_map(|service| &service.method);
        let methods: BTreeSet<&str> = methods.map(|method| method.name()).collect();
        assert_eq!(methods, METHODS.iter().map(|known| known.name).collect());
    }

    #[test]
    fn only_the_coordinators_own_methods_are_observed() {
        assert_eq!(
            label("/pairdb.v1.CoordinatorService/ReadKeyValue"),
            Some("ReadKeyValue")
        );
        assert_eq!(label("/pairdb.v1.CoordinatorService/MadeUp"), Some(UNKNOWN));
        assert_eq!(label("/grpc.health.v1.Health/Check"), None);
    }
}
