//! Who takes part in a simulated cluster: the ends of every link, and what a fault is aimed at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A process, or a store outside of ours. Written as `n1`, `c2`, `u3`, `metadata`, `idempotency`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Endpoint {
    /// The n-th client, from 1.
    Client(u8),
    /// The n-th coordinator, from 1.
    Coordinator(u8),
    /// The n-th storage node, from 1.
    Storage(u8),
    /// The metadata store.
    Metadata,
    /// The idempotency store.
    Idempotency,
}

/// A name that is none of an [`Endpoint`].
#[derive(Clone, Debug)]
pub struct UnknownEndpoint(String);

impl fmt::Display for UnknownEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0;
        write!(
            f,
            "'{name}' is not an endpoint; u1, c1, n1, metadata and idempotency are"
        )
    }
}

impl std::error::Error for UnknownEndpoint {}

impl Endpoint {
    /// The name that the product knows it by: a node's or a coordinator's id.
    #[must_use]
    pub fn id(self) -> String {
        match self {
            Self::Client(n) => format!("client-{n}"),
            Self::Coordinator(n) => format!("coordinator-{n}"),
            Self::Storage(n) => format!("node-{n}"),
            Self::Metadata => "metadata".into(),
            Self::Idempotency => "idempotency".into(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(n) => write!(f, "u{n}"),
            Self::Coordinator(n) => write!(f, "c{n}"),
            Self::Storage(n) => write!(f, "n{n}"),
            Self::Metadata => f.write_str("metadata"),
            Self::Idempotency => f.write_str("idempotency"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = UnknownEndpoint;

    fn from_str(name: &str) -> Result<Self, UnknownEndpoint> {
        let unknown = || UnknownEndpoint(name.to_owned());
        let number = |digits: &str| digits.parse().ok().filter(|n| *n > 0).ok_or_else(unknown);
        match name.split_at_checked(1) {
            _ if name == "metadata" => Ok(Self::Metadata),
            _ if name == "idempotency" => Ok(Self::Idempotency),
            Some(("u", digits)) => number(digits).map(Self::Client),
            Some(("c", digits)) => number(digits).map(Self::Coordinator),
            Some(("n", digits)) => number(digits).map(Self::Storage),
            _ => Err(unknown()),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = UnknownEndpoint;

    fn try_from(name: String) -> Result<Self, UnknownEndpoint> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        use Endpoint::{Client, Coordinator, Idempotency, Metadata, Storage};
        for endpoint in [
            Client(1),
            Coordinator(2),
            Storage(13),
            Metadata,
            Idempotency,
        ] {
            assert_eq!(
                endpoint.to_string().parse::<Endpoint>().ok(),
                Some(endpoint)
            );
        }
        for name in ["", "n", "n0", "x1", "n-1", "é1"] {
            assert!(name.parse::<Endpoint>().is_err(), "{name}");
        }
    }
}
