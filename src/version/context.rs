//! What a client was shown, as bytes that it keeps and brings back.
//!
//! Two parts. `shown` covers what the client has seen: a write that brings it overwrites all of that. `written` is the
//! client's own last write, if other siblings stood beside it then: a vector entry for it would cover earlier writes of
//! the same replica as well, some of which the client never saw, so the dot is kept apart (a dotted version vector,
//! Preguiça, Baquero, Almeida, Fonte, Gonçalves 2012).
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 8 | binding: a token of (tenant, key), big endian |
//! | varint | number of actors of `shown`, at most [`Context::ACTORS_MAX`] |
//! | | for each, ascending: |
//! | 8 | · actor, big endian |
//! | varint | · counter, at least 1 |
//! | 0, or | no `written` |
//! | 8 | · its actor, big endian |
//! | varint | · its counter, at least 1 and not covered by `shown` |
//! | 4 | crc32c of all before, little endian |
//!
//! Dots are counted per replica, not per key: brought back with another key, a context would cover writes that the
//! client never saw, and overwrite them. The binding makes that an error. The checksum finds accidents; it is no
//! signature, so a client can forge a context, for keys that it may write anyway.

use bytes::Bytes;
use thiserror::Error;

use super::framing::{self, CHECKSUM_LEN, put_varint, put_vector, varint_len, vector_len};
use super::{Actor, DecodeError, Dot, VersionVector};
use crate::mutant::{self, Mutant};

const FORMAT: u8 = 1;

/// What a client has seen of one key. The default has seen nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Everything it was shown.
    pub shown: VersionVector,
    /// Its own last write, where `shown` can't express it; never covered by `shown`.
    pub written: Option<Dot>,
}

/// Why bytes are no context for this key.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
pub enum ContextError {
    /// It was given out for another key, or another tenant's.
    #[error("the context belongs to another key")]
    OtherKey,
    /// Longer than any context given out.
    #[error("the context has {len} bytes, more than {max}", max = Context::LEN_MAX)]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// It names more actors than any context given out.
    #[error("the context names {actors} actors, more than {max}", max = Context::ACTORS_MAX)]
    TooManyActors {
        /// How many it names.
        actors: usize,
    },
    /// Not the bytes that were given out.
    #[error("not a context: {0}")]
    Undecodable(#[from] DecodeError),
}

impl Context {
    /// No context is longer (in bytes).
    pub const LEN_MAX: usize = 4096;
    /// No context names more actors: so many always fit, at up to 18 bytes each, beside the own write.
    pub const ACTORS_MAX: usize = 224;

    /// Whether a write that brings this context overwrites the version of `dot`.
    pub fn covers(&self, dot: Dot) -> bool {
        self.shown.covers(dot) || self.written == Some(dot)
    }

    /// Whether a replica that has seen `seen` has seen all that is in here.
    pub fn is_covered_by(&self, seen: &VersionVector) -> bool {
        let written = self
            .written
            .filter(|_| !mutant::on(Mutant::FloorWithoutOwnWrite));
        seen.descends(&self.shown) && written.is_none_or(|dot| seen.covers(dot))
    }

    /// The bytes for the client, for use with the key that `binding` stands for only.
    ///
    /// Of more than [`Context::ACTORS_MAX`] actors the greatest counters are kept. The context then covers less than
    /// was shown, which at worst leaves a sibling that the client meant to overwrite: nothing is lost by it.
    pub fn encode(&self, binding: u64) -> Bytes {
        let actors_max = match mutant::on(Mutant::ContextForgetsActors) {
            true => 2,
            false => Context::ACTORS_MAX,
        };
        if self.shown.len() > actors_max {
            let shown = greatest(&self.shown, actors_max);
            return Context {
                shown,
                written: self.written,
            }
            .encode(binding);
        }
        let written = self.written.filter(|dot| !self.shown.covers(*dot));
        let written_len = written.map_or(0, |dot| 8 + varint_len(dot.counter));
        let len = 1 + 8 + vector_len(self.shown.entries()) + written_len + CHECKSUM_LEN;
        let mut out = Vec::with_capacity(len);
        out.push(FORMAT);
        out.extend_from_slice(&binding.to_be_bytes());
        put_vector(&mut out, self.shown.entries());
        if let Some(dot) = written {
            out.extend_from_slice(&dot.actor.0.to_be_bytes());
            put_varint(&mut out, dot.counter);
        }
        framing::seal(&mut out);
        assert!(
            out.len() == len && len <= Context::LEN_MAX,
            "contexts are bounded"
        );
        out.into()
    }

    /// What the client brings, if these bytes were given out for this key.
    pub fn decode(bytes: &[u8], binding: u64) -> Result<Context, ContextError> {
        if bytes.len() > Context::LEN_MAX {
            return Err(ContextError::TooLong { len: bytes.len() });
        }
        let mut reader = framing::open(bytes, FORMAT)?;
        if u64::from_be_bytes(reader.array()?) != binding {
            return Err(ContextError::OtherKey);
        }
        let shown = reader.vector()?;
        let written = if reader.remaining() == 0 {
            None
        } else {
            let actor = Actor(u64::from_be_bytes(reader.array()?));
            let counter = reader.varint()?;
            Some(Dot { actor, counter })
        };
        reader.end()?;
        if written.is_some_and(|dot| dot.counter == 0 || shown.covers(dot)) {
            return Err(
                DecodeError::Malformed("the client's own write is none, or covered").into(),
            );
        }
        if shown.len() > Context::ACTORS_MAX {
            return Err(ContextError::TooManyActors {
                actors: shown.len(),
            });
        }
        Ok(Context { shown, written })
    }
}

/// The so many entries with the greatest counters.
fn greatest(seen: &VersionVector, count: usize) -> VersionVector {
    let mut entries = seen.entries().to_vec();
    entries.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    entries.truncate(count);
    entries.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Actor;

    fn vector() -> VersionVector {
        [(Actor(1), 5), (Actor(2), u64::MAX)].into_iter().collect()
    }

    fn contexts() -> [Context; 2] {
        let written = Some(Dot {
            actor: Actor(1),
            counter: 7,
        });
        [
            Context {
                shown: vector(),
                written: None,
            },
            Context {
                shown: vector(),
                written,
            },
        ]
    }

    #[test]
    fn comes_back_for_its_own_key_only() {
        for context in contexts() {
            let bytes = context.encode(77);
            assert_eq!(Context::decode(&bytes, 77), Ok(context));
            assert_eq!(Context::decode(&bytes, 78), Err(ContextError::OtherKey));
        }
    }

    #[test]
    fn the_own_write_covers_itself_and_nothing_before_it() {
        let [_, context] = contexts();
        let dot = |counter| Dot {
            actor: Actor(1),
            counter,
        };
        assert!(context.covers(dot(5)) && context.covers(dot(7)));
        assert!(!context.covers(dot(6)) && !context.covers(dot(8)));
        assert!(!context.is_covered_by(&vector()));
        let seen = [(Actor(1), 7), (Actor(2), u64::MAX)].into_iter().collect();
        assert!(context.is_covered_by(&seen));
    }

    #[test]
    fn any_change_is_noticed() {
        let context = contexts()[1].encode(77);
        for (at, bit) in (0..context.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = context.to_vec();
            changed[at] ^= 1 << bit;
            assert!(
                Context::decode(&changed, 77).is_err(),
                "byte {at} bit {bit}"
            );
        }
        for len in 0..context.len() {
            assert!(
                Context::decode(&context[..len], 77).is_err(),
                "cut to {len}"
            );
        }
    }

    #[test]
    fn is_bounded_and_then_covers_less() {
        let many: VersionVector = (1..=1000)
            .map(|n| (Actor(n << 32), u64::MAX - 1000 + n))
            .collect();
        let written = Some(Dot {
            actor: Actor(7),
            counter: u64::MAX,
        });
        let context = Context {
            shown: many.clone(),
            written,
        }
        .encode(1);
        assert!(context.len() <= Context::LEN_MAX);
        let Context {
            shown,
            written: read,
        } = Context::decode(&context, 1).unwrap();
        assert_eq!(read, written);
        assert_eq!(shown.len(), Context::ACTORS_MAX);
        assert!(many.descends(&shown));
        assert_eq!(shown.get(Actor(1000 << 32)), u64::MAX);
        assert_eq!(
            Context::decode(&vec![0; 5000], 1),
            Err(ContextError::TooLong { len: 5000 })
        );
    }

    #[test]
    fn as_long_as_one_may_be_is_read() {
        let longest = vec![0; Context::LEN_MAX];
        let refused = Context::decode(&longest, 1);
        assert!(
            matches!(refused, Err(ContextError::Undecodable(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn an_own_write_that_is_none_or_covered_is_refused() {
        let shown = [(Actor(1), 5)];
        for (actor, counter) in [(2, 0), (1, 5), (1, 4)] {
            let mut bytes = vec![FORMAT];
            bytes.extend_from_slice(&1_u64.to_be_bytes());
            put_vector(&mut bytes, &shown);
            bytes.extend_from_slice(&u64::to_be_bytes(actor));
            put_varint(&mut bytes, counter);
            framing::seal(&mut bytes);
            let refused = Context::decode(&bytes, 1);
            assert!(
                matches!(
                    refused,
                    Err(ContextError::Undecodable(DecodeError::Malformed(_)))
                ),
                "dot {counter} of {actor}: {refused:?}"
            );
        }
    }

    #[test]
    fn too_many_actors_are_refused() {
        let many: Vec<_> = (1..=300).map(|n| (Actor(n), 1)).collect();
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&1_u64.to_be_bytes());
        put_vector(&mut bytes, &many);
        framing::seal(&mut bytes);
        assert_eq!(
            Context::decode(&bytes, 1),
            Err(ContextError::TooManyActors { actors: 300 })
        );
    }
}
