//! The storage nodes of a cluster: listed, told of, and safe from what nobody published.

use pairdb::proto::v1;
use pairdb::proto::v1::coordinator_service_client::CoordinatorServiceClient;
use pairdb::proto::v1::replica_reply::Outcome;
use pairdb::proto::v1::replica_request::Operation;
use pairdb::proto::v1::storage_service_client::StorageServiceClient;
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use super::Dev;
use super::kit::Server;

#[test]
fn storage_nodes_are_listed_and_stay_while_they_hold_something() {
    let cluster = Dev::start();
    cluster.ok(&["put", "k", "v"]);
    let nodes = cluster.ok(&["node", "list"]);
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    let names: Vec<_> = nodes.map(|node| &node["node"]).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    assert_eq!(
        cluster.fails(&["node", "add", "node-4", "127.0.0.1", "1"]),
        ("NODE_IN_USE".into(), 7)
    );
    assert_eq!(
        cluster.fails(&["node", "remove", "node-1"]),
        ("NODE_IN_USE".into(), 7)
    );
}

#[test]
fn a_change_of_nodes_is_planned_asked_for_and_shown() {
    let cluster = Dev::start();
    cluster.ok(&["put", "k", "v", "--consistency", "all"]);
    let set = ["node", "set", "node-1", "--zone", "east"];
    let plan = cluster.ok(&[&set[..], &["--dry-run"]].concat());
    assert_eq!(
        (&plan["copies"], &plan["copies_moving"]),
        (&json!(3), &json!(0))
    );
    let nodes = plan["nodes"].as_array().unwrap();
    assert_eq!(
        (nodes.len(), &nodes[0]["keys_after"]),
        (3, &json!(1)),
        "each has all"
    );
    let text = cluster.text(&[&set[..], &["--dry-run"]].concat());
    assert!(
        text.contains("0 of 3 copies of keys have to be made"),
        "{text}"
    );
    assert!(
        text.contains('█') && text.contains("nothing was changed"),
        "{text}"
    );
    assert_eq!(cluster.ok(&["migration", "list"])["migrations"], json!([]));

    let asked = cluster.ok(&set);
    let id = asked["migration_id"].as_str().unwrap();
    let listed = cluster.ok(&["migration", "list"]);
    assert_eq!(listed["migrations"][0]["migration_id"], id);
    let shown = cluster.text(&["migration", "show", id]);
    assert!(shown.contains("set node-1 to zone east"), "{shown}");
    for (arguments, code) in [
        (
            &["migration", "show", "m-none"][..],
            ("MIGRATION_NOT_FOUND", 3),
        ),
        (
            &["migration", "cancel", "m-none"],
            ("MIGRATION_NOT_FOUND", 3),
        ),
        (&["migration", "pace", id, "fast"], ("USAGE", 2)),
        (&["node", "set", "node-1"], ("USAGE", 2)),
        (&["node", "add", "node-4=nowhere"], ("USAGE", 2)),
        (&["node", "remove", "node-9"], ("INVALID_REQUEST", 2)),
        (
            &["node", "replace", "node-1", "node-4=127.0.0.1:1"],
            ("NODE_IN_USE", 7),
        ),
    ] {
        let (code, exit) = (code.0.to_owned(), code.1);
        assert_eq!(cluster.fails(arguments), (code, exit), "{arguments:?}");
    }
}

#[test]
fn the_status_is_told_to_programs_and_to_people() {
    let cluster = Dev::start();
    let status = cluster.ok(&["status"]);
    assert_eq!(
        (&status["serving"], &status["nodes_reachable"]),
        (&json!(true), &json!(3))
    );
    let text = cluster.text(&["status"]);
    assert!(
        text.contains(": ready, epoch 1, 3 of 3 storage nodes reachable"),
        "{text}"
    );
    assert!(
        !text.contains('\x1b'),
        "no colours where there is no terminal"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_epoch_or_name_harms_no_node() {
    let cluster = Dev::start();
    cluster.ok(&["put", "k", "v"]);
    let epoch = cluster.ok(&["status"])["epoch"].clone();
    let too_long = {
        let mut name = b"\x06\x11\x07default".to_vec();
        name.extend(vec![b'k'; 66_000]);
        name
    };
    a_node_refuses(&cluster.ready["nodes"][0], &too_long).await;
    a_coordinator_refuses(&cluster, too_long).await;

    let status = cluster.ok(&["status"]);
    assert_eq!(
        (&status["epoch"], &status["nodes_reachable"]),
        (&epoch, &json!(3))
    );
    cluster.ok(&["put", "k", "w", "--consistency", "all"]);
    let got_from_all = ["get", "k", "--consistency", "all"];
    assert_eq!(cluster.ok(&got_from_all)["value_utf8"], "w");
    let Dev { server, directory } = cluster;
    server.stops(Signal::TERM);
    let restarted = Server::dev(directory.path());
    assert_eq!(restarted.ok(&got_from_all)["value_utf8"], "w");
}

/// Asked directly, a storage node refuses an epoch that nobody published, and a key that is too long.
async fn a_node_refuses(node: &Value, too_long: &[u8]) {
    let address = format!("http://{}", node["address"].as_str().unwrap());
    let channel = Endpoint::from_shared(address).unwrap().connect().await;
    let mut front = StorageServiceClient::new(channel.unwrap());
    for (epoch, key) in [(1 << 63, &b"\0\0\x01tk"[..]), (1, too_long)] {
        let request = v1::ReplicaRequest {
            node_id: node["node"].as_str().unwrap().to_owned(),
            epoch,
            operation: Some(Operation::Read(v1::Read {
                key: key.to_vec().into(),
            })),
            ..v1::ReplicaRequest::default()
        };
        let answer = front.read(request).await.unwrap().into_inner();
        let refused = matches!(answer.outcome, Some(Outcome::Refusal(_)));
        assert!(refused, "{epoch}: {:?}", answer.outcome);
    }
}

async fn a_coordinator_refuses(cluster: &Server, too_long: Vec<u8>) {
    let mut client: CoordinatorServiceClient<_> = cluster.client().await;
    let page = client.verify_page(v1::VerifyPageRequest {
        after: too_long.into(),
        ..v1::VerifyPageRequest::default()
    });
    let refused = page.await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
}
