//! The version of what coordinators and storage nodes say to each other. While a cluster is upgraded two versions of
//! the program run side by side; here is which of them understand each other.
//!
//! Each end of a connection tells once which versions it speaks: the caller in the metadata of its stream's request,
//! the node in those of the answer. They speak the newest version that both know. Where there is none, whoever finds
//! out says so, and the connection is not made. A program that tells nothing is of version 1.
//!
//! | version | what it brought |
//! |---|---|
//! | 1 | all that was before versions were told |
//! | 2 | changes of owners: fences of partitions, trees that are dropped, partitions that are handed over; and this |
//!
//! **When the newest is raised**: when a release asks or answers something that the program before it would
//! misunderstand, or when a promise needs that everybody knows something new. What the program before it can do without
//! (a field that it may ignore, a request that it may refuse as malformed) needs no new version.
//!
//! **How long a version is understood**: for one version after it. What is there only for still older ones is removed
//! with it.
//!
//! What this is not: nothing here is asked for each request. What the numbers mean, and what the older of two versions
//! is asked and answered, is said by [`Release`].

use std::borrow::Cow;
use std::fmt;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::ports::{Release, Window};

const NEWEST_KEY: &str = "pairdb-wire-version";
const OLDEST_KEY: &str = "pairdb-wire-version-oldest";
const PROGRAM_KEY: &str = "pairdb-version";

/// Whatever is longer is no program's version.
const PROGRAM_LEN_MAX: usize = 32;

/// Which versions one end speaks, and what program it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spoken {
    window: Window,
    program: Cow<'static, str>,
}

/// Why two programs can't talk to each other; in words for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unlike(pub(super) String);

impl Spoken {
    /// What this program speaks.
    pub(super) const fn here() -> Self {
        Self {
            window: Release::Current.window(),
            program: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
        }
    }

    /// What the other end told of itself.
    fn told(metadata: &MetadataMap) -> Result<Self, Unlike> {
        let number = |key| match metadata.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| {
                let words = "tells a wire version that can't be read";
                Unlike(words.into())
            }),
        };
        let newest = number(NEWEST_KEY)?;
        let oldest = number(OLDEST_KEY)?;
        let program = metadata.get(PROGRAM_KEY).and_then(program);
        Ok(Self {
            window: Release::told(newest, oldest),
            program: match (program, newest) {
                (Some(program), _) => Cow::Owned(program),
                (None, Some(_)) => Cow::Borrowed("of unknown version"),
                (None, None) => Cow::Borrowed("from before versions were told"),
            },
        })
    }

    /// Tells the other end.
    pub(super) fn tell(&self, metadata: &mut MetadataMap) {
        metadata.insert(NEWEST_KEY, self.window.newest.into());
        metadata.insert(OLDEST_KEY, self.window.oldest.into());
        if let Ok(program) = self.program.parse() {
            metadata.insert(PROGRAM_KEY, program);
        }
    }

    /// The version in which `we`, who are this, talk with `them`, who told of themselves in `metadata`. The names are
    /// for the words if there is none.
    pub(super) fn agree(
        &self,
        we: &str,
        them: &str,
        metadata: &MetadataMap,
    ) -> Result<u32, Unlike> {
        let told = Self::told(metadata).map_err(|why| Unlike(format!("{them} {why}")))?;
        if let Some(agreed) = self.window.agreed(told.window) {
            return Ok(agreed);
        }
        let older = match told.window.newest < self.window.oldest {
            true => them,
            false => we,
        };
        Err(Unlike(format!(
            "{them} speaks {told}; {we} understands {self}: upgrade {older} first, one version at a time"
        )))
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, program } = self;
        let Window { newest, oldest } = window;
        match oldest < newest {
            true => write!(f, "wire versions {oldest} to {newest} (pairdb {program})"),
            false => write!(f, "wire version {newest} (pairdb {program})"),
        }
    }
}

fn read(value: &MetadataValue<Ascii>) -> Option<u32> {
    value.to_str().ok()?.parse().ok()
}

/// A program's version, if it is one: it is shown to people.
fn program(value: &MetadataValue<Ascii>) -> Option<String> {
    let text = value.to_str().ok()?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    let is_version = (1..=PROGRAM_LEN_MAX).contains(&text.len()) && text.bytes().all(is_part);
    is_version.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(oldest: u32, newest: u32, program: &'static str) -> Spoken {
        Spoken {
            window: Window { newest, oldest },
            program: program.into(),
        }
    }

    /// What `we` come to with `them`.
    fn agreed(we: &Spoken, them: &Spoken) -> Result<u32, String> {
        let mut metadata = MetadataMap::new();
        them.tell(&mut metadata);
        we.agree("this node", "the caller", &metadata)
            .map_err(|Unlike(words)| words)
    }

    #[test]
    fn the_window_is_one_version() {
        let Window { newest, oldest } = Spoken::here().window;
        assert_eq!(oldest, newest - 1);
    }

    #[test]
    fn neighbours_understand_each_other_whoever_calls() {
        let releases: Vec<_> = (2..6).map(|n| spoken(n - 1, n, "0.0.0")).collect();
        for (a, we) in (2_u32..).zip(&releases) {
            for (b, them) in (2..).zip(&releases) {
                let agreed = agreed(we, them);
                match a.abs_diff(b) {
                    0 | 1 => assert_eq!(agreed, Ok(a.min(b)), "{a} called by {b}"),
                    _ => assert!(agreed.is_err(), "{a} called by {b}: {agreed:?}"),
                }
            }
        }
    }

    #[test]
    fn who_is_too_old_is_named() {
        let here = spoken(1, 2, "0.1.0");
        assert_eq!(
            agreed(&here, &spoken(4, 4, "0.3.0")),
            Err(
                "the caller speaks wire version 4 (pairdb 0.3.0); this node understands wire versions 1 to 2 (pairdb \
                 0.1.0): upgrade this node first, one version at a time"
                    .to_owned()
            )
        );
        assert_eq!(
            agreed(&spoken(4, 5, "0.4.0"), &here),
            Err(
                "the caller speaks wire versions 1 to 2 (pairdb 0.1.0); this node understands wire versions 4 to 5 \
                 (pairdb 0.4.0): upgrade the caller first, one version at a time"
                    .to_owned()
            )
        );
    }

    #[test]
    fn who_tells_nothing_is_from_before() {
        let here = Spoken::here();
        let silent = MetadataMap::new();
        assert_eq!(here.agree("this process", "127.0.0.1:1", &silent), Ok(1));
        let later = spoken(2, 3, "0.2.0").agree("this process", "127.0.0.1:1", &silent);
        assert_eq!(
            later,
            Err(Unlike(
                "127.0.0.1:1 speaks wire version 1 (pairdb from before versions were told); this process understands wire \
                 versions 2 to 3 (pairdb 0.2.0): upgrade 127.0.0.1:1 first, one version at a time"
                    .to_owned()
            ))
        );
    }

    #[test]
    fn what_is_told_is_read_with_suspicion() {
        let here = Spoken::here();
        let mut metadata = MetadataMap::new();
        metadata.insert(NEWEST_KEY, "two".parse().unwrap());
        assert_eq!(
            here.agree("this node", "the caller", &metadata),
            Err(Unlike(
                "the caller tells a wire version that can't be read".to_owned()
            ))
        );
        metadata.insert(NEWEST_KEY, "9".parse().unwrap());
        for (told, shown) in [
            ("0.3.0-rc.1+x", "0.3.0-rc.1+x"),
            ("0.3.0; rm", "of unknown version"),
            (&*"9".repeat(PROGRAM_LEN_MAX + 1), "of unknown version"),
        ] {
            metadata.insert(PROGRAM_KEY, told.parse().unwrap());
            let Err(Unlike(words)) = here.agree("this node", "the caller", &metadata) else {
                panic!("understood");
            };
            assert!(
                words.starts_with(&format!(
                    "the caller speaks wire version 9 (pairdb {shown}); "
                )),
                "{words}"
            );
        }
    }
}
