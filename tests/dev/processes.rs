//! Coordinators and storage nodes as processes of their own, on one SQLite file.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::kit::{Cluster, Program, Server, until};

const ANY: &str = "127.0.0.1:0";

#[test]
fn a_node_that_was_killed_is_taken_back() {
    let mut cluster = Cluster::on_sqlite(Vec::new()).started(1, 0);
    // Each of them configured somewhat differently.
    for (number, sync) in [(1, "always"), (2, "interval:50ms"), (3, "always")] {
        let node = cluster.node(number, ANY, &["--sync", sync, "--metrics", ANY]);
        cluster.add(&node);
        cluster.nodes.push(node);
    }
    cluster.front().ok(&["put", "greeting", "hello"]);
    let metrics = cluster.nodes[0].metrics();
    assert!(metrics.contains("\nstorage_commit_merged"), "{metrics}");

    let second = cluster.coordinator();
    cluster.kill_node(3);
    assert_eq!(second.ok(&["get", "greeting"])["value_utf8"], "hello");
    second.ok(&["put", "greeting", "hello again"]);
    let by_all = ["--consistency", "all", "--timeout", "2s"];
    let indeterminate = second.fails(&[&["put", "greeting", "x"][..], &by_all].concat());
    assert_eq!(indeterminate.1, 6);
    cluster.restart_node(3);
    until("the node is taken back", || {
        let (_, code) = cluster
            .front()
            .run(&["get", "greeting", "--consistency", "all"]);
        (code == 0).then_some(())
    });

    let Cluster {
        coordinators,
        nodes,
        ..
    } = &mut cluster;
    let all = coordinators.drain(..).chain(nodes.drain(..));
    all.for_each(|server| server.stops(Signal::TERM));
    assert_eq!(
        second.fails(&["get", "greeting", "--timeout", "2s"]),
        ("QUORUM_NOT_REACHED".into(), 5)
    );
    second.stops(Signal::INT);
}

#[test]
fn several_nodes_are_added_at_once_and_one_that_is_removed_says_so() {
    let mut cluster = Cluster::on_sqlite(vec![("RUST_LOG".into(), "info".into())]).started(1, 1);
    for number in [2, 3] {
        cluster.nodes.push(cluster.node(number, ANY, &[]));
    }
    let placed = |number: usize| format!("node-{number}={}", cluster.node_address(number));
    let both = ["node", "add", &placed(2), &placed(3), "--zone", "east"];
    let added = cluster.front().ok(&both);
    assert_eq!(added["nodes"], json!(["node-2", "node-3"]));
    assert_eq!(added["migration_id"], json!(null), "nobody holds anything");
    let nodes = cluster.front().ok(&["node", "list"]);
    let zones = nodes["nodes"].as_array().unwrap().iter();
    let zones: Vec<&Value> = zones.map(|node| &node["zone"]).collect();
    assert_eq!(zones, [&json!(null), &json!("east"), &json!("east")]);

    let node = &cluster.nodes[2];
    until("it has seen that it is part of the cluster", || {
        node.has_logged("part of the cluster now").then_some(())
    });
    cluster.front().ok(&["node", "remove", "node-3"]);
    until("it has seen that it is so no more", || {
        node.has_logged("no member of the cluster any more")
            .then_some(())
    });
}

/// How many keys are owed to `node-3`.
fn owed(all: &Value) -> u64 {
    let hints = all["hints"].as_array().unwrap().iter();
    let hints = hints.filter(|hints| hints["target"] == "node-3");
    hints.map(|h| h["outstanding"].as_u64().unwrap()).sum()
}

/// Three nodes with six keys, of which `node-3` died before the last five.
fn cluster_without_node_3() -> Cluster {
    let mut cluster = Cluster::on_sqlite(Vec::new()).started(1, 3);
    let by_all = ["put", "key 0", "value", "--consistency", "all"];
    cluster.front().ok(&by_all);
    cluster.kill_node(3);
    for number in 1..=5 {
        let key = format!("key {number}");
        cluster.front().ok(&["put", &key, "value"]);
    }
    until("hints are noted", || {
        (owed(&cluster.front().ok(&["hints"])) >= 5).then_some(())
    });
    cluster
}

#[test]
fn nothing_is_owed_where_all_are_there() {
    let cluster = Cluster::on_sqlite(Vec::new()).started(1, 3);
    let front = cluster.front();
    front.ok(&["put", "key 0", "value"]);
    assert_eq!(front.ok(&["hints"])["hints"], json!([]));
    assert_eq!(front.ok(&["hints", "wait", "--node", "node-3"])["hints"], 0);
    assert_eq!(
        front.fails(&["hints", "wait", "--node", "node-4"]),
        ("NODE_NOT_FOUND".into(), 3)
    );
}

#[test]
fn what_a_node_missed_is_owed_to_it_and_told() {
    let cluster = cluster_without_node_3();
    let front = cluster.front();
    assert_eq!(front.ok(&["hints"])["did_not_answer"], json!(["node-3"]));
    assert_eq!(
        front.fails(&["hints", "wait", "--node", "node-3", "--timeout", "1s"]),
        ("TIMEOUT".into(), 5)
    );
    let convergence = &front.ok(&["status"])["convergence"];
    assert!(owed(convergence) >= 5, "{convergence}");
    let text = front.text(&["status"]);
    assert!(
        text.contains("\nhints: node-3 is owed 5 keys by node-"),
        "{text}"
    );
    let metrics = front.metrics();
    assert!(
        metrics.contains("\ncoordinator_hints_outstanding{target=\"node-3\"} 5\n"),
        "{metrics}"
    );
}

#[test]
fn owners_are_proved_equal_once_the_node_is_back() {
    let mut cluster = cluster_without_node_3();
    let unproved = Program::new(&["verify", "--json"])
        .at(cluster.front())
        .run();
    let found = unproved.exits(5).json();
    assert_eq!(
        (&found["keys"], &found["equal"], &found["differing"]),
        (&json!(6), &json!(false), &json!(0))
    );
    assert_eq!(found["not_compared"][0]["name"], "node-3");

    cluster.restart_node(3);
    let front = cluster.front();
    let waited = front.ok(&["hints", "wait", "--node", "node-3"]);
    assert!(waited["hints"].as_u64() <= Some(5), "{waited}");
    assert_eq!(owed(&front.ok(&["hints"])), 0);
    let found = front.ok(&["verify"]);
    assert_eq!(
        (&found["keys"], &found["equal"], &found["not_compared"]),
        (&json!(6), &json!(true), &json!([]))
    );
    assert_eq!(
        front.fails(&["verify", "--tenant", "nobody"]),
        ("TENANT_NOT_FOUND".into(), 3)
    );
    let text = front.text(&["verify", "--tenant", "default"]);
    assert!(
        text.starts_with("all owners are equal: 6 keys compared in "),
        "{text}"
    );
    let front = cluster.coordinators.pop().unwrap();
    front.stops(Signal::TERM);
}

#[test]
fn a_name_belongs_to_one_process_at_a_time() {
    let cluster = Cluster::on_sqlite(Vec::new()).started(1, 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().join("two");
    let first = cluster.node(1, ANY, &[]);
    cluster.add(&first);
    let address = first.address("grpc").to_string();
    let listed = || {
        let nodes = cluster.front().ok(&["node", "list"]);
        let node = &nodes["nodes"][0];
        format!("{}:{}", node["host"].as_str().unwrap(), node["port"])
    };
    // With and without the wish to be found elsewhere.
    for more in [&["--advertise", "127.0.0.1:1"][..], &[]] {
        let second = cluster.node_program_on(&elsewhere, 1, ANY, more);
        second
            .with(&["--json"])
            .run()
            .exits(4)
            .complains("NAME_IN_USE")
            .complains(&address);
        assert_eq!(listed(), address);
    }
    // Once it is gone, the node may be anywhere.
    first.stops(Signal::TERM);
    let moved: Server = cluster.node(1, ANY, &["--advertise", "127.0.0.1:1"]);
    until("the coordinator is told of it", || {
        (listed() == "127.0.0.1:1").then_some(())
    });
    moved.stops(Signal::TERM);
}
