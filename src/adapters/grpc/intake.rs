//! What comes before a storage node's requests are decoded: their bytes. The stream of a coordinator pays for the
//! message that is coming in; a single call is read within its length, a time and the process's budget.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::paths::{EXCHANGE, HEALTH};
use super::settings::UNARY_MESSAGE_BYTES_MAX;
use crate::adapters::front::{
    BodyBounds, Budget, Framing, Metered, PROBE_BYTES_MAX, Share, Unread, whole,
};

/// How long one message may take.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// The service behind it, for requests that have not come yet.
#[derive(Clone)]
pub(super) struct Intake<S> {
    budget: Budget,
    inner: S,
}

impl<S> Intake<S> {
    pub(super) const fn new(budget: Budget, inner: S) -> Self {
        Self { budget, inner }
    }
}

impl<S, B> Service<Request<Incoming>> for Intake<S>
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
        let inner = self.inner.clone();
        let path = request.uri().path();
        if path == EXCHANGE {
            return match self.stream(request) {
                Ok(request) => Box::pin(inner.oneshot(request)),
                Err(status) => Box::pin(async move { Ok(status.into_http()) }),
            };
        }
        let bounds = BodyBounds {
            bytes_max: match path.starts_with(HEALTH) {
                true => PROBE_BYTES_MAX,
                false => UNARY_MESSAGE_BYTES_MAX,
            },
            timeout: MESSAGE_TIMEOUT,
            framing: Framing::Grpc,
            share: Share::Inner,
        };
        let budget = self.budget.clone();
        Box::pin(async move {
            match whole(request, bounds, &budget).await {
                Ok((request, _paid)) => inner.oneshot(request.map(Body::new)).await,
                Err(problem) => Ok(unread(problem).into_http()),
            }
        })
    }
}

impl<S> Intake<S> {
    fn stream(&self, request: Request<Incoming>) -> Result<Request<Body>, Status> {
        let (parts, body) = request.into_parts();
        let metered = Metered::new(body, &self.budget, Share::Inner, MESSAGE_TIMEOUT);
        let metered = metered.map_err(|_| unread(Unread::NoRoom))?;
        Ok(Request::from_parts(parts, Body::new(metered)))
    }
}

fn unread(unread: Unread) -> Status {
    match unread {
        Unread::NoRoom => Status::resource_exhausted("there is no room for the message"),
        unread => Status::invalid_argument(format!("the message: {unread}")),
    }
}
