//! What versions cost: `cargo bench --bench version`. Every stamp, join and read does some of this.
//!
//! The records are the usual one (one sibling of 100 bytes, three actors) and a bad day's (five siblings, eight
//! actors).

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use pairdb::version::{
    Actor, Content, Context, Dot, HybridClock, Record, Stamp, Version, VersionVector, WriteId,
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// (siblings, actors)
const SHAPES: [(u64, u64); 2] = [(1, 3), (5, 8)];

fn actor(n: u64) -> Actor {
    Actor(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn record((siblings, actors): (u64, u64), counter: u64) -> Record {
    let seen: VersionVector = (1..=actors).map(|n| (actor(n), counter + n)).collect();
    let version = |n| Version {
        dot: Dot {
            actor: actor(n),
            counter: counter + n,
        },
        write_id: WriteId(u128::from(n) << 64 | u128::from(counter)),
        stamp: Stamp::new(1_700_000_000_000, n as u16),
        content: Content::Value(Bytes::from(vec![n as u8; 100])),
    };
    Record::new(seen, (1..=siblings).map(version).collect()).expect("well-formed")
}

#[divan::bench(args = SHAPES)]
fn encode(bencher: Bencher, shape: (u64, u64)) {
    let record = record(shape, 100_000);
    let len = record.encode().len();
    bencher
        .counter(BytesCount::new(len))
        .bench(|| black_box(&record).encode());
}

#[divan::bench(args = SHAPES)]
fn decode(bencher: Bencher, shape: (u64, u64)) {
    let bytes = record(shape, 100_000).encode();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench(|| Record::decode(black_box(&bytes).clone()));
}

/// A replica joins what it already has: the other owners of a write that arrives twice, and every repair in vain.
#[divan::bench(args = SHAPES)]
fn join_identical(bencher: Bencher, shape: (u64, u64)) {
    let (held, sent) = (record(shape, 100_000), record(shape, 100_000));
    bencher.bench(|| black_box(&held).join(black_box(&sent)));
}

/// A replica joins a write that overwrites all that it has: the other owners of every write.
#[divan::bench(args = SHAPES)]
fn join_newer(bencher: Bencher, shape: (u64, u64)) {
    let (held, sent) = (record(shape, 100_000), record(shape, 200_000));
    bencher.bench(|| black_box(&held).join(black_box(&sent)));
}

#[divan::bench(args = SHAPES)]
fn overwrite(bencher: Bencher, shape: (u64, u64)) {
    let held = record(shape, 100_000);
    let written = record((1, 3), 200_000).siblings()[0].clone();
    bencher.bench(|| black_box(&held).overwrite(written.clone(), held.seen(), |_| true));
}

#[divan::bench(args = [3, 8, 64])]
fn compare(bencher: Bencher, actors: u64) {
    let (a, b) = (record((1, actors), 100_000), record((1, actors), 200_000));
    bencher.bench(|| black_box(a.seen()).compare(black_box(b.seen())));
}

#[divan::bench(args = [3, 8, 64])]
fn context_both_ways(bencher: Bencher, actors: u64) {
    let shown = record((1, actors), 100_000).seen().clone();
    let context = Context {
        shown,
        written: None,
    };
    bencher.bench(|| Context::decode(&black_box(&context).encode(7), 7));
}

#[divan::bench]
fn tick(bencher: Bencher) {
    let mut clock = HybridClock::default();
    bencher.bench_local(|| clock.tick(black_box(1_700_000_000_000)));
}
