//! The laws of records, version vectors and hybrid clocks, on three records out of hostile bytes.
//!
//! Input: two bytes that are the lengths of the first two records, then the three, without their checksums. What can't
//! be decoded counts as the empty record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pairdb_fuzz::sealed;
use pairdb_fuzz::version::{Causality, Dot, HybridClock, Record, Version, VersionVector};

fn split(bytes: &[u8], len: u8) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len().min(usize::from(len)))
}

fn semilattice(a: &Record, b: &Record, c: &Record) {
    let ab = a.join(b);
    assert_eq!(&a.join(a), a, "idempotent");
    assert_eq!(ab, b.join(a), "commutative");
    assert_eq!(ab.join(c), a.join(&b.join(c)), "associative");
    assert_eq!(ab.join(a), ab, "absorbs what it has");
    assert_eq!(Record::decode(ab.encode()).as_ref(), Ok(&ab), "a join has an encoding");
    assert_eq!(Record::new(ab.seen().clone(), ab.siblings().to_vec()).as_ref(), Ok(&ab), "well-formed");
}

/// A write with `context`, stamped above `a`, absorbs `a`.
fn overwriting(a: &Record, context: &VersionVector, like: &Version) {
    let Some(counter) = a.seen().get(like.dot.actor).checked_add(1) else { return };
    let version = Version { dot: Dot { actor: like.dot.actor, counter }, ..like.clone() };
    let after = a.overwrite(version.clone(), context, |old| context.covers(old.dot));
    assert!(after.siblings().contains(&version));
    assert_eq!(after.join(a), after, "absorbs what it was made from");
    assert_eq!(Record::decode(after.encode()).as_ref(), Ok(&after));
}

fn partial_order(a: &VersionVector, b: &VersionVector) {
    let covers = |a: &VersionVector, b: &VersionVector| b.iter().all(|(actor, counter)| a.get(actor) >= counter);
    let expected = match (covers(a, b), covers(b, a)) {
        (true, true) => Causality::Identical,
        (true, false) => Causality::After,
        (false, true) => Causality::Before,
        (false, false) => Causality::Concurrent,
    };
    assert_eq!(a.compare(b), expected);
    let mut both = a.clone();
    both.merge(b);
    assert!(both.descends(a) && both.descends(b));
    assert_eq!(both.max_timestamp(), a.max_timestamp().max(b.max_timestamp()));
}

/// Stamps of `seen` are followed or not; ticks in between, at hostile walls, are strictly increasing all the same.
fn clock(seen: &Record, limits: &Record) {
    let mut clock = HybridClock::default();
    for (version, limit) in seen.siblings().iter().zip(limits.siblings()) {
        let before = clock.last();
        let followed = clock.observe(version.stamp, limit.stamp.wall_ms());
        assert_eq!(followed, clock.last() >= version.stamp);
        assert!(clock.last() >= before);
        let before = clock.last();
        assert!(clock.tick(limit.dot.counter) > before);
    }
}

fuzz_target!(|data: &[u8]| {
    let [len_a, len_b, rest @ ..] = data else { return };
    let (a, rest) = split(rest, *len_a);
    let (b, c) = split(rest, *len_b);
    let [a, b, c] = [a, b, c].map(|body| Record::decode(sealed(body)).unwrap_or_default());

    semilattice(&a, &b, &c);
    partial_order(a.seen(), b.seen());
    clock(&a, &b);
    if let Some(version) = c.siblings().first() {
        overwriting(&a, b.seen(), version);
    }
});
