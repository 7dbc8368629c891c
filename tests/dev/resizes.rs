//! `pairdb dev --nodes N`: a cluster that grows and shrinks, while it runs and when it is started again.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use super::Dev;
use super::kit::{Done, Program, Server, until};

const KEYS: usize = 40;

fn put_all(cluster: &Server) {
    for number in 0..KEYS {
        cluster.ok(&["put", &format!("key-{number}"), &format!("value-{number}")]);
    }
}

/// Everything that was written is at all of its owners.
fn check_all(cluster: &Server) {
    for number in 0..KEYS {
        let by_all = ["--consistency", "all"];
        let got = cluster.ok(&[&["get", &*format!("key-{number}")][..], &by_all].concat());
        assert_eq!(got["value_utf8"], format!("value-{number}"));
    }
}

fn names(cluster: &Server) -> Vec<String> {
    let nodes = cluster.ok(&["node", "list"]);
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| node["node"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until all migrations are over, and none of them failed.
fn settled(cluster: &Server) -> usize {
    until("all migrations are over", || {
        let listed = cluster.ok(&["migration", "list"]);
        let migrations = listed["migrations"].as_array().unwrap();
        let failed = migrations.iter().find(|m| m["status"] == "failed");
        assert_eq!(failed, None);
        let are_over = migrations.iter().all(|m| m["status"] == "completed");
        are_over.then_some(migrations.len())
    })
}

/// A second `pairdb dev` on the same data.
fn ask(data: &Path, nodes: &str) -> Done {
    let data = data.to_str().unwrap();
    Program::new(&["dev", "--data", data, "--nodes", nodes])
        .with(&Server::FREE_PORTS)
        .run()
}

#[test]
fn a_cluster_that_runs_grows_and_shrinks() {
    let cluster = Dev::with_few_partitions();
    put_all(&cluster);
    let data = cluster.directory.path();
    ask(data, "5")
        .exits(0)
        .says("from 3 to 5 storage nodes: migration ")
        .complains("pairdb migration watch m-");
    assert_eq!(settled(&cluster), 1, "two nodes are one change");
    let five = ["node-1", "node-2", "node-3", "node-4", "node-5"];
    assert_eq!(names(&cluster), five);
    until("the new ones say that they hold something", || {
        let nodes = cluster.ok(&["node", "list"]);
        let mut keys = [3, 4]
            .map(|index| nodes["nodes"][index]["keys"].as_u64())
            .into_iter();
        keys.all(|keys| keys > Some(0)).then_some(())
    });
    check_all(&cluster);
    ask(data, "5").exits(0).says("there are 5 storage nodes");

    ask(data, "2").exits(7).complains("replication factor 3");
    let program = Program::new(&["dev", "--data", data.to_str().unwrap(), "--nodes", "3"]);
    let asked = program.with(&["--json"]).run().exits(0).json();
    assert_eq!(asked["asked"], true);
    assert!(asked["migration_id"].is_string(), "{asked}");
    assert_eq!(settled(&cluster), 2);
    assert_eq!(names(&cluster), ["node-1", "node-2", "node-3"]);
    until("those that left are stopped", || {
        let mut left = ["node-4", "node-5"].iter();
        left.all(|node| !is_open(&data.join(node))).then_some(())
    });
    check_all(&cluster);

    // One that left comes back, on the directory that it left empty.
    ask(data, "4").exits(0);
    assert_eq!(settled(&cluster), 3);
    assert_eq!(names(&cluster), ["node-1", "node-2", "node-3", "node-4"]);
    check_all(&cluster);
}

/// Whether some process has the node's data.
fn is_open(data: &Path) -> bool {
    let lock = std::fs::File::open(data.join("lock")).unwrap();
    lock.try_lock().is_err()
}

#[test]
fn a_cluster_that_is_started_again_grows_and_shrinks() {
    let Dev { server, directory } = Dev::with_few_partitions();
    put_all(&server);
    server.stops(Signal::TERM);
    let data = directory.path().to_str().unwrap();
    let started = |nodes: &str| {
        let program = Program::new(&["dev", "--data", data, "--nodes", nodes]);
        Server::start(program.with(&Server::FREE_PORTS))
    };
    let mut grows = started("5");
    assert_eq!(grows.ready["nodes"].as_array().map(Vec::len), Some(5));
    assert!(grows.ready["migration_id"].is_string(), "{}", grows.ready);
    // It is killed at some point of it, and goes on where it was.
    grows.dies();
    let grown = Server::dev(directory.path());
    assert_eq!(settled(&grown), 1);
    assert_eq!(names(&grown).len(), 5);
    check_all(&grown);
    grown.stops(Signal::INT);

    let shrinks = started("3");
    assert_eq!(settled(&shrinks), 2);
    assert_eq!(names(&shrinks), ["node-1", "node-2", "node-3"]);
    check_all(&shrinks);
    shrinks.stops(Signal::INT);
    let same = started("3");
    assert_eq!(same.ready["migration_id"], json!(null));
    assert_eq!(same.ready["nodes"].as_array().map(Vec::len), Some(3));
    check_all(&same);
}

#[test]
fn an_empty_cluster_grows_at_once() {
    let cluster = Dev::with_few_partitions();
    let data = cluster.directory.path();
    ask(data, "4").exits(0).says("no data had to move");
    assert_eq!(names(&cluster).len(), 4);
    assert_eq!(settled(&cluster), 0);
}
