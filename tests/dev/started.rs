//! What is said at the start: what is in effect, or why it can't be started and what to do.

use std::fs;

use super::Dev;
use super::kit::{Program, Server};

#[test]
fn a_port_that_is_taken_is_named() {
    let cluster = Dev::start();
    let port = cluster.address("grpc").port().to_string();
    Program::new(&["dev", "--ephemeral", "--grpc-port", &port])
        .run()
        .exits(2)
        .complains(&format!("the gRPC port {port} is taken"))
        .complains("--grpc-port");
}

#[test]
fn data_belong_to_one_process() {
    let Dev { server, directory } = Dev::start();
    let data = directory.path().to_str().unwrap();
    let again = Program::new(&["dev", "--data", data]).with(&Server::FREE_PORTS);
    again
        .run()
        .exits(1)
        .complains("in use by another process")
        .complains("--data");
    assert_eq!(server.ok(&["status"])["nodes_reachable"], 3);
}

#[test]
fn a_server_that_is_not_there_is_named_and_how_to_start_one() {
    Program::new(&["get", "key", "--server", "127.0.0.1:1"])
        .run()
        .exits(5)
        .complains("no server answers at 127.0.0.1:1")
        .complains("pairdb dev");
}

#[test]
fn a_key_that_the_configuration_does_not_have_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("pairdb.toml");
    fs::write(&config, "[server]\nprot = 1\n").unwrap();
    Program::new(&["config", "--config", config.to_str().unwrap()])
        .run()
        .exits(2)
        .complains("pairdb.toml: server.prot: no such key");
}

#[test]
fn the_configuration_in_effect_is_shown() {
    Program::new(&["config"])
        .env("PAIRDB_COORDINATOR__READ_TIMEOUT", "1500ms")
        .run()
        .says("[coordinator]\n")
        .says("read_timeout = \"1s 500ms\"");
    let json = Program::new(&["config", "--json"]).run().json();
    assert_eq!(json["server"]["shutdown_timeout"], "30s");
}

#[test]
fn the_demonstration_shows_the_quorum_at_work() {
    Program::new(&["dev", "--demo", "--ephemeral"])
        .run()
        .exits(0)
        .says("node-3 has stopped; 2 of 3 are left")
        .says("get greeting: 'hello again'");
}
