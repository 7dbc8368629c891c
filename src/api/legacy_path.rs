//! Clients that were built before the package had its name call `/proto.CoordinatorService/…`, and many tools ask for
//! reflection by its name from before it was finished. The messages are the same, so their path is rewritten and there
//! is one implementation.

use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Request, Uri};
use tower::{Layer, Service};

/// Old and new.
const RENAMED: [(&str, &str); 2] = [
    (
        "/proto.CoordinatorService/",
        "/pairdb.v1.CoordinatorService/",
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/",
        "/grpc.reflection.v1.ServerReflection/",
    ),
];

/// Makes the old path the new one.
#[derive(Clone, Copy, Debug)]
pub(super) struct LegacyPath;

impl<S> Layer<S> for LegacyPath {
    type Service = Rewrite<S>;

    fn layer(&self, inner: S) -> Rewrite<S> {
        Rewrite(inner)
    }
}

/// See [`LegacyPath`].
#[derive(Clone, Debug)]
pub(super) struct Rewrite<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Rewrite<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(uri) = rewritten(request.uri()) {
            *request.uri_mut() = uri;
        }
        self.0.call(request)
    }
}

fn rewritten(uri: &Uri) -> Option<Uri> {
    let (new, method) = RENAMED
        .iter()
        .find_map(|(old, new)| Some((new, uri.path().strip_prefix(old)?)))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{new}{method}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_old_path_changes() {
        let rewritten =
            |uri: &'static str| rewritten(&Uri::from_static(uri)).map(|uri| uri.to_string());
        assert_eq!(
            rewritten("http://h:1/proto.CoordinatorService/ReadKeyValue").as_deref(),
            Some("http://h:1/pairdb.v1.CoordinatorService/ReadKeyValue")
        );
        assert_eq!(
            rewritten("/proto.CoordinatorService/GetTenant").as_deref(),
            Some("/pairdb.v1.CoordinatorService/GetTenant")
        );
        assert_eq!(
            rewritten("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo").as_deref(),
            Some("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        );
        for uri in [
            "/pairdb.v1.CoordinatorService/GetTenant",
            "/proto.Other/GetTenant",
            "/",
            "/proto.CoordinatorService",
        ] {
            assert_eq!(rewritten(uri), None, "{uri}");
        }
    }
}
