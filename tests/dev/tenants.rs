//! Tenants, and concurrent values of one that keeps them.

use serde_json::json;

use super::Dev;

#[test]
fn a_tenant_is_made_once_and_keeps_its_replicas() {
    let cluster = Dev::start();
    cluster.ok(&["put", "k", "v"]);
    assert_eq!(
        cluster.fails(&["get", "k", "--tenant", "carts"]),
        ("TENANT_NOT_FOUND".into(), 3)
    );
    let carts = cluster.ok(&["tenant", "create", "carts", "--conflict-policy", "siblings"]);
    assert_eq!(
        (&carts["replication_factor"], &carts["conflict_policy"]),
        (&json!(3), &json!("siblings"))
    );
    assert_eq!(
        cluster.fails(&["tenant", "create", "carts"]),
        ("TENANT_EXISTS".into(), 4)
    );
    let got = cluster.ok(&["tenant", "get", "carts"]);
    assert_eq!(got["conflict_policy"], "siblings");
    let set = cluster.ok(&["tenant", "set-replication", "carts", "3"]);
    assert_eq!(set["new_replication_factor"], 3);
    assert_eq!(
        cluster.fails(&["tenant", "set-replication", "carts", "1"]),
        ("NODE_IN_USE".into(), 7)
    );
}

#[test]
fn concurrent_values_are_shown_limited_and_settled() {
    let cluster = Dev::start();
    cluster.ok(&["tenant", "create", "carts", "--conflict-policy", "siblings"]);
    cluster.ok(&["put", "cart", "milk", "--tenant", "carts"]);
    cluster.ok(&["put", "cart", "bread", "--tenant", "carts"]);
    let cart = cluster.ok(&["get", "cart", "--tenant", "carts"]);
    assert_eq!(cart["siblings"].as_array().unwrap().len(), 2);
    let listed = cluster.text(&["get", "cart", "--tenant", "carts"]);
    assert!(
        listed.starts_with("--- value 1 of 2, written 2") && listed.contains("\nmilk\n"),
        "{listed}"
    );

    let two = ["--warn", "1", "--max", "2"];
    let limited = cluster.ok(&[&["tenant", "set-sibling-limits", "carts"], &two[..]].concat());
    assert_eq!(limited["siblings_max"], 2);
    assert_eq!(
        cluster.fails(&["put", "cart", "eggs", "--tenant", "carts"]),
        ("KEY_CROWDED".into(), 7),
        "a third that knows of none"
    );

    let context = cart["context"].as_str().unwrap();
    let knowing = ["--tenant", "carts", "--context", context];
    cluster.ok(&[&["put", "cart", "milk and bread"][..], &knowing].concat());
    let settled = cluster.ok(&["get", "cart", "--tenant", "carts"]);
    assert_eq!(settled["value_utf8"], "milk and bread");
}
