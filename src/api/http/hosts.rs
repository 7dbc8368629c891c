//! Which names the listener answers to.
//!
//! A site can let its own name lead to 127.0.0.1; then its pages are, for the browser, of the same origin as whatever
//! listens there (DNS rebinding). What they can't change is the name that the browser sends in `Host`. So a listener
//! that only this machine can reach answers to names of this machine only, and to those in `http.host_names`. One that
//! others can reach answers to every name, unless there are names in `http.host_names`; IP addresses it answers to
//! always, because no site can take one for its name and because probes use them.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version};
use axum::middleware::{self, Next};

use super::failure::{Failure, misdirected, refused};
use super::header::single;

/// The names that are answered to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hosts {
    /// In lower case.
    names: Vec<String>,
    reach: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// Only this machine's processes reach the listener.
    Machine,
    /// Others do.
    Network,
}

impl Hosts {
    /// Those of a listener at `address`, with the configured names.
    ///
    /// # Errors
    /// Says which of them is no name.
    pub(super) fn new(address: IpAddr, names: &str) -> Result<Self, String> {
        let reach = match address.to_canonical().is_loopback() {
            true => Reach::Machine,
            false => Reach::Network,
        };
        let names = names.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(name);
        let names = names.collect::<Result<_, _>>()?;
        Ok(Self { names, reach })
    }

    pub(super) fn guard<S: Clone + Send + Sync + 'static>(self, routes: Router<S>) -> Router<S> {
        routes.layer(middleware::from_fn(move |request: Request, next: Next| {
            let hosts = self.clone();
            async move {
                let (request, body) = request.into_parts();
                hosts.check(&request)?;
                Ok::<_, Failure>(next.run(Request::from_parts(request, body)).await)
            }
        }))
    }

    /// Refuses a request for another name.
    fn check(&self, request: &Parts) -> Result<(), Failure> {
        let headers: &HeaderMap = &request.headers;
        if single(headers, &HOST)?.is_none() && request.version == Version::HTTP_11 {
            return Err(refused("Host: is missing"));
        }
        for host in named(request) {
            let authority: Option<Authority> = host.parse().ok();
            let authority = authority.filter(|authority| !authority.as_str().contains('@'));
            let authority = authority.ok_or_else(|| refused("Host: is no name"))?;
            if !self.answer_to(authority.host()) {
                return Err(misdirected(format!(
                    "this server does not answer to the name '{}'; http.host_names says to which it does",
                    authority.host()
                )));
            }
        }
        Ok(())
    }

    fn answer_to(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_network = self.reach == Reach::Network;
        if let Ok(address) = bare.parse::<IpAddr>() {
            return is_network || address.to_canonical().is_loopback();
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        host == "localhost" || self.names.contains(&host) || (is_network && self.names.is_empty())
    }
}

/// The names that a request is for: of the whole URL, if it asks for one as through a proxy, and in `Host`.
pub(super) fn named(request: &Parts) -> impl Iterator<Item = &str> {
    let in_url = request.uri.authority().map(Authority::as_str);
    let header = request.headers.get(HOST).map(HeaderValue::to_str);
    // What is no text is no name, which parsing then says.
    in_url
        .into_iter()
        .chain(header.map(|host| host.unwrap_or("@")))
}

fn name(text: &str) -> Result<String, String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    match is_name(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!(
            "'{text}' is no host name, such as db.example.com, without a port"
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn status(address: &str, names: &str, hosts: &[&str], uri: &str) -> u16 {
        let hosts_of = Hosts::new(address.parse().unwrap(), names).unwrap();
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match hosts_of.check(&parts) {
            Ok(()) => 200,
            Err(failure) => failure.http_status().as_u16(),
        }
    }

    #[test]
    fn a_listener_of_this_machine_answers_to_its_names_only() {
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            for host in [
                "localhost",
                "LocalHost:8080",
                "localhost.",
                "127.0.0.1:8080",
                "127.1.2.3",
                "[::1]:8080",
                "[::ffff:127.0.0.1]",
            ] {
                assert_eq!(status(address, "", &[host], "/"), 200, "{host}");
            }
            for host in [
                "evil.example",
                "evil.example:8080",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "10.0.0.1",
                "[::2]",
                "h",
            ] {
                assert_eq!(status(address, "", &[host], "/"), 421, "{host}");
            }
        }
        assert_eq!(status("127.0.0.1", "a.example, db", &["DB:1"], "/"), 200);
        assert_eq!(
            status("127.0.0.1", "a.example, db", &["b.example"], "/"),
            421
        );
    }

    #[test]
    fn one_that_others_reach_answers_to_all_names_or_to_the_configured_ones() {
        assert_eq!(status("0.0.0.0", "", &["any.example"], "/"), 200);
        for (host, expected) in [
            ("db.example", 200),
            ("10.1.2.3:8080", 200),
            ("localhost", 200),
            ("evil.example", 421),
        ] {
            assert_eq!(status("::", "db.example", &[host], "/"), expected, "{host}");
        }
    }

    #[test]
    fn a_name_is_given_once_and_is_one() {
        assert_eq!(status("0.0.0.0", "", &[], "/"), 400);
        assert_eq!(
            status("127.0.0.1", "", &["localhost", "evil.example"], "/"),
            400
        );
        assert_eq!(status("127.0.0.1", "", &["u@localhost"], "/"), 400);
        assert_eq!(status("127.0.0.1", "", &["local host"], "/"), 400);
        let url = "http://evil.example/health";
        assert_eq!(status("127.0.0.1", "", &["localhost"], url), 421);
        let url = "http://localhost/health";
        assert_eq!(status("127.0.0.1", "", &["evil.example"], url), 421);
        assert!(Hosts::new("::1".parse().unwrap(), "a:80").is_err());
        assert!(Hosts::new("::1".parse().unwrap(), "https://a").is_err());
    }
}
