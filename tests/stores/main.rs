//! Coordinators and storage nodes as processes of their own, on a real PostgreSQL and a real Redis.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test of processes waits for them, and shows what it measured with --nocapture"
)]

#[path = "../kit/mod.rs"]
mod kit;
mod lost_answers;
mod race;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../../src/test_servers/mod.rs"]
mod test_servers;

use kit::{Cluster, Program, Server, on_stores, until};
use serde_json::Value;
use test_servers::{Postgres, Redis, postgres, redis};

/// The settings of processes on the stores that these tests share, each test with a database and a namespace of its
/// own.
fn settings() -> Vec<(String, String)> {
    let database = postgres().fresh();
    let (_, namespace) = database.rsplit_once('/').unwrap();
    let mut settings = on_stores(&database, &redis().url());
    settings.extend(
        [
            ("PAIRDB_REDIS__NAMESPACE", namespace),
            ("PAIRDB_COORDINATOR__CLAIM_LEASE", "1s"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    settings
}

#[test]
fn migrations_are_missed_and_made() {
    let settings = settings();
    let run = |arguments| Program::new(arguments).settings(&settings).run();
    run(&["migrate", "--check"]).exits(7);
    run(&["migrate"]).exits(0);
    run(&["migrate", "--check"]).exits(0);
}

#[test]
fn coordinators_on_postgresql_and_redis_are_one_cluster() {
    let settings = settings();
    Program::new(&["migrate"])
        .settings(&settings)
        .run()
        .exits(0);
    let cluster = Cluster::new(settings).started(3, 5);
    let coordinators = &cluster.coordinators;
    for (n, through) in coordinators.iter().enumerate() {
        let (key, next) = (format!("key-{n}"), &coordinators[(n + 1) % 3]);
        through.ok(&["put", &key, "a value"]);
        assert_eq!(next.ok(&["get", &key])["value_utf8"], "a value");
        let tenant = format!("tenant-{n}");
        through.ok(&["tenant", "create", &tenant, "--conflict-policy", "siblings"]);
        next.ok(&["put", &key, "another", "--tenant", &tenant]);
        // One key, one effect, whichever of them is asked.
        let repeated = ["put", "repeated", "once", "--idempotency-key", "i"];
        let answer = through.ok(&repeated);
        assert_eq!(answer["is_duplicate"], n > 0, "{answer}");
    }
    assert_eq!(coordinators[2].ok(&["status"])["nodes_reachable"], 5);
}

#[test]
fn what_is_missing_for_postgresql_is_said() {
    let settings = settings();
    let run = |arguments| Program::new(arguments).settings(&settings);
    run(&["coordinator"])
        .env("PAIRDB_REDIS__URL", "")
        .run()
        .exits(2)
        .complains("redis.url: must be given where database.url is PostgreSQL");
    run(&["config"])
        .run()
        .says("postgres://postgres:***@127.0.0.1");
    let nobody = "postgres://user:secret@127.0.0.1:1/none";
    let done = run(&["coordinator", "--metadata", nobody]).run();
    let done = done.exits(5).complains("database.url: ");
    assert!(!done.stderr().contains("secret"), "{done}");
}

/// Both stores end and come back under a running cluster.
#[test]
fn the_cluster_lives_through_an_outage_of_its_stores() {
    let (mut database, mut claims) = (Postgres::own(), Redis::own());
    let settings = on_stores(&database.fresh(), &claims.url());
    let cluster = Cluster::new(settings).started(2, 3);
    let [one, other] = &cluster.coordinators[..] else {
        panic!("two were started")
    };
    let once = ["put", "once", "x", "--idempotency-key", "before"];
    one.ok(&once);
    other.ok(&["put", "key", "before"]);

    database.stop();
    claims.stop();
    // What needs neither of them goes on; what needs one says so.
    one.ok(&["put", "key", "meanwhile"]);
    assert_eq!(other.ok(&["get", "key"])["value_utf8"], "meanwhile");
    for needs_one in [
        ["put", "key", "x", "--idempotency-key", "new"].as_slice(),
        &["get", "key", "--tenant", "unheard-of"],
    ] {
        let refused = one.fails(needs_one);
        assert_eq!(refused, ("STORE_UNAVAILABLE".into(), 5), "{needs_one:?}");
    }

    database.start_again();
    claims.start_again();
    let again = until_ok(other, &once);
    assert_eq!(
        again["is_duplicate"], true,
        "Redis kept what it acknowledged: {again}"
    );
    until_ok(one, &["tenant", "create", "after"]);
    until_ok(other, &["put", "key", "after", "--tenant", "after"]);
}

/// Runs a command until it succeeds.
fn until_ok(through: &Server, arguments: &[&str]) -> Value {
    until(&format!("{arguments:?}"), || {
        let (answer, code) = through.run(arguments);
        (code == 0).then_some(answer)
    })
}

#[test]
fn a_storage_node_that_was_part_of_the_cluster_starts_without_the_metadata_store() {
    let settings = settings();
    let mut cluster = Cluster::new(settings.clone()).started(1, 1);
    cluster.front().ok(&["put", "k", "v"]);
    cluster.kill_node(1);
    let address = cluster.node_address(1).to_string();

    // Nobody is at the address of the database any more, as far as these processes can tell.
    let start = |program: Program| {
        program
            .env(
                "PAIRDB_DATABASE__URL",
                "postgres://postgres@127.0.0.1:1/away",
            )
            .env("PAIRDB_DATABASE__CALL_TIMEOUT", "500ms")
    };
    let new = tempfile::tempdir().unwrap();
    let without_data = cluster.node_program_on(new.path(), 1, &address, &["--json"]);
    start(without_data)
        .run()
        .exits(5)
        .complains("METADATA_STORE");
    let node = Server::start(start(cluster.node_program(1, &address, &[])));
    let got = until_ok(cluster.front(), &["get", "k"]);
    assert_eq!(got["value_utf8"], "v");
    cluster.front().ok(&["put", "k", "w"]);
    drop(node);
}
