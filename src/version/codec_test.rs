//! The encodings: they come back, they are canonical, and their bytes stay what they are.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::framing::{CHECKSUM_LEN, seal};
use super::generate::{context, record};
use super::{
    Actor, Content, Context, ContextError, Dot, Record, Stamp, Version, VersionVector, WriteId,
};

/// One small damage, with the checksum made to fit again: what a hostile peer can send.
#[derive(Clone, Debug)]
enum Damage {
    Change(u8),
    Insert(u8),
    Remove,
}

fn damage() -> impl Strategy<Value = (Index, Damage)> {
    let damage = prop_oneof![
        4 => any::<u8>().prop_map(Damage::Change),
        2 => any::<u8>().prop_map(Damage::Insert),
        1 => Just(Damage::Remove),
    ];
    (any::<Index>(), damage)
}

fn damaged(encoded: &Bytes, damages: &[(Index, Damage)]) -> Vec<u8> {
    let mut bytes = encoded[..encoded.len() - CHECKSUM_LEN].to_vec();
    for (at, damage) in damages {
        if bytes.len() < 2 {
            break;
        }
        let at = 1 + at.index(bytes.len() - 1);
        match damage {
            Damage::Change(byte) => bytes[at] = *byte,
            Damage::Insert(byte) => bytes.insert(at, *byte),
            Damage::Remove => drop(bytes.remove(at)),
        }
    }
    seal(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn laws_of_record_bytes(a in record(), b in record()) {
        let bytes = a.encode();
        prop_assert_eq!(Record::decode(bytes.clone()), Ok(a.clone()));
        prop_assert_eq!(bytes == b.encode(), a == b, "equal bytes are equal records");
    }

    #[test]
    fn laws_of_hostile_record_bytes(a in record(), damages in prop::collection::vec(damage(), 1..=3)) {
        let bytes = Bytes::from(damaged(&a.encode(), &damages));
        if let Ok(decoded) = Record::decode(bytes.clone()) {
            prop_assert_eq!(decoded.encode(), bytes, "what is taken is given back");
            prop_assert!(decoded.is_well_formed(), "what is taken is well-formed");
        }
    }

    #[test]
    fn laws_of_context_bytes(a in context(), b in context(), binding in 0..2_u64, other in 0..2_u64) {
        let bytes = a.encode(binding);
        let expected = if binding == other { Ok(a.clone()) } else { Err(ContextError::OtherKey) };
        prop_assert_eq!(Context::decode(&bytes, other), expected);
        prop_assert_eq!(bytes == b.encode(other), a == b && binding == other);
    }

    #[test]
    fn laws_of_hostile_context_bytes(a in context(), damages in prop::collection::vec(damage(), 1..=3)) {
        let bytes = damaged(&a.encode(5), &damages);
        if let Ok(decoded) = Context::decode(&bytes, 5) {
            prop_assert_eq!(decoded.encode(5), bytes);
        }
    }
}

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

fn seen() -> VersionVector {
    [
        (Actor(0x3f9a_0000_0000_0001), 300),
        (Actor(0xa000_0000_0000_0002), u64::MAX),
    ]
    .into_iter()
    .collect()
}

fn version(actor: u64, counter: u64, content: Content) -> Version {
    Version {
        dot: Dot {
            actor: Actor(actor),
            counter,
        },
        write_id: WriteId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        stamp: Stamp::new(1_700_000_000_000, 3),
        content,
    }
}

// The bytes below are on disks and in clients' hands: should one of these fail, then what it shows needs a new format.

#[test]
fn golden_empty_record() {
    insta::assert_snapshot!(hex(&Record::default().encode()), @"01 00 00 04 31 25 c5");
}

#[test]
fn golden_typical_record() {
    let seen = [(Actor(0x3f9a_0000_0000_0001), 300)].into_iter().collect();
    let value = version(
        0x3f9a_0000_0000_0001,
        300,
        Content::Value(Bytes::from_static(b"hello")),
    );
    insta::assert_snapshot!(hex(&Record::new(seen, vec![value]).unwrap().encode()), @r"
    01 01 3f 9a 00 00 00 00 00 01 ac 02 01 00 00 00
    11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 01
    8b cf e5 68 00 00 03 06 68 65 6c 6c 6f 3f f2 06
    4d
    ");
}

#[test]
fn golden_record_with_siblings() {
    let siblings = vec![
        version(0x3f9a_0000_0000_0001, 1, Content::Value(Bytes::new())),
        version(
            0x3f9a_0000_0000_0001,
            299,
            Content::Value(Bytes::from_static(b"x")),
        ),
        version(0xa000_0000_0000_0002, u64::MAX, Content::Tombstone),
    ];
    insta::assert_snapshot!(hex(&Record::new(seen(), siblings).unwrap().encode()), @r"
    01 02 3f 9a 00 00 00 00 00 01 ac 02 a0 00 00 00
    00 00 00 02 ff ff ff ff ff ff ff ff ff 01 03 00
    ab 02 00 11 22 33 44 55 66 77 88 99 aa bb cc dd
    ee ff 01 8b cf e5 68 00 00 03 01 00 01 00 11 22
    33 44 55 66 77 88 99 aa bb cc dd ee ff 01 8b cf
    e5 68 00 00 03 02 78 01 00 00 11 22 33 44 55 66
    77 88 99 aa bb cc dd ee ff 01 8b cf e5 68 00 00
    03 00 db 09 c5 07
    ");
}

#[test]
fn golden_record_with_everything_overwritten() {
    insta::assert_snapshot!(hex(&Record::new(seen(), vec![]).unwrap().encode()), @r"
    01 02 3f 9a 00 00 00 00 00 01 ac 02 a0 00 00 00
    00 00 00 02 ff ff ff ff ff ff ff ff ff 01 00 d0
    3c 78 d5
    ");
}

#[test]
fn golden_contexts() {
    let written = Some(Dot {
        actor: Actor(0x3f9a_0000_0000_0001),
        counter: 302,
    });
    let shown = Context {
        shown: seen(),
        written: None,
    };
    let both = Context {
        shown: seen(),
        written,
    };
    insta::assert_snapshot!(hex(&Context::default().encode(0)), @"01 00 00 00 00 00 00 00 00 00 ce 8b 8b 28");
    insta::assert_snapshot!(hex(&shown.encode(0x0123_4567_89ab_cdef)), @r"
    01 01 23 45 67 89 ab cd ef 02 3f 9a 00 00 00 00
    00 01 ac 02 a0 00 00 00 00 00 00 02 ff ff ff ff
    ff ff ff ff ff 01 6e c9 66 07
    ");
    insta::assert_snapshot!(hex(&both.encode(0x0123_4567_89ab_cdef)), @r"
    01 01 23 45 67 89 ab cd ef 02 3f 9a 00 00 00 00
    00 01 ac 02 a0 00 00 00 00 00 00 02 ff ff ff ff
    ff ff ff ff ff 01 3f 9a 00 00 00 00 00 01 ae 02
    c2 41 3e a8
    ");
}
