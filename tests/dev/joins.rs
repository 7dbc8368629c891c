//! Storage nodes that become part of the cluster by themselves, once.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::kit::{Cluster, Program, Server, until};

const ANY: &str = "127.0.0.1:0";
const KEYS: usize = 30;

fn names(front: &Server) -> Vec<String> {
    let nodes = front.ok(&["node", "list"]);
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    let names = nodes.map(|node| node["node"].as_str().unwrap().to_owned());
    names.collect()
}

fn migrations(front: &Server) -> Vec<Value> {
    let listed = front.ok(&["migration", "list"]);
    listed["migrations"].as_array().unwrap().clone()
}

/// Waits until the cluster has exactly these nodes, and nothing moves any more.
fn becomes(front: &Server, nodes: &[&str]) {
    until(
        "the nodes have come and gone, and the data has moved",
        || {
            let are_over = migrations(front).iter().all(|m| m["status"] == "completed");
            (are_over && names(front) == nodes).then_some(())
        },
    );
}

/// A cluster whose processes say what they do.
fn cluster() -> Cluster {
    Cluster::on_sqlite(vec![("RUST_LOG".into(), "info".into())]).with_few_partitions()
}

#[test]
fn nodes_join_by_themselves_and_no_more_than_once() {
    let mut cluster = cluster().started(1, 0);
    let url = cluster.front().url();
    let join = ["--join", &*url, "--zone", "east"];
    for number in 1..=3 {
        let node = cluster.node(number, ANY, &join);
        cluster.nodes.push(node);
    }
    becomes(cluster.front(), &["node-1", "node-2", "node-3"]);
    assert_eq!(
        migrations(cluster.front()),
        [json!(null); 0],
        "all were empty"
    );
    let nodes = cluster.front().ok(&["node", "list"]);
    assert_eq!(nodes["nodes"][0]["zone"], "east");
    for number in 0..KEYS {
        let (key, value) = (format!("key-{number}"), format!("value-{number}"));
        cluster.front().ok(&["put", &key, &value]);
    }

    // One more, now that data has to move.
    let fourth = cluster.node(4, ANY, &join);
    let all = ["node-1", "node-2", "node-3", "node-4"];
    becomes(cluster.front(), &all);
    assert_eq!(migrations(cluster.front()).len(), 1);
    let keys = |front: &Server| front.ok(&["node", "list"])["nodes"][3]["keys"].as_u64();
    until("it says that it holds something", || {
        (keys(cluster.front()) > Some(0)).then_some(())
    });

    // A restart asks for nothing.
    let address = fourth.address("grpc").to_string();
    fourth.stops(Signal::TERM);
    let fourth = cluster.node(4, &address, &join);
    assert!(!fourth.has_logged("asks to be added"));
    // (That it is listed as reachable may be of before its restart.)
    let plan = ["node", "remove", "node-4", "--dry-run"];
    until("it answers", || {
        let (_, code) = cluster.front().run(&plan);
        (code == 0).then_some(())
    });
    assert_eq!(migrations(cluster.front()).len(), 1);

    // One that left says that it is no member, and does not come back by itself.
    cluster.front().ok(&["node", "remove", "node-4", "--wait"]);
    until("it says so", || {
        let said = fourth.has_logged("no member of the cluster any more");
        said.then_some(())
    });
    fourth.stops(Signal::TERM);
    let former = cluster.node(4, &address, &join);
    assert!(former.has_logged("no member of the cluster, though its data"));
    // Another one that comes afterwards is added meanwhile.
    let fifth = cluster.node(5, ANY, &join);
    let with_fifth = ["node-1", "node-2", "node-3", "node-5"];
    becomes(cluster.front(), &with_fifth);
    assert_eq!(migrations(cluster.front()).len(), 3);
    assert!(!former.has_logged("adds the node"));
    former.stops(Signal::TERM);

    // On an empty directory it is a new node.
    let empty = tempfile::tempdir().unwrap();
    let anew = cluster.node_program_on(empty.path(), 4, ANY, &join);
    let anew = Server::start(anew);
    let five = ["node-1", "node-2", "node-3", "node-4", "node-5"];
    becomes(cluster.front(), &five);
    for number in 0..KEYS {
        let by_all = ["get", &*format!("key-{number}"), "--consistency", "all"];
        let got = cluster.front().ok(&by_all);
        assert_eq!(got["value_utf8"], format!("value-{number}"));
    }
    drop((anew, fifth));
}

#[test]
fn a_node_asks_no_other_cluster_and_shows_its_token() {
    let own = cluster().started(1, 1);
    let key = "0123456789abcdef0123456789abcdef";
    let auth = [
        ("PAIRDB_AUTH__MODE".into(), "required".into()),
        ("PAIRDB_AUTH__ADMIN_KEY".into(), key.into()),
    ];
    let other = Cluster::on_sqlite(auth.into()).started(1, 0);
    let url = other.front().url();
    let asks = || own.node_program(2, ANY, &["--join", &url]);
    let node = Server::start(asks());
    until("it says that it is not let in", || {
        node.has_logged("not added to the cluster yet")
            .then_some(())
    });
    assert!(!node.has_logged("another cluster"));
    node.stops(Signal::TERM);

    let node = Server::start(asks().env("PAIRDB_JOIN__TOKEN", key));
    until("it says that this is another cluster", || {
        node.has_logged("is it of another cluster").then_some(())
    });
    assert!(!node.has_logged(key), "a token is a secret");
    let listed = Program::new(&["node", "list", "--json"]).at(other.front());
    let listed = listed.env("PAIRDB_TOKEN", key).run().exits(0).json();
    assert_eq!(listed["nodes"], json!([]));
    assert_eq!(names(own.front()), ["node-1"]);
    node.stops(Signal::TERM);

    // It has not been made ready for that one, so its own cluster may have it.
    let node = own.node(2, ANY, &["--join", &own.front().url()]);
    becomes(own.front(), &["node-1", "node-2"]);
    drop(node);
}

#[test]
fn a_node_that_joins_has_to_be_found() {
    let own = cluster();
    let refused = own.node_program(1, "0.0.0.0:0", &["--join", "http://127.0.0.1:1"]);
    refused.run().exits(2).complains("--advertise");
    let refused = own.node_program(1, ANY, &["--join", "127.0.0.1:1"]);
    refused.run().exits(2).complains("join.coordinator");
}
