//! What the encodings of records and contexts share: a format byte first, a checksum last, canonical varints between.
//!
//! Canonical means that a value has exactly one encoding and everything else is refused, so equal bytes are equal
//! values and digests over bytes are digests over values. Reading never panics and allocates no more than a small
//! multiple of what it was given, whatever the bytes are.

use thiserror::Error;

use super::{Actor, VersionVector};
use crate::mutant::{self, Mutant};

/// Why bytes are not what they should be.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// Written by a release that this one doesn't know.
    #[error("unknown format {0}")]
    UnknownFormat(u8),
    /// The checksum does not fit.
    #[error("damaged: the checksum does not fit")]
    Damaged,
    /// The checksum fits, yet no release writes this.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// The length of the checksum (crc32c, little endian).
pub(super) const CHECKSUM_LEN: usize = 4;
/// The least that an entry of a version vector takes: eight bytes of actor and one of counter.
const ENTRY_LEN_MIN: usize = 9;

/// Checks format byte and checksum, and reads on between them.
pub(super) fn open(bytes: &[u8], format: u8) -> Result<Reader<'_>, DecodeError> {
    let body_len = bytes
        .len()
        .checked_sub(CHECKSUM_LEN)
        .ok_or(DecodeError::Truncated)?;
    let (body, checksum) = bytes.split_at(body_len);
    let found = *body.first().ok_or(DecodeError::Truncated)?;
    if found != format {
        return Err(DecodeError::UnknownFormat(found));
    }
    if crc32c::crc32c(body).to_le_bytes() != checksum && !mutant::on(Mutant::ChecksumIgnored) {
        return Err(DecodeError::Damaged);
    }
    Ok(Reader { body, at: 1 })
}

/// Appends the checksum.
pub(super) fn seal(out: &mut Vec<u8>) {
    let checksum = crc32c::crc32c(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Reads a body from its start to its end.
pub(super) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// How much is left.
    pub(super) fn remaining(&self) -> usize {
        self.body.len() - self.at
    }

    /// The next so many bytes, as a range of the whole input.
    pub(super) fn range(&mut self, len: u64) -> Result<std::ops::Range<usize>, DecodeError> {
        if len > self.remaining() as u64 {
            return Err(DecodeError::Truncated);
        }
        let start = self.at;
        self.at += len as usize;
        Ok(start..self.at)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = self.body[self.at..]
            .first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*array)
    }

    /// A LEB128 number, refused when a shorter form exists.
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Malformed("a number exceeds 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Malformed(
                        "a number is longer than it needs to be",
                    ));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed("a number exceeds 64 bits"))
    }

    /// A count of things that take at least `len_min` bytes each, so that no count asks for more room than its bytes.
    pub(super) fn count(&mut self, len_min: usize) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        if count > (self.remaining() / len_min) as u64 {
            return Err(DecodeError::Truncated);
        }
        Ok(count as usize)
    }

    /// A version vector.
    pub(super) fn vector(&mut self) -> Result<VersionVector, DecodeError> {
        let count = self.count(ENTRY_LEN_MIN)?;
        let mut entries: Vec<(Actor, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let actor = Actor(u64::from_be_bytes(self.array()?));
            if entries.last().is_some_and(|&(last, _)| last >= actor) {
                return Err(DecodeError::Malformed("actors are not in ascending order"));
            }
            let counter = self.varint()?;
            if counter == 0 {
                return Err(DecodeError::Malformed("a counter is 0"));
            }
            entries.push((actor, counter));
        }
        Ok(VersionVector::from_sorted(entries))
    }

    /// Everything must have been read.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(DecodeError::Malformed("bytes are left over")),
        }
    }
}

/// The length of a number's encoding.
pub(super) fn varint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Appends a number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The length of a version vector's encoding.
pub(super) fn vector_len(entries: &[(Actor, u64)]) -> usize {
    let counters: usize = entries
        .iter()
        .map(|&(_, counter)| varint_len(counter))
        .sum();
    varint_len(entries.len() as u64) + 8 * entries.len() + counters
}

/// Appends a version vector.
pub(super) fn put_vector(out: &mut Vec<u8>, entries: &[(Actor, u64)]) {
    put_varint(out, entries.len() as u64);
    for &(actor, counter) in entries {
        out.extend_from_slice(&actor.0.to_be_bytes());
        put_varint(out, counter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<u64, DecodeError> {
        Reader { body, at: 0 }.varint()
    }

    #[test]
    fn numbers_come_back() {
        for value in (0..64)
            .map(|bits| 1_u64 << bits)
            .flat_map(|n| [n - 1, n, n + 1])
            .chain([u64::MAX])
        {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(read(&out), Ok(value));
        }
    }

    #[test]
    fn numbers_have_one_form() {
        assert!(matches!(
            read(&[0x80, 0x00]),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(
            read(&[0xff, 0x00]),
            Err(DecodeError::Malformed(_))
        ));
        let mut eleven_bytes = vec![0xff; 10];
        eleven_bytes.push(0x01);
        assert!(matches!(
            read(&eleven_bytes),
            Err(DecodeError::Malformed(_))
        ));
        let mut bit_65 = vec![0xff; 9];
        bit_65.push(0x02);
        assert!(matches!(read(&bit_65), Err(DecodeError::Malformed(_))));
        assert_eq!(read(&[0x80]), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_count_can_not_exceed_its_bytes() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        out.extend_from_slice(&[0; 90]);
        assert_eq!(
            Reader { body: &out, at: 0 }.vector(),
            Err(DecodeError::Truncated)
        );
    }

    #[test]
    fn as_many_things_as_there_is_room_for_are_counted_and_no_more() {
        let count = |things: u64, bytes: usize| {
            let mut out = Vec::new();
            put_varint(&mut out, things);
            out.resize(out.len() + bytes, 0);
            Reader { body: &out, at: 0 }.count(9)
        };
        assert_eq!(count(10, 90), Ok(10));
        assert_eq!(count(10, 89), Err(DecodeError::Truncated));
        assert_eq!(count(11, 98), Err(DecodeError::Truncated));
    }
}
