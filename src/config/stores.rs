//! The sections `database` and `redis`: where tenants, topology, claims and answers are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::adapters::postgres::{self, PostgresSettings};
use crate::adapters::redis::{RedisSettings, RedisUrl};

/// The metadata store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://USER:PASSWORD@HOST/NAME`, with `?sslmode=verify-full&sslrootcert=FILE` and what else libpq knows; or
    /// `sqlite:PATH`, a file that the coordinators and storage nodes of one machine share. The keys below are
    /// PostgreSQL's.
    pub url: String,
    /// The most connections of a process.
    pub connections_max: u32,
    /// How many connections are kept open when there is nothing to do.
    pub connections_min: u32,
    /// After this long a connection is replaced by a new one.
    pub connection_lifetime: Duration,
    /// The longest a call may take, waiting for a connection included.
    pub call_timeout: Duration,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        let postgres = PostgresSettings::default();
        Self {
            url: "sqlite:pairdb-data/metadata.sqlite".into(),
            connections_max: postgres.connections_max,
            connections_min: postgres.connections_min,
            connection_lifetime: postgres.connection_lifetime,
            call_timeout: postgres.call_timeout,
        }
    }
}

/// The idempotency store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSection {
    /// `redis://USER:PASSWORD@HOST:PORT/DB`, `redis+cluster://HOST:PORT,HOST:PORT`, or
    /// `redis+sentinel://HOST:PORT,HOST:PORT/MASTER`; `rediss` for TLS. Empty: in the SQLite file of `database.url`.
    pub url: String,
    /// What all keys begin with: one for each installation that shares the server.
    pub namespace: String,
    /// The longest a call may take, connecting included.
    pub call_timeout: Duration,
    /// A PEM file of the certificates that servers are trusted by; empty: the machine's own.
    pub ca_file: String,
}

impl Default for RedisSection {
    fn default() -> Self {
        let redis = RedisSettings::default();
        Self {
            url: String::new(),
            namespace: redis.namespace,
            call_timeout: redis.call_timeout,
            ca_file: String::new(),
        }
    }
}

/// Which database a URL names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatabaseKind {
    /// The file of a `sqlite:` URL.
    Sqlite(PathBuf),
    /// A `postgres:` URL.
    Postgres,
}

/// A key and what is wrong with it.
type Wrong = (&'static str, String);

impl DatabaseSettings {
    /// Which database it is; `None` when that can't be told.
    #[must_use]
    pub fn kind(&self) -> Option<DatabaseKind> {
        let (scheme, rest) = self.url.split_once(':')?;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "sqlite" if !path.is_empty() => Some(DatabaseKind::Sqlite(Path::new(path).to_owned())),
            "postgres" | "postgresql" => Some(DatabaseKind::Postgres),
            _ => None,
        }
    }

    /// The adapter's settings.
    #[must_use]
    pub fn postgres(&self) -> PostgresSettings {
        PostgresSettings {
            connections_max: self.connections_max,
            connections_min: self.connections_min,
            connection_lifetime: self.connection_lifetime,
            call_timeout: self.call_timeout,
            ..PostgresSettings::default()
        }
    }

    pub(super) fn validate(&self) -> Result<(), Wrong> {
        match self.kind() {
            Some(DatabaseKind::Sqlite(_)) => {}
            Some(DatabaseKind::Postgres) => {
                postgres::check_url(&self.url).map_err(|problem| ("database.url", problem))?;
            }
            None => {
                let problem = "is neither postgres://USER:PASSWORD@HOST/NAME nor sqlite:PATH";
                return Err(("database.url", problem.into()));
            }
        }
        Ok(())
    }
}

impl RedisSection {
    /// Where it is, if it is used.
    ///
    /// # Errors
    /// Says what is wrong with the URL, without showing it.
    pub fn parsed(&self) -> Result<Option<RedisUrl>, String> {
        match self.url.as_str() {
            "" => Ok(None),
            url => url
                .parse()
                .map(Some)
                .map_err(|error: crate::adapters::redis::RedisUrlError| error.to_string()),
        }
    }

    /// The adapter's settings.
    ///
    /// # Errors
    /// When there is no such file of certificates.
    pub fn settings(&self) -> Result<RedisSettings, String> {
        let authorities = match self.ca_file.as_str() {
            "" => None,
            path => Some(std::fs::read(path).map_err(|error| format!("{path}: {error}"))?),
        };
        Ok(RedisSettings {
            namespace: self.namespace.clone(),
            call_timeout: self.call_timeout,
            authorities,
        })
    }

    pub(super) fn validate(&self) -> Result<(), Wrong> {
        self.parsed().map_err(|problem| ("redis.url", problem))?;
        if self.namespace.is_empty() {
            return Err(("redis.namespace", "is empty; the default is pairdb".into()));
        }
        Ok(())
    }
}

/// A coordinator's claims must be where its fellows on other machines find them.
pub(super) fn fit_for_coordinators(
    database: &DatabaseSettings,
    redis: &RedisSection,
) -> Result<(), Wrong> {
    if database.kind() == Some(DatabaseKind::Postgres) && redis.url.is_empty() {
        let problem = "must be given where database.url is PostgreSQL: coordinators on several machines share the claims of \
                       idempotent requests through Redis; for example redis://HOST:6379";
        return Err(("redis.url", problem.into()));
    }
    Ok(())
}

/// Replaces what may be a URL's password, by whichever of its forms. Rather too much than too little.
pub(super) fn mask_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let rest = match rest.rsplit_once('@') {
        Some((user, place)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{place}"),
            None => format!("{user}@{place}"),
        },
        None => rest.to_owned(),
    };
    let Some(query) = query else {
        return format!("{scheme}://{rest}");
    };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(hide).collect();
    format!("{scheme}://{rest}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_are() {
        for (url, masked) in [
            ("sqlite:a/b.sqlite", "sqlite:a/b.sqlite"),
            ("postgres://host/db", "postgres://host/db"),
            ("postgres://user@host/db", "postgres://user@host/db"),
            (
                "postgres://user:secret@host:5432/db",
                "postgres://user:***@host:5432/db",
            ),
            (
                "postgres://user:se/cr@et@host/db",
                "postgres://user:***@host/db",
            ),
            (
                "postgres://user:12/secret@host/db",
                "postgres://user:***@host/db",
            ),
            (
                "postgres://host/db?user=u&password=secret&a=b",
                "postgres://host/db?user=u&password=***&a=b",
            ),
            ("redis://:secret@host", "redis://:***@host"),
            (
                "redis+sentinel://u:secret@a:1,b:2/main/3",
                "redis+sentinel://u:***@a:1,b:2/main/3",
            ),
        ] {
            assert_eq!(mask_password(url), masked);
        }
    }
}
