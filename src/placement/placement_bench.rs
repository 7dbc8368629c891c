//! What placement costs, and how even it is: `cargo bench --bench placement`.
//!
//! Prints a table of balance and movement first, then divan's timings.
#![allow(
    clippy::print_stdout,
    reason = "a benchmark's product is what it prints"
)]

use divan::{Bencher, black_box};
use pairdb::placement::{
    DEFAULT_PARTITIONS, DEFAULT_VIRTUAL_NODES, Epoch, Node, NodeId, NodeStatus, PartitionId,
    Placement, Token, Topology, movement,
};

const SIZES: [usize; 3] = [3, 10, 100];
const REPLICATION_FACTORS: [usize; 2] = [1, 3];

fn main() {
    print_table();
    divan::main();
}

fn node(name: &str) -> Node {
    Node {
        id: NodeId::new(name).expect("a valid name"),
        host: name.to_owned(),
        port: 50052,
        virtual_nodes: DEFAULT_VIRTUAL_NODES,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    }
}

fn cluster(n: usize) -> Topology {
    let nodes = (0..n).map(|i| node(&format!("node-{i}"))).collect();
    Topology::new(Epoch(1), DEFAULT_PARTITIONS, nodes).expect("a valid topology")
}

/// Every node's number of partitions, over the fair number: (least, greatest, coefficient of variation).
fn balance(placement: &Placement, r: usize) -> (f64, f64, f64) {
    let mut loads = vec![0.0; placement.topology().nodes.len()];
    for number in 0..DEFAULT_PARTITIONS {
        for &owner in placement.owners(PartitionId(number as u16), r) {
            loads[usize::from(owner)] += 1.0;
        }
    }
    let n = loads.len() as f64;
    let mean = loads.iter().sum::<f64>() / n;
    let variance = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / n;
    let least = loads.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = loads.iter().copied().fold(0.0, f64::max);
    (least / mean, greatest / mean, variance.sqrt() / mean)
}

fn print_table() {
    println!(
        "{DEFAULT_PARTITIONS} partitions, {DEFAULT_VIRTUAL_NODES} virtual nodes a node; load is relative to the mean,"
    );
    println!(
        "moved is the share of copies made anew when one node is added to n, fair is 1/(n+1)\n"
    );
    println!("nodes  owners  least load  greatest  coeff. of variation   moved    fair");
    for n in SIZES {
        let before = Placement::build(cluster(n));
        let more = before.topology().with_node(node("one-more"));
        let after = Placement::build(more.expect("a valid topology"));
        for r in REPLICATION_FACTORS {
            let (least, greatest, variation) = balance(&before, r);
            let moved = movement(&before, &after, r).fraction();
            let fair = 1.0 / (n + 1) as f64;
            println!(
                "{n:>5}  {r:>6}  {least:>10.3}  {greatest:>8.3}  {variation:>19.4}  {moved:>6.4}  {fair:>6.4}"
            );
        }
    }
    println!();
}

#[divan::bench(args = SIZES)]
fn build_table(bencher: Bencher, n: usize) {
    let topology = cluster(n);
    bencher
        .with_inputs(|| topology.clone())
        .bench_values(Placement::build);
}

#[divan::bench(args = SIZES)]
fn compare_after_adding_one(bencher: Bencher, n: usize) {
    let before = Placement::build(cluster(n));
    let more = before.topology().with_node(node("one-more"));
    let after = Placement::build(more.expect("a valid topology"));
    bencher.bench(|| movement(black_box(&before), black_box(&after), 3));
}

const TENANT: &str = "tenant-0001";
const KEY: &str = "user:00000042:profile";

#[divan::bench(args = SIZES)]
fn look_up_key(bencher: Bencher, n: usize) {
    let placement = Placement::build(cluster(n));
    bencher.bench(|| {
        let partition = placement.route(black_box(TENANT), black_box(KEY));
        placement.owners(partition, black_box(3))[0]
    });
}

#[divan::bench]
fn hash_key() -> Token {
    Token::of_key(black_box(TENANT), black_box(KEY))
}

#[divan::bench(args = SIZES)]
fn look_up_token(bencher: Bencher, n: usize) {
    let placement = Placement::build(cluster(n));
    let token = Token::of_key(TENANT, KEY);
    bencher.bench(|| {
        let partition = black_box(token).partition(DEFAULT_PARTITIONS);
        placement.owners(partition, black_box(3))[0]
    });
}
