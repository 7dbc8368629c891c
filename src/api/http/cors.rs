//! Which web pages may call from browsers. Off unless configured.

use std::time::Duration;

use axum::http::{HeaderValue, Method, Uri};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// How long a browser may keep what it was told.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The layer for `origins`, if there are any.
///
/// # Errors
/// Says which of them is no origin.
pub(super) fn layer(origins: &str) -> Result<Option<CorsLayer>, String> {
    let origins = origins.trim();
    if origins.is_empty() {
        return Ok(None);
    }
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request()) // "*" does not cover Authorization
        .expose_headers(Any)
        .max_age(MAX_AGE);
    if origins == "*" {
        return Ok(Some(layer.allow_origin(Any)));
    }
    let origins = origins.split(',').map(origin);
    let origins: Vec<HeaderValue> = origins.collect::<Result<_, _>>()?;
    Ok(Some(layer.allow_origin(origins)))
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
    use super::*;

    #[test]
    fn origins_are_told_from_other_texts() {
        assert!(layer(" ").unwrap().is_none());
        for good in [
            "*",
            "https://a.example.com",
            "http://localhost:3000, https://b",
        ] {
            assert!(layer(good).unwrap().is_some(), "{good}");
        }
        for bad in [
            "a.example.com",
            "https://a/",
            "https://a/b",
            "ftp://a",
            "https://u@a",
            "https://a,,https://b",
        ] {
            assert!(layer(bad).unwrap_err().contains("is no origin"), "{bad}");
        }
    }
}
