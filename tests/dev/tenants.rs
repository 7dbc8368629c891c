//! Tenants, and concurrent values of one that keeps them.

use serde_json::json;

use super::Dev;

#[test]
fn a_tenant_is_made_once_and_its_replicas_are_changed_by_a_migration() {
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
    assert_eq!(set["migration_id"], json!(null), "it was so already");
    let dry = ["tenant", "set-replication", "carts", "1", "--dry-run"];
    assert_eq!(cluster.ok(&dry)["copies_moving"], 0, "copies are dropped");
    let set = cluster.ok(&["tenant", "set-replication", "carts", "1"]);
    assert_eq!(set["new_replication_factor"], 1);
    let id = set["migration_id"].as_str().unwrap();
    let shown = cluster.ok(&["migration", "show", id]);
    assert_eq!(shown["type"], "replication_factor");
    assert_eq!(shown["changes"][0], "replication factor 1 for tenant carts");
    assert_eq!(
        cluster.fails(&["tenant", "set-replication", "carts", "4"]),
        ("INVALID_REPLICATION_FACTOR".into(), 2)
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
