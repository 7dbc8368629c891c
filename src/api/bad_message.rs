//! A request that can't be decoded, or is far too long, is the client's mistake and says so.
//!
//! gRPC libraries answer it themselves, before the service sees it, with INTERNAL or OUT_OF_RANGE and no details. Here
//! it becomes INVALID_REQUEST like every other wrong request, and so does a method or an encoding that there is none
//! of, which keeps its UNIMPLEMENTED. The service's own errors always have details, which is how
//! the two are told apart.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::Map;
use http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::errors::{MESSAGE_BYTES_MAX, cut, status_in};
use crate::proto::v1::ErrorCode;

const SERVICE: &str = "/pairdb.v1.CoordinatorService/";

/// Gives such answers the code of an invalid request.
#[derive(Clone, Copy, Debug)]
pub(super) struct BadMessage;

impl<S> Layer<S> for BadMessage {
    type Service = Explained<S>;

    fn layer(&self, inner: S) -> Explained<S> {
        Explained(inner)
    }
}

/// See [`BadMessage`].
#[derive(Clone, Debug)]
pub(super) struct Explained<S>(S);

type Answer<B, E> = Result<Response<B>, E>;

impl<S, A, B> Service<Request<A>> for Explained<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Map<S::Future, fn(Answer<B, S::Error>) -> Answer<B, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let ours = request.uri().path().starts_with(SERVICE);
        self.0
            .call(request)
            .map(if ours { explained } else { |answer| answer })
    }
}

fn explained<B: Default, E>(answer: Answer<B, E>) -> Answer<B, E> {
    answer.map(|response| {
        let given = Status::from_header_map(response.headers());
        match given.filter(|given| given.details().is_empty()) {
            Some(given) => in_our_words(&given).map_or(response, Status::into_http),
            None => response,
        }
    })
}

/// What is said instead of a library's answer, if there is something to say.
fn in_our_words(given: &Status) -> Option<Status> {
    let code = match given.code() {
        Code::Ok => return None,
        // Its message can't be decoded.
        Code::Internal | Code::OutOfRange => Code::InvalidArgument,
        // There is no such method, or no such encoding.
        code => code,
    };
    let message = match given.message() {
        "" => "there is no such method",
        message => message,
    };
    let message = cut(message, MESSAGE_BYTES_MAX);
    Some(status_in(code, ErrorCode::InvalidRequest, message))
}
