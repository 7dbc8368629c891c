//! Only gRPC with protocol buffers is answered. Anything else is told so in HTTP: no client can take the answer for one
//! of its own kind, and what a web page can send unasked is not read.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures::future::Either;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::Status;
use tower::{Layer, Service};

/// Refuses what is not gRPC.
#[derive(Clone, Copy, Debug)]
pub struct OnlyGrpc;

impl<S> Layer<S> for OnlyGrpc {
    type Service = Refusing<S>;

    fn layer(&self, inner: S) -> Refusing<S> {
        Refusing(inner)
    }
}

/// See [`OnlyGrpc`].
#[derive(Clone, Debug)]
pub struct Refusing<S>(S);

impl<S, A, B> Service<Request<A>> for Refusing<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<B>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if request.method() != Method::POST {
            let mut refused = refused(StatusCode::METHOD_NOT_ALLOWED, "gRPC is POST only");
            let headers = refused.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
            return Either::Right(ready(Ok(refused)));
        }
        if !is_grpc(request.headers()) {
            let problem = "content-type: must be application/grpc";
            let refused = refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem);
            return Either::Right(ready(Ok(refused)));
        }
        Either::Left(self.0.call(request))
    }
}

/// What gRPC clients see of it is a status all the same.
fn refused<B: Default>(code: StatusCode, problem: &str) -> Response<B> {
    let mut response = Status::invalid_argument(problem).into_http();
    *response.status_mut() = code;
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|grpc| grpc.eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt;
    use tower::service_fn;

    use super::*;

    fn answer(method: &str, kinds: &[&str]) -> u16 {
        let inner = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
        let mut request = Request::builder().method(method);
        for kind in kinds {
            request = request.header("content-type", *kind);
        }
        let answer = OnlyGrpc.layer(inner).call(request.body(()).unwrap());
        answer.now_or_never().unwrap().unwrap().status().as_u16()
    }

    #[test]
    fn only_grpc_is_answered() {
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC; charset=utf-8",
        ] {
            assert_eq!(answer("POST", &[kind]), 200, "{kind}");
            assert_eq!(answer("GET", &[kind]), 405, "{kind}");
        }
        for kinds in [
            &[] as &[_],
            &[""],
            &["application/grpc+json"],
            &["application/grpc-web"],
            &["application/grpc-web+proto"],
            &["application/grpcx"],
            &["application/json"],
            &["application/x-www-form-urlencoded"],
            &["text/plain; application/grpc"],
            &["application/grpc", "application/grpc"],
        ] {
            assert_eq!(answer("POST", kinds), 415, "{kinds:?}");
        }
    }
}
