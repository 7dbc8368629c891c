//! Which web pages may call from browsers. None of other sites unless configured.
//!
//! A browser asks before it sends what a form can't send, and hides the answer from a page that it was not told of. But
//! what a form can send, it sends unasked; so a write that says that it comes from another site is refused here,
//! whatever its content type. Only browsers say where a request comes from, and pages can't make them lie.

use std::time::Duration;

use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use super::failure::{Failure, forbidden};
use super::header::single;
use super::hosts;

/// How long a browser may keep what it was told.
const MAX_AGE: Duration = Duration::from_secs(600);

/// How the page that sends stands to what it sends to, by browsers newer than 2023.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins of `http.cors_origins`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Origins {
    /// Every page may call.
    All,
    /// Pages of these may; and the server's own.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// Reads the setting.
    ///
    /// # Errors
    /// Says which of them is no origin.
    pub(super) fn new(origins: &str) -> Result<Self, String> {
        match origins.trim() {
            "" => Ok(Self::Listed(Vec::new())),
            "*" => Ok(Self::All),
            origins => {
                let origins = origins.split(',').map(origin);
                Ok(Self::Listed(origins.collect::<Result<_, _>>()?))
            }
        }
    }

    /// What tells browsers of them, if there are any.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        let layer = CorsLayer::new()
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request()) // "*" does not cover Authorization
            .expose_headers(Any)
            .max_age(MAX_AGE);
        match self {
            Self::All => Some(layer.allow_origin(Any)),
            Self::Listed(origins) if origins.is_empty() => None,
            Self::Listed(origins) => Some(layer.allow_origin(origins.clone())),
        }
    }

    /// Refuses a write from a page that may not call.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Failure> {
        let headers = &request.headers;
        let Some(origin) = single(headers, &ORIGIN)? else {
            return Ok(()); // not from a page
        };
        let is_listed = match self {
            Self::All => true,
            Self::Listed(origins) => origins.contains(origin),
        };
        if is_listed || request.method.is_safe() || is_own(request, origin) {
            return Ok(());
        }
        let origin = String::from_utf8_lossy(origin.as_bytes());
        Err(forbidden(format!(
            "pages of '{origin}' may not write here: http.cors_origins does not name it"
        )))
    }
}

/// Whether the page came from this server.
fn is_own(request: &Parts, origin: &HeaderValue) -> bool {
    if let Some(site) = request.headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let origin = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(Uri::authority);
    let host = hosts::named(request).next();
    let host: Option<Authority> = host.and_then(|host| host.parse().ok());
    origin.is_some() && origin == host.as_ref()
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let text = text.trim();
    let is_origin = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|place| !place.as_str().contains('@'))
            && !text.ends_with('/')
            && uri.path() == "/"
            && uri.query().is_none()
    };
    let wrong = || format!("'{text}' is no origin, such as https://console.example.com");
    text.parse().ok().filter(is_origin).ok_or_else(wrong)?;
    HeaderValue::from_str(text).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn origins_are_told_from_other_texts() {
        assert!(Origins::new(" ").unwrap().layer().is_none());
        for good in [
            "*",
            "https://a.example.com",
            "http://localhost:3000, https://b",
        ] {
            assert!(Origins::new(good).unwrap().layer().is_some(), "{good}");
        }
        for bad in [
            "a.example.com",
            "https://a/",
            "https://a/b",
            "ftp://a",
            "https://u@a",
            "https://a,,https://b",
        ] {
            assert!(
                Origins::new(bad).unwrap_err().contains("is no origin"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_page_of_another_site_may_not_write() {
        let may = |origins: &str, method: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).uri("/v1/key-value");
            for (name, value) in [("host", "db.example:8080")].iter().chain(headers) {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            Origins::new(origins).unwrap().check(&parts).is_ok()
        };
        let (listed, other) = (("origin", "https://a.example"), ("origin", "https://evil"));
        let own = ("origin", "http://db.example:8080");
        let site = |site| ("sec-fetch-site", site);
        for method in ["POST", "PUT", "DELETE", "PATCH", "MADEUP"] {
            assert!(may("", method, &[]), "{method}");
            assert!(may("", method, &[own]), "{method}");
            assert!(may("https://a.example", method, &[listed]), "{method}");
            assert!(may("*", method, &[other]), "{method}");
            // Behind something that gives it another name the browser knows better.
            assert!(may("", method, &[other, site("same-origin")]), "{method}");
            for refused in [
                &[other] as &[_],
                &[("origin", "null")],
                &[("origin", "http://db.example:8081")],
                &[other, own],
                &[own, site("cross-site")],
                &[other, site("same-site")],
            ] {
                assert!(!may("", method, refused), "{method} {refused:?}");
                assert!(!may("https://a.example", method, refused), "{method}");
            }
        }
        // Browsers hide the answer.
        assert!(may("", "GET", &[other]) && may("", "OPTIONS", &[other]));
    }
}
