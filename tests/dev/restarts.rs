//! Clusters that are stopped, killed and left alone: what was acknowledged is there.

use std::time::{Duration, Instant};

use pairdb::proto::v1::{ReadKeyValueRequest, WriteKeyValueRequest};
use rustix::process::Signal;
use tempfile::TempDir;

use super::Dev;
use super::kit::{Client, Server};

#[test]
fn acknowledged_puts_survive_a_stop_and_a_kill() {
    let directory = TempDir::new().unwrap();
    let put = |cluster: &Server, from: usize| {
        for number in from..from + 20 {
            cluster.ok(&["put", &format!("key-{number}"), &format!("value-{number}")]);
        }
    };
    let check = |cluster: &Server, count: usize| {
        for number in 0..count {
            let got = cluster.ok(&["get", &format!("key-{number}")]);
            assert_eq!(got["value_utf8"], format!("value-{number}"));
        }
    };

    let first = Server::dev(directory.path());
    put(&first, 0);
    first.stops(Signal::TERM);

    let mut second = Server::dev(directory.path());
    check(&second, 20);
    put(&second, 20);
    second.dies();

    let third = Server::dev(directory.path());
    check(&third, 40);
    third.stops(Signal::INT);
}

#[tokio::test]
async fn a_kill_under_load_loses_nothing_that_was_acknowledged() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let before = acknowledged.len();
        acknowledged.extend(write_until_killed(Server::dev(directory.path()), round).await);
        assert!(acknowledged.len() > before + 16, "it hardly wrote anything");
    }
    let cluster = Server::dev(directory.path());
    let mut connection = cluster.client().await;
    for key in acknowledged {
        let request = ReadKeyValueRequest {
            tenant_id: "default".into(),
            key: key.clone(),
            ..ReadKeyValueRequest::default()
        };
        let read = connection.read_key_value(request).await;
        let read = read.unwrap_or_else(|status| panic!("{key}: {status:?}"));
        assert_eq!(read.into_inner().value, key);
    }
    // The connection is still open, and nobody looks after it here: that must not hold the cluster up.
    let asked = Instant::now();
    cluster.stops(Signal::INT);
    assert!(asked.elapsed() < Duration::from_secs(10));
    drop(connection);
}

/// Several clients write, each its own keys, until the cluster is killed under them. Returns what was acknowledged.
async fn write_until_killed(mut cluster: Server, round: u64) -> Vec<String> {
    let connection = cluster.client().await;
    let clients = (0..16).map(|client| {
        let prefix = format!("round-{round}-client-{client}");
        tokio::spawn(write_while_it_lives(connection.clone(), prefix))
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_millis(300 + 137 * round)).await;
    cluster.dies();
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    acknowledged
}

async fn write_while_it_lives(mut connection: Client, prefix: String) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{prefix}-{number}");
        let request = WriteKeyValueRequest {
            tenant_id: "default".into(),
            key: key.clone(),
            value: key.clone().into(),
            ..WriteKeyValueRequest::default()
        };
        if connection.write_key_value(request).await.is_err() {
            break;
        }
        acknowledged.push(key);
    }
    acknowledged
}

#[test]
fn a_server_ends_with_the_process_that_holds_its_input() {
    let mut cluster = Dev::start();
    cluster.ok(&["put", "k", "v"]);
    cluster.server.end_input();
    assert_eq!(cluster.server.ended(), Some(0), "in order");
}
