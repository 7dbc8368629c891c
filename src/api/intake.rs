//! What comes before a gRPC request is decoded: who asks, how long its client waits, and its bytes.
//!
//! Everything is judged by the headers first, so that nothing is read of what would be refused: a token and the right
//! that the method needs. Then the message is read within its length, a time and the process's budget, and only then is
//! it decoded. The client's deadline counts from here, and whoever is late is answered here, in the words of the
//! contract. What it is not: the whole judgement. Whose keys a request is about, and whether that is too much, is known
//! when it is decoded.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

use super::auth::Right;
use super::deadline;
use super::errors::{late, overloaded, status};
use super::gate::Gate;
use super::methods;
use crate::adapters::front::{
    BodyBounds, Charge, Framing, Metered, PROBE_BYTES_MAX, Share, Unread, whole,
};
use crate::proto::v1::ErrorCode;

/// The coordinator's own methods.
pub(super) const SERVICE: &str = "/pairdb.v1.CoordinatorService/";
/// Probes.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/";
/// What lists methods for people.
pub(super) const REFLECTION: &str = "/grpc.reflection.";

/// Reads requests. See the module.
#[derive(Clone)]
pub(super) struct Intake {
    pub(super) gate: Gate,
    pub(super) message_bytes_max: usize,
    pub(super) body_timeout: Duration,
}

impl<S> Layer<S> for Intake {
    type Service = Taken<S>;

    fn layer(&self, inner: S) -> Taken<S> {
        Taken {
            intake: self.clone(),
            inner,
        }
    }
}

/// See [`Intake`].
#[derive(Clone)]
pub(super) struct Taken<S> {
    intake: Intake,
    inner: S,
}

impl<S, B> Service<Request<Incoming>> for Taken<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Default + Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (intake, inner) = (self.intake.clone(), self.inner.clone());
        let path = request.uri().path();
        if path.starts_with(SERVICE) {
            return Box::pin(intake.ask_in_time(request, inner));
        }
        if path.starts_with(HEALTH) {
            return Box::pin(intake.probe(request, inner));
        }
        if path.starts_with(REFLECTION) {
            return Box::pin(intake.stream(request, inner));
        }
        Box::pin(inner.oneshot(request.map(|_unread| Body::empty())))
    }
}

impl Intake {
    /// A request, answered before its client has given it up.
    async fn ask_in_time<S, B>(
        self,
        request: Request<Incoming>,
        inner: S,
    ) -> Result<Response<B>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        B: Default,
    {
        let method = request.uri().path().strip_prefix(SERVICE);
        let method = method.unwrap_or_default().to_owned();
        let Some(timeout) = deadline::timeout(request.headers()) else {
            return self
                .ask(&method, request, None, &AtomicBool::new(false), inner)
                .await;
        };
        let begun = AtomicBool::new(false);
        // Nobody's clock goes so far; the coordinator has bounds of its own.
        let ends = Instant::now() + timeout.min(deadline::LONGEST);
        let asked = self.ask(&method, request, Some(ends), &begun, inner);
        match tokio::time::timeout_at(ends, asked).await {
            Ok(answer) => answer,
            Err(_) => Ok(late(&method, begun.load(Ordering::Relaxed)).into_http()),
        }
    }

    async fn ask<S, B>(
        &self,
        method: &str,
        request: Request<Incoming>,
        ends: Option<Instant>,
        begun: &AtomicBool,
        inner: S,
    ) -> Result<Response<B>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        B: Default,
    {
        let Some(known) = methods::method(method) else {
            return inner.oneshot(request.map(|_unread| Body::empty())).await;
        };
        let bounds = BodyBounds {
            bytes_max: self.message_bytes_max,
            timeout: self.body_timeout,
            framing: Framing::Grpc,
            share: Share::Short,
        };
        let (mut request, charge) = match self.read(request, Some(known.right), bounds).await {
            Ok(read) => read,
            Err(status) => return Ok(status.into_http()),
        };
        if let Some(ends) = ends {
            let left = ends.saturating_duration_since(Instant::now());
            say_what_is_left(request.headers_mut(), left);
        }
        begun.store(true, Ordering::Relaxed);
        let answer = inner.oneshot(request).await;
        drop(charge);
        answer
    }

    /// Probes need no token, and have their own small bounds.
    async fn probe<S, B>(
        self,
        request: Request<Incoming>,
        inner: S,
    ) -> Result<Response<B>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        B: Default,
    {
        let bounds = BodyBounds {
            bytes_max: PROBE_BYTES_MAX,
            timeout: self.body_timeout,
            framing: Framing::Grpc,
            share: Share::Inner, // whatever clients do
        };
        match self.read(request, None, bounds).await {
            Ok((request, _charge)) => inner.oneshot(request).await,
            Err(status) => Ok(status.into_http()),
        }
    }

    async fn stream<S, B>(
        self,
        request: Request<Incoming>,
        inner: S,
    ) -> Result<Response<B>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        B: Default,
    {
        let (parts, body) = request.into_parts();
        match Metered::new(body, self.gate.budget(), Share::Short, self.body_timeout) {
            Ok(body) => {
                inner
                    .oneshot(Request::from_parts(parts, Body::new(body)))
                    .await
            }
            Err(_) => Ok(overloaded().into_http()),
        }
    }

    /// The request with its whole message, and what that is charged to.
    async fn read(
        &self,
        mut request: Request<Incoming>,
        right: Option<Right>,
        bounds: BodyBounds,
    ) -> Result<(Request<Body>, Charge), Status> {
        if let Some(right) = right {
            let known = self.gate.recognise(request.headers(), right).await;
            let known = known.map_err(|refused| refused.to_status())?;
            request.extensions_mut().insert(known);
        }
        let read = whole(request, bounds, self.gate.budget()).await;
        let (request, held) = read.map_err(unread)?;
        let mut request = request.map(Body::new);
        let charge = Charge::from(held);
        request.extensions_mut().insert(charge.clone());
        Ok((request, charge))
    }
}

/// What the client is told of a message that was not read.
fn unread(unread: Unread) -> Status {
    let message = match unread {
        Unread::NoRoom => return overloaded(),
        Unread::TooLong(max) => format!("the message is longer than the limit, {max} bytes"),
        Unread::Late => "the message did not arrive in time".into(),
        Unread::Broken => "the message could not be read".into(),
    };
    status(ErrorCode::InvalidRequest, message)
}

/// Some of the client's time is gone: what is done from now on has the rest.
fn say_what_is_left(headers: &mut HeaderMap, left: Duration) {
    let micros = left.as_micros().min(99_999_999);
    let value = match left.as_millis() {
        0..=99_999 => format!("{micros}u"),
        millis => format!("{}m", millis.min(99_999_999)),
    };
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(deadline::HEADER, value);
    }
}
