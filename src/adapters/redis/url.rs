//! Where Redis is: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, with `rediss` for TLS, and the same for several hosts.
//!
//! `redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT` names some members of a cluster,
//! `redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DB]` names sentinels and the master they watch; user,
//! password and DB are the master's, sentinels are asked without. User and password are percent-encoded.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo};

/// A URL that was understood. Shows no password.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) kind: Kind,
    pub(super) has_tls: bool,
    /// As if each host were a server alone.
    pub(super) hosts: Vec<ConnectionInfo>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Single,
    Cluster,
    /// The name of the master.
    Sentinel(String),
}

/// Why a text is not such a URL. Never shows the text, which may hold a password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RedisUrlError {
    /// Not a scheme of ours.
    #[error(
        "must begin with redis://, rediss://, redis+cluster://, rediss+cluster://, redis+sentinel:// or rediss+sentinel://"
    )]
    Scheme,
    /// No name after the hosts.
    #[error("must name the master after the sentinels, as in redis+sentinel://HOST:26379/NAME")]
    Master,
    /// Several hosts and nothing that says what they are.
    #[error("names several hosts; write redis+cluster:// or redis+sentinel:// for them")]
    Hosts,
    /// A cluster has no numbered databases.
    #[error("names a database, which a cluster doesn't have")]
    Database,
    /// Something else in it.
    #[error("is not a URL of Redis: {0}")]
    Malformed(String),
}

impl std::str::FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["redis", "rediss"].contains(&base) {
            return Err(RedisUrlError::Scheme);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (kind, database) = match kind {
            "" if hosts.contains(',') => return Err(RedisUrlError::Hosts),
            "" => (Kind::Single, path),
            "cluster" if !path.is_empty() => return Err(RedisUrlError::Database),
            "cluster" => (Kind::Cluster, ""),
            "sentinel" => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(RedisUrlError::Master);
                }
                (Kind::Sentinel(name.to_owned()), database)
            }
            _ => return Err(RedisUrlError::Scheme),
        };
        let host = |host: &str| {
            let url = format!("{base}://{user}{host}/{database}");
            let malformed =
                |error: redis::RedisError| RedisUrlError::Malformed(error.category().to_owned());
            url.as_str().into_connection_info().map_err(malformed)
        };
        Ok(Self {
            kind,
            has_tls: base == "rediss",
            hosts: hosts.split(',').map(host).collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| host.addr().to_string())
            .collect();
        write!(f, "{:?} {}", self.kind, hosts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedisUrl, RedisUrlError> {
        text.parse()
    }

    #[test]
    fn one_server_a_cluster_and_sentinels_are_told_apart() {
        let single = parse("redis://:p%40ss@example:1234/3").unwrap();
        assert_eq!((single.kind, single.has_tls), (Kind::Single, false));
        let settings = single.hosts[0].redis_settings();
        assert_eq!((settings.password(), settings.db()), (Some("p@ss"), 3));

        let cluster = parse("rediss+cluster://user:secret@a:1,b:2,[::1]:3").unwrap();
        assert_eq!((&cluster.kind, cluster.has_tls), (&Kind::Cluster, true));
        assert_eq!(cluster.hosts.len(), 3);
        assert!(!format!("{cluster:?}").contains("secret"), "{cluster:?}");

        let sentinel = parse("redis+sentinel://user:secret@a:26379,b:26379/main/2").unwrap();
        assert_eq!(sentinel.kind, Kind::Sentinel("main".to_owned()));
        assert_eq!(sentinel.hosts[1].redis_settings().db(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, expected) in [
            ("", RedisUrlError::Scheme),
            ("localhost:6379", RedisUrlError::Scheme),
            ("http://localhost", RedisUrlError::Scheme),
            ("redis+ring://a", RedisUrlError::Scheme),
            ("redis://a:1,b:2", RedisUrlError::Hosts),
            ("redis+sentinel://a:1", RedisUrlError::Master),
            ("redis+cluster://a:1/3", RedisUrlError::Database),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        for text in [
            "redis://:secret@a:port",
            "redis://:secret@a/x",
            "redis+cluster://:secret@,b:1",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("is not a URL") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
