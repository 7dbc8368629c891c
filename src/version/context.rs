//! What a client was shown, as bytes that it keeps and brings back.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 8 | binding: a token of (tenant, key), big endian |
//! | varint | number of actors, at most [`Context::ACTORS_MAX`] |
//! | | for each, ascending: |
//! | 8 | · actor, big endian |
//! | varint | · counter, at least 1 |
//! | 4 | crc32c of all before, little endian |
//!
//! Dots are counted per replica, not per key: brought back with another key, a context would cover writes that the client
//! never saw, and overwrite them. The binding makes that an error. The checksum finds accidents; it is no signature, so a
//! client can forge a context, for keys that it may write anyway.

use bytes::Bytes;
use thiserror::Error;

use super::framing::{self, CHECKSUM_LEN, put_vector, vector_len};
use super::{DecodeError, VersionVector};

const FORMAT: u8 = 1;

/// The encoding of contexts; the decoded form is a [`VersionVector`].
pub struct Context;

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
    /// No context names more actors: so many always fit, at up to 18 bytes each.
    pub const ACTORS_MAX: usize = 226;

    /// What a client was shown, for use with the key that `binding` stands for only.
    ///
    /// Of a vector with more than [`Context::ACTORS_MAX`] actors the greatest counters are kept. The context then covers
    /// less than was shown, which at worst leaves a sibling that the client meant to overwrite: nothing is lost by it.
    pub fn encode(seen: &VersionVector, binding: u64) -> Bytes {
        if seen.len() > Context::ACTORS_MAX {
            return Context::encode(&greatest(seen, Context::ACTORS_MAX), binding);
        }
        let len = 1 + 8 + vector_len(seen.entries()) + CHECKSUM_LEN;
        let mut out = Vec::with_capacity(len);
        out.push(FORMAT);
        out.extend_from_slice(&binding.to_be_bytes());
        put_vector(&mut out, seen.entries());
        framing::seal(&mut out);
        assert!(
            out.len() == len && len <= Context::LEN_MAX,
            "contexts are bounded"
        );
        out.into()
    }

    /// What the client was shown, if these bytes were given out for this key.
    pub fn decode(bytes: &[u8], binding: u64) -> Result<VersionVector, ContextError> {
        if bytes.len() > Context::LEN_MAX {
            return Err(ContextError::TooLong { len: bytes.len() });
        }
        let mut reader = framing::open(bytes, FORMAT)?;
        if u64::from_be_bytes(reader.array()?) != binding {
            return Err(ContextError::OtherKey);
        }
        let seen = reader.vector()?;
        reader.end()?;
        if seen.len() > Context::ACTORS_MAX {
            return Err(ContextError::TooManyActors { actors: seen.len() });
        }
        Ok(seen)
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

    fn shown() -> VersionVector {
        [(Actor(1), 5), (Actor(2), u64::MAX)].into_iter().collect()
    }

    #[test]
    fn comes_back_for_its_own_key_only() {
        let context = Context::encode(&shown(), 77);
        assert_eq!(Context::decode(&context, 77), Ok(shown()));
        assert_eq!(Context::decode(&context, 78), Err(ContextError::OtherKey));
    }

    #[test]
    fn any_change_is_noticed() {
        let context = Context::encode(&shown(), 77);
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
        let context = Context::encode(&many, 1);
        assert!(context.len() <= Context::LEN_MAX);
        let shown = Context::decode(&context, 1).unwrap();
        assert_eq!(shown.len(), Context::ACTORS_MAX);
        assert!(many.descends(&shown));
        assert_eq!(shown.get(Actor(1000 << 32)), u64::MAX);
        assert_eq!(
            Context::decode(&vec![0; 5000], 1),
            Err(ContextError::TooLong { len: 5000 })
        );
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
