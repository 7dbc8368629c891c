//! The stores do what a coordinator asks for, and their answers get lost on the way to it. So it does not know, and
//! says so; whoever asks again, by whichever coordinator, finds what was done, and it is done once.

use crate::kit::{Cluster, on_stores};
use crate::test_servers::{Fate, Proxy, postgres, redis};

/// More often than anybody asks.
const ALWAYS: usize = 1_000_000;

#[test]
fn what_was_done_and_not_answered_is_done_once() {
    let database = postgres().fresh();
    let (_, namespace) = database.rsplit_once('/').unwrap();
    let (to_database, proxied) = postgres().through_a_proxy(&database);
    let (to_claims, claims) = redis().through_a_proxy();
    let settings = |database: &str, claims: &str| {
        let mut settings = on_stores(database, claims);
        settings.push(("PAIRDB_REDIS__NAMESPACE".to_owned(), namespace.to_owned()));
        settings
    };
    let cluster = Cluster::new(settings(&proxied, &claims)).started(1, 3);
    let others = Cluster::new(settings(&database, &redis().url())).started(1, 0);
    let (one, other) = (cluster.front(), others.front());
    let unavailable = ("STORE_UNAVAILABLE".to_owned(), 5);

    let create = ["tenant", "create", "t", "--conflict-policy", "siblings"];
    unanswered(&to_database, "COMMIT", || {
        assert_eq!(one.fails(&create), unavailable);
    });
    for coordinator in [one, other] {
        assert_eq!(coordinator.fails(&create).0, "TENANT_EXISTS");
        let tenant = coordinator.ok(&["tenant", "get", "t"]);
        assert_eq!(tenant["conflict_policy"], "siblings");
    }

    for n in 0..3 {
        let (key, once) = (format!("k-{n}"), format!("once-{n}"));
        let of_tenant = ["--tenant", "t", "--idempotency-key", &once];
        let write = [&["put", &key, "v"][..], &of_tenant].concat();
        unanswered(&to_claims, "EVALSHA", || {
            assert_eq!(one.fails(&write), unavailable);
        });
        let (first, then) = if n % 2 == 0 {
            (one, other)
        } else {
            (other, one)
        };
        let answer = crate::until_ok(first, &write);
        let again = crate::until_ok(then, &write);
        assert_eq!(again["is_duplicate"], true, "{again}");
        assert!(answer["clock"].is_object(), "{answer}");
        assert_eq!(again["clock"], answer["clock"]);
        let read = ["get", &key, "--tenant", "t", "--consistency", "all"];
        let read = crate::until_ok(other, &read);
        assert_eq!(read["value_utf8"], "v", "{read}");
        let siblings = read["siblings"].as_array().map(Vec::len);
        assert_eq!(siblings, Some(0), "it is one write: {read}");
    }

    let node = cluster.node(4, "127.0.0.1:0", &[]);
    let address = node.address("grpc");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    // There is data, so it joins by a migration.
    let add = ["node", "add", "node-4", &host, &port];
    unanswered(&to_database, "COMMIT", || {
        assert_eq!(one.fails(&add), unavailable);
    });
    let asked = |coordinator| crate::until_ok(coordinator, &add)["migration_id"].clone();
    let (first, again) = (asked(one), asked(other));
    assert!(
        first.is_string() && first == again,
        "{first}, and then {again}"
    );
    let listed = other.ok(&["migration", "list"]);
    let listed = listed["migrations"].as_array().map(Vec::len);
    assert_eq!(listed, Some(1), "it was asked for once");
}

/// Does something while the store hears this, and nobody hears its answers.
fn unanswered(proxy: &Proxy, said: &str, act: impl FnOnce()) {
    proxy.next(said, Fate::AnswerLost, ALWAYS);
    act();
    proxy.is_well();
}
