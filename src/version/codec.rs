//! Records as bytes: on disk, between nodes and in digests.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format: 1, or 2 if overwritten writes are remembered or were forgotten |
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
//! | | in format 2: |
//! | varint | number of overwritten writes that are remembered |
//! | | for each, ascending by dot: index, distance, write id and stamp as above, |
//! | 8 | · and the stamp of what overwrote it, big endian |
//! | 8 | the greatest stamp of one that was forgotten, big endian |
//! | 4 | crc32c of all before, little endian |
//!
//! Varints are LEB128 in their shortest form. The encoding is canonical: records are equal exactly when their bytes
//! are, and what [`Record::decode`] takes, [`Record::encode`] gives back. Index and distance make it impossible to
//! write down a sibling that was not seen. A typical record (one sibling, three actors) costs about 70 bytes beside its
//! value.

use bytes::Bytes;

use super::framing::{self, CHECKSUM_LEN, Reader, put_varint, put_vector, varint_len, vector_len};
use super::{
    Content, DecodeError, Dot, Overwritten, Record, Stamp, Version, VersionVector, WriteId,
};

const FORMAT: u8 = 1;
const FORMAT_REMEMBERING: u8 = 2;
/// Index, distance, write id, stamp and length take at least this.
const SIBLING_LEN_MIN: usize = 1 + 1 + 16 + 8 + 1;
/// Index, distance, write id and two stamps.
const OVERWRITTEN_LEN_MIN: usize = 1 + 1 + 16 + 8 + 8;

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
            + overwritten_len(self)
            + CHECKSUM_LEN;

        let mut out = Vec::with_capacity(len);
        out.push(match remembers(self) {
            true => FORMAT_REMEMBERING,
            false => FORMAT,
        });
        put_vector(&mut out, entries);
        put_varint(&mut out, self.siblings.len() as u64);
        for version in &self.siblings {
            put_write(&mut out, self, version.dot, version.write_id, version.stamp);
            put_varint(&mut out, length_code(&version.content));
            if let Content::Value(value) = &version.content {
                out.extend_from_slice(value);
            }
        }
        if remembers(self) {
            put_varint(&mut out, self.overwritten.len() as u64);
            for old in &self.overwritten {
                put_write(&mut out, self, old.dot, old.write_id, old.stamp);
                out.extend_from_slice(&old.by.0.to_be_bytes());
            }
            out.extend_from_slice(&self.forgotten.0.to_be_bytes());
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
        let remembers = input.first() == Some(&FORMAT_REMEMBERING);
        let format = match remembers {
            true => FORMAT_REMEMBERING,
            false => FORMAT,
        };
        let mut reader = framing::open(&input, format)?;
        let seen = reader.vector()?;
        let count = reader.count(SIBLING_LEN_MIN)?;
        let mut siblings: Vec<Version> = Vec::with_capacity(count);
        for _ in 0..count {
            let (dot, write_id, stamp) = write(&mut reader, &seen)?;
            if siblings.last().is_some_and(|last| last.dot >= dot) {
                return Err(DecodeError::Malformed(
                    "siblings are not in ascending order",
                ));
            }
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
        let (overwritten, forgotten) = match remembers {
            true => overwritten(&mut reader, &seen, &siblings)?,
            false => (Vec::new(), Stamp::ZERO),
        };
        reader.end()?;
        Ok(Record {
            seen,
            siblings,
            overwritten,
            forgotten,
        })
    }
}

/// Dot, write id and stamp of a sibling or of what was overwritten.
fn write(
    reader: &mut Reader<'_>,
    seen: &VersionVector,
) -> Result<(Dot, WriteId, Stamp), DecodeError> {
    let index = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let &(actor, latest) = seen
        .entries()
        .get(index)
        .ok_or(DecodeError::Malformed("a sibling's actor was not seen"))?;
    let counter = latest.saturating_sub(reader.varint()?);
    if counter == 0 {
        return Err(DecodeError::Malformed("a sibling's counter is less than 1"));
    }
    let write_id = WriteId(u128::from_be_bytes(reader.array()?));
    let stamp = Stamp(u64::from_be_bytes(reader.array()?));
    Ok((Dot { actor, counter }, write_id, stamp))
}

/// What format 2 has beyond format 1.
fn overwritten(
    reader: &mut Reader<'_>,
    seen: &VersionVector,
    siblings: &[Version],
) -> Result<(Vec<Overwritten>, Stamp), DecodeError> {
    let count = reader.count(OVERWRITTEN_LEN_MIN)?;
    let mut all: Vec<Overwritten> = Vec::with_capacity(count);
    for _ in 0..count {
        let (dot, write_id, stamp) = write(reader, seen)?;
        if all.last().is_some_and(|last| last.dot >= dot) {
            return Err(DecodeError::Malformed(
                "overwritten writes are not in ascending order",
            ));
        }
        let is_sibling = siblings.binary_search_by_key(&dot, |sibling| sibling.dot);
        if is_sibling.is_ok() {
            return Err(DecodeError::Malformed("a sibling was overwritten"));
        }
        all.push(Overwritten {
            dot,
            write_id,
            stamp,
            by: Stamp(u64::from_be_bytes(reader.array()?)),
        });
    }
    let forgotten = Stamp(u64::from_be_bytes(reader.array()?));
    if all.is_empty() && forgotten == Stamp::ZERO {
        return Err(DecodeError::Malformed("nothing is remembered"));
    }
    Ok((all, forgotten))
}

fn remembers(record: &Record) -> bool {
    !record.overwritten.is_empty() || record.forgotten > Stamp::ZERO
}

fn overwritten_len(record: &Record) -> usize {
    if !remembers(record) {
        return 0;
    }
    let all = record.overwritten.iter();
    let all: usize = all.map(|old| write_len(record, old.dot) + 8).sum();
    varint_len(record.overwritten.len() as u64) + all + 8
}

/// Dot, write id and stamp.
fn put_write(out: &mut Vec<u8>, record: &Record, dot: Dot, write_id: WriteId, stamp: Stamp) {
    let (index, behind) = place(record, dot);
    put_varint(out, index);
    put_varint(out, behind);
    out.extend_from_slice(&write_id.0.to_be_bytes());
    out.extend_from_slice(&stamp.0.to_be_bytes());
}

fn write_len(record: &Record, dot: Dot) -> usize {
    let (index, behind) = place(record, dot);
    varint_len(index) + varint_len(behind) + 16 + 8
}

fn sibling_len(record: &Record, version: &Version) -> usize {
    let value_len = version.value().map_or(0, Bytes::len);
    write_len(record, version.dot) + varint_len(length_code(&version.content)) + value_len
}

/// The index of the dot's entry in `seen`, and how far behind it the dot is.
fn place(record: &Record, dot: Dot) -> (u64, u64) {
    let index = record
        .seen
        .find(dot.actor)
        .expect("every dot of a record is covered by seen");
    (index as u64, record.seen.entries()[index].1 - dot.counter)
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

    /// The same after a write that overwrote two of the three.
    fn remembering() -> Record {
        let by = Version {
            dot: Dot {
                actor: Actor(2),
                counter: 4,
            },
            write_id: WriteId(8),
            stamp: Stamp::new(1_700_000_000_999, 0),
            content: Content::Tombstone,
        };
        let after = record().overwrite(by.clone(), &VersionVector::default(), |old| {
            old.dot.actor != Actor(3)
        });
        let mut after = after.remembering(&record(), by.stamp);
        after.forgotten = Stamp(9);
        assert_eq!(after.overwritten().len(), 1);
        after
    }

    #[test]
    fn comes_back() {
        assert_eq!(Record::decode(record().encode()), Ok(record()));
        let remembering = remembering();
        assert_eq!(Record::decode(remembering.encode()), Ok(remembering));
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
        for record in [record(), remembering()] {
            any_change_of_it_is_noticed(&record.encode());
        }
    }

    fn any_change_of_it_is_noticed(bytes: &Bytes) {
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
            Record::decode(Bytes::from_static(&[3, 0, 0, 0, 0])),
            Err(DecodeError::UnknownFormat(3))
        );
    }
}
