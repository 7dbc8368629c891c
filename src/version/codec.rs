//! Records as bytes: on disk, between nodes and in digests.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | varint | number of actors in `seen` |
//! | | for each, ascending: |
//! | 8 | · actor, big endian |
//! | varint | · counter, at least 1 |
//! | varint | number of siblings |
//! | | for each, ascending by dot: |
//! | varint | · the dot's actor as an index into `seen` |
//! | varint | · how far the dot's counter lies behind that entry of `seen` (0 for the latest write) |
//! | 16 | · write id, big endian |
//! | 8 | · stamp, big endian |
//! | varint | · 0 for a tombstone, else the value's length plus 1 |
//! | | · the value |
//! | 4 | crc32c of all before, little endian |
//!
//! Varints are LEB128 in their shortest form. The encoding is canonical: records are equal exactly when their bytes are,
//! and what [`Record::decode`] takes, [`Record::encode`] gives back. Index and distance make it impossible to write down
//! a sibling that was not seen. A typical record (one sibling, three actors) costs about 70 bytes beside its value.

use bytes::Bytes;

use super::framing::{self, CHECKSUM_LEN, put_varint, put_vector, varint_len, vector_len};
use super::{Content, DecodeError, Dot, Record, Stamp, Version, WriteId};

const FORMAT: u8 = 1;
/// Index, distance, write id, stamp and length take at least this.
const SIBLING_LEN_MIN: usize = 1 + 1 + 16 + 8 + 1;

impl Record {
    /// The one encoding of this record, in one allocation.
    pub fn encode(&self) -> Bytes {
        let entries = self.seen.entries();
        let siblings: usize = self
            .siblings
            .iter()
            .map(|version| sibling_len(self, version))
            .sum();
        let len = 1
            + vector_len(entries)
            + varint_len(self.siblings.len() as u64)
            + siblings
            + CHECKSUM_LEN;

        let mut out = Vec::with_capacity(len);
        out.push(FORMAT);
        put_vector(&mut out, entries);
        put_varint(&mut out, self.siblings.len() as u64);
        for version in &self.siblings {
            let (index, behind) = place(self, version);
            put_varint(&mut out, index);
            put_varint(&mut out, behind);
            out.extend_from_slice(&version.write_id.0.to_be_bytes());
            out.extend_from_slice(&version.stamp.0.to_be_bytes());
            put_varint(&mut out, length_code(&version.content));
            if let Content::Value(value) = &version.content {
                out.extend_from_slice(value);
            }
        }
        framing::seal(&mut out);
        assert_eq!(
            out.len(),
            len,
            "the length of a record's encoding is known beforehand"
        );
        out.into()
    }

    /// Reads a record; its values are slices of `input`, not copies.
    pub fn decode(input: Bytes) -> Result<Record, DecodeError> {
        let mut reader = framing::open(&input, FORMAT)?;
        let seen = reader.vector()?;
        let count = reader.count(SIBLING_LEN_MIN)?;
        let mut siblings: Vec<Version> = Vec::with_capacity(count);
        for _ in 0..count {
            let index = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
            let &(actor, latest) = seen
                .entries()
                .get(index)
                .ok_or(DecodeError::Malformed("a sibling's actor was not seen"))?;
            let counter = latest.saturating_sub(reader.varint()?);
            if counter == 0 {
                return Err(DecodeError::Malformed("a sibling's counter is less than 1"));
            }
            let dot = Dot { actor, counter };
            if siblings.last().is_some_and(|last| last.dot >= dot) {
                return Err(DecodeError::Malformed(
                    "siblings are not in ascending order",
                ));
            }
            let write_id = WriteId(u128::from_be_bytes(reader.array()?));
            let stamp = Stamp(u64::from_be_bytes(reader.array()?));
            let content = match reader.varint()? {
                0 => Content::Tombstone,
                length_plus_1 => Content::Value(input.slice(reader.range(length_plus_1 - 1)?)),
            };
            siblings.push(Version {
                dot,
                write_id,
                stamp,
                content,
            });
        }
        reader.end()?;
        Ok(Record { seen, siblings })
    }
}

fn sibling_len(record: &Record, version: &Version) -> usize {
    let (index, behind) = place(record, version);
    let value_len = version.value().map_or(0, Bytes::len);
    varint_len(index)
        + varint_len(behind)
        + 16
        + 8
        + varint_len(length_code(&version.content))
        + value_len
}

/// The index of the dot's entry in `seen`, and how far behind it the dot is.
fn place(record: &Record, version: &Version) -> (u64, u64) {
    let index = record
        .seen
        .find(version.dot.actor)
        .expect("every sibling's dot is covered by seen");
    (
        index as u64,
        record.seen.entries()[index].1 - version.dot.counter,
    )
}

fn length_code(content: &Content) -> u64 {
    match content {
        Content::Tombstone => 0,
        Content::Value(value) => value.len() as u64 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Actor, VersionVector};

    fn record() -> Record {
        let seen: VersionVector = [(Actor(1), 300), (Actor(2), 1), (Actor(3), 9)]
            .into_iter()
            .collect();
        let version = |actor, counter, content| Version {
            dot: Dot {
                actor: Actor(actor),
                counter,
            },
            write_id: WriteId(7),
            stamp: Stamp::new(1_700_000_000_000, 1),
            content,
        };
        let value = |bytes| Content::Value(Bytes::from_static(bytes));
        let siblings = vec![
            version(1, 2, value(b"")),
            version(1, 300, Content::Tombstone),
            version(3, 9, value(b"value")),
        ];
        Record::new(seen, siblings).unwrap()
    }

    #[test]
    fn comes_back() {
        assert_eq!(Record::decode(record().encode()), Ok(record()));
        assert_eq!(
            Record::decode(Record::default().encode()),
            Ok(Record::default())
        );
    }

    #[test]
    fn values_are_slices_of_the_input() {
        let bytes = record().encode();
        let decoded = Record::decode(bytes.clone()).unwrap();
        let value = decoded.siblings()[2].value().unwrap();
        assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
    }

    #[test]
    fn any_change_is_noticed() {
        let bytes = record().encode();
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            assert!(
                Record::decode(changed.into()).is_err(),
                "byte {at} bit {bit}"
            );
        }
        for len in 0..bytes.len() {
            assert!(Record::decode(bytes.slice(..len)).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn what_no_release_writes_is_refused_whatever_its_checksum() {
        const ACTOR_1: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
        const ACTOR_2: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 2];
        const ID_AND_STAMP: &[u8] = &[0; 24];
        const TOMBSTONE: &[u8] = &[0];
        let cases: &[(&str, &[&[u8]])] = &[
            ("bytes are left over", &[&[0, 0, 0]]),
            ("a counter is 0", &[&[1], ACTOR_1, &[0, 0]]),
            (
                "actors are not in ascending order",
                &[&[2], ACTOR_2, &[1], ACTOR_1, &[1, 0]],
            ),
            (
                "actors are not in ascending order",
                &[&[2], ACTOR_1, &[1], ACTOR_1, &[1, 0]],
            ),
            (
                "a number is longer than it needs to be",
                &[&[1], ACTOR_1, &[0x81, 0, 0]],
            ),
            (
                "a sibling's actor was not seen",
                &[&[1], ACTOR_1, &[5, 1], &[1, 0], ID_AND_STAMP, TOMBSTONE],
            ),
            (
                "a sibling's counter is less than 1",
                &[&[1], ACTOR_1, &[5, 1], &[0, 5], ID_AND_STAMP, TOMBSTONE],
            ),
            (
                "a sibling's counter is less than 1",
                &[&[1], ACTOR_1, &[5, 1], &[0, 6], ID_AND_STAMP, TOMBSTONE],
            ),
            (
                "siblings are not in ascending order",
                &[
                    &[1],
                    ACTOR_1,
                    &[5, 2],
                    &[0, 3],
                    ID_AND_STAMP,
                    TOMBSTONE,
                    &[0, 3],
                    ID_AND_STAMP,
                    TOMBSTONE,
                ],
            ),
        ];
        for (why, parts) in cases {
            let mut bytes = vec![FORMAT];
            bytes.extend(parts.concat());
            framing::seal(&mut bytes);
            assert_eq!(
                Record::decode(bytes.into()),
                Err(DecodeError::Malformed(why))
            );
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for body in [
            &[1, 0x7f][..],
            &[1, 0, 0x7f],
            &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            let mut bytes = body.to_vec();
            framing::seal(&mut bytes);
            assert_eq!(Record::decode(bytes.into()), Err(DecodeError::Truncated));
        }
        assert_eq!(Record::decode(Bytes::new()), Err(DecodeError::Truncated));
        assert_eq!(
            Record::decode(Bytes::from_static(&[2, 0, 0, 0, 0])),
            Err(DecodeError::UnknownFormat(2))
        );
    }
}
