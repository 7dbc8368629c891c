//! A panic in a request fails that request, with an answer, and nothing else.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use tower::{Layer, Service};

use super::errors::internal;
use super::log_pace;

/// Answers INTERNAL for a request that panicked.
#[derive(Clone, Copy, Debug)]
pub(super) struct PanicGuard;

impl<S> Layer<S> for PanicGuard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded(inner)
    }
}

/// See [`PanicGuard`].
#[derive(Clone, Debug)]
pub(super) struct Guarded<S>(S);

impl<S, A, B> Service<Request<A>> for Guarded<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Default + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let answer = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        let guarded = answer.map(move |answer| {
            answer.unwrap_or_else(|_| {
                if let Some(left_out) = log_pace::FAULT.tell() {
                    tracing::error!(path, left_out, "a request panicked");
                }
                Ok(internal().into_http())
            })
        });
        guarded.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::{Code, Status};
    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let service = service_fn(|request: Request<()>| async move {
            assert!(request.uri().path() != "/panics", "on purpose");
            Ok::<_, Infallible>(Response::new(()))
        });
        let mut guarded = PanicGuard.layer(service);
        let mut ask = async |path: &'static str| {
            let request = Request::builder().uri(path).body(()).unwrap();
            guarded.call(request).await.unwrap()
        };
        let status = Status::from_header_map(ask("/panics").await.headers()).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Internal, "internal error")
        );
        assert!(Status::from_header_map(ask("/fine").await.headers()).is_none());
    }
}
