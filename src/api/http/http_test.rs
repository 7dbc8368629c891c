//! What an HTTP client sees, over real sockets: every route, every failure, and what the document says of them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{documented, failure};
use crate::api::test_cluster::TestCluster;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Status and code of a failure that is told as all are.
    pub(super) fn failure(&self) -> (u16, &str) {
        assert_eq!(self.body["status"], "error", "{}", self.body);
        assert_eq!(
            self.body["request_id"],
            self.header("x-request-id").unwrap()
        );
        assert!(!self.body["message"].as_str().unwrap().is_empty());
        assert_eq!(self.header("content-type"), Some("application/json"));
        (self.status, self.body["error_code"].as_str().unwrap())
    }
}

/// Speaks HTTP by hand, as any client might.
pub(super) async fn send(
    cluster: &TestCluster,
    line: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(cluster.http).await.unwrap();
    let mut head = format!(
        "{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    let is_given = |name: &str| {
        headers
            .iter()
            .any(|header| header.to_ascii_lowercase().starts_with(name))
    };
    if !is_given("host:") {
        head += "host: localhost\r\n";
    }
    if !is_given("content-type:") && !body.is_empty() {
        head += "content-type: application/json\r\n";
    }
    for header in headers {
        head += header;
        head += "\r\n";
    }
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .await
        .unwrap();
    // A body that is too long is refused before all of it was sent.
    let _refused = stream.write_all(body).await;
    let mut bytes = Vec::new();
    let _reset = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())),
    }
}

pub(super) async fn ask(cluster: &TestCluster, line: &str) -> Answer {
    send(cluster, line, &[], b"").await
}

pub(super) async fn tell(cluster: &TestCluster, line: &str, body: Value) -> Answer {
    send(
        cluster,
        line,
        &["content-type: application/json"],
        body.to_string().as_bytes(),
    )
    .await
}

/// A cluster with its nodes and the tenants `lww` and `siblings`, all made over HTTP.
pub(super) async fn cluster() -> TestCluster {
    let cluster = TestCluster::start().await;
    for n in 0..3 {
        let node = TestCluster::node(n);
        let name = node.id.as_str();
        let added = json!({ "node_id": name, "host": node.host, "port": node.port });
        let added = tell(&cluster, "POST /v1/admin/storage-nodes", added).await;
        assert_eq!(
            (added.status, &added.body["node_id"]),
            (202, &json!(name)),
            "{}",
            added.body
        );
        assert_eq!(
            (&added.body["status"], &added.body["migration_id"]),
            (&json!("success"), &json!(""))
        );
    }
    for policy in ["lww", "siblings"] {
        let tenant = match policy {
            "lww" => json!({ "tenant_id": policy }),
            _ => json!({ "tenant_id": policy, "replication_factor": 3, "conflict_policy": policy }),
        };
        let created = tell(&cluster, "POST /v1/tenants", tenant).await;
        assert_eq!(
            (created.status, &created.body["replication_factor"]),
            (201, &json!(3)),
            "{}",
            created.body
        );
        assert!(created.body["created_at"].as_i64().unwrap() > 1_700_000_000);
    }
    cluster
}

async fn write(cluster: &TestCluster, value: Value) -> Answer {
    tell(
        cluster,
        "POST /v1/key-value",
        json!({ "tenant_id": "lww", "key": "k", "value": value }),
    )
    .await
}

#[tokio::test]
async fn a_key_is_written_read_and_deleted() {
    let cluster = cluster().await;
    let written = write(&cluster, json!("hello")).await;
    let body = &written.body;
    assert_eq!(
        (written.status, &body["status"], &body["key"]),
        (200, &json!("success"), &json!("k"))
    );
    assert_eq!(
        (&body["consistency"], &body["is_duplicate"]),
        (&json!("quorum"), &json!(false))
    );
    assert!(
        body["replica_count"].as_i64().unwrap() >= 2
            && !body["idempotency_key"].as_str().unwrap().is_empty()
    );
    let clock = body["vector_clock"].as_object().unwrap();
    assert!(clock.len() == 1 && clock.values().all(|count| count.as_i64() > Some(0)));

    let found = ask(
        &cluster,
        "GET /v1/key-value?tenant_id=lww&key=k&consistency=all",
    )
    .await;
    assert_eq!(
        (
            found.status,
            &found.body["value"],
            &found.body["value_encoding"]
        ),
        (200, &json!("hello"), &json!("text"))
    );
    assert_eq!(
        (&found.body["vector_clock"], found.body.get("siblings")),
        (&body["vector_clock"], None)
    );

    let deleted = ask(&cluster, "DELETE /v1/key-value?tenant_id=lww&key=k").await;
    assert_eq!((deleted.status, &deleted.body["key"]), (200, &json!("k")));
    let gone = ask(&cluster, "GET /v1/key-value?tenant_id=lww&key=k").await;
    assert_eq!(gone.failure(), (404, "KEY_NOT_FOUND"));
    assert_eq!(gone.body["message"], "key 'k' not found");
    assert_eq!(
        (
            &gone.body["details"]["key"],
            &gone.body["details"]["tenant_id"]
        ),
        (&json!("k"), &json!("lww"))
    );
    assert!(!gone.body["details"]["context"].as_str().unwrap().is_empty());

    write(&cluster, json!("again")).await;
    let in_body = json!({ "tenant_id": "lww", "key": "k", "consistency": "all" });
    let deleted = tell(&cluster, "DELETE /v1/key-value", in_body).await;
    assert_eq!(
        (deleted.status, &deleted.body["consistency"]),
        (200, &json!("all"))
    );
}

#[tokio::test]
async fn values_of_every_kind_come_back() {
    let cluster = cluster().await;
    for (value, as_text) in [
        (json!({ "n": [1, 2.5, null] }), r#"{"n":[1,2.5,null]}"#),
        (json!(42), "42"),
        (json!("{\"a\": 1}"), "{\"a\": 1}"),
        (json!(""), ""),
        (json!(null), "null"),
    ] {
        assert_eq!(write(&cluster, value.clone()).await.status, 200, "{value}");
        let text = ask(&cluster, "GET /v1/key-value?tenant_id=lww&key=k").await;
        assert_eq!(text.body["value"], as_text);
        let parsed = ask(
            &cluster,
            "GET /v1/key-value?tenant_id=lww&key=k&value_as=json",
        )
        .await;
        let expected = serde_json::from_str(as_text).unwrap_or(value);
        assert_eq!(parsed.body["value"], expected);
    }
    let bytes = json!({ "tenant_id": "lww", "key": "k", "value_base64": "AP8" });
    assert_eq!(
        tell(&cluster, "POST /v1/key-value", bytes).await.status,
        200
    );
    let found = ask(&cluster, "GET /v1/key-value?tenant_id=lww&key=k").await;
    assert_eq!(
        (&found.body["value"], &found.body["value_encoding"]),
        (&json!("AP8="), &json!("base64"))
    );
}

#[tokio::test]
async fn siblings_are_shown_until_a_context_settles_them() {
    let cluster = cluster().await;
    let write = |body: Value| tell(&cluster, "POST /v1/key-value", body);
    for value in ["a", "b"] {
        write(json!({ "tenant_id": "siblings", "key": "k", "value": value })).await;
    }
    let found = ask(&cluster, "GET /v1/key-value?tenant_id=siblings&key=k").await;
    let siblings = found.body["siblings"].as_array().unwrap();
    let values: Vec<_> = siblings.iter().map(|sibling| &sibling["value"]).collect();
    assert_eq!(
        (values, &found.body["value"]),
        (vec![&json!("b"), &json!("a")], &json!("b"))
    );
    assert!(siblings[0]["stamp_unix_ms"].as_i64().unwrap() > 1_700_000_000_000);
    let context = &found.body["context"];
    write(json!({ "tenant_id": "siblings", "key": "k", "value": "c", "context": context })).await;
    let line = format!(
        "GET /v1/key-value?tenant_id=siblings&key=k&context={}",
        context.as_str().unwrap()
    );
    let settled = ask(&cluster, &line).await;
    assert_eq!(
        (&settled.body["value"], settled.body.get("siblings")),
        (&json!("c"), None)
    );
}

#[tokio::test]
async fn an_idempotency_key_has_one_effect_and_one_answer() {
    let cluster = cluster().await;
    let write = async |value: &str| {
        let body = json!({ "tenant_id": "lww", "key": "k", "value": value }).to_string();
        send(
            &cluster,
            "POST /v1/key-value",
            &["Idempotency-Key: i1"],
            body.as_bytes(),
        )
        .await
    };
    let first = write("v").await.body;
    assert_eq!(
        (&first["idempotency_key"], &first["is_duplicate"]),
        (&json!("i1"), &json!(false))
    );
    let again = write("v").await.body;
    assert_eq!(
        (&again["context"], &again["is_duplicate"]),
        (&first["context"], &json!(true))
    );
    let conflict = write("w").await;
    assert_eq!(conflict.failure(), (409, "IDEMPOTENCY_KEY_CONFLICT"));
    let delete = "DELETE /v1/key-value?tenant_id=lww&key=k";
    assert_eq!(
        send(&cluster, delete, &["idempotency-key: i1"], b"")
            .await
            .status,
        409
    );
    assert_eq!(
        send(&cluster, delete, &["idempotency-key: i2"], b"")
            .await
            .body["idempotency_key"],
        "i2"
    );
}

/// Asks each of these, with a body where there is one, and expects its status and code.
async fn all_fail(cluster: &TestCluster, asked: &[(&str, Value, u16, &str)]) {
    for (line, body, status, code) in asked {
        let answer = match body {
            Value::Null => ask(cluster, line).await,
            body => tell(cluster, line, body.clone()).await,
        };
        assert_eq!(answer.failure(), (*status, *code), "{line} {body}");
    }
}

#[tokio::test]
async fn tenants_are_looked_after() {
    const FACTOR: &str = "PUT /v1/tenants/lww/replication-factor";
    let cluster = cluster().await;
    let of = |tenant, factor| json!({ "tenant_id": tenant, "replication_factor": factor });
    let wrong = [
        (
            "POST /v1/tenants",
            json!({ "tenant_id": "lww" }),
            409,
            "TENANT_EXISTS",
        ),
        (
            "POST /v1/tenants",
            of("t", 11),
            400,
            "INVALID_REPLICATION_FACTOR",
        ),
        (
            "POST /v1/tenants",
            of("t", 10),
            400,
            "INVALID_REPLICATION_FACTOR",
        ),
        (
            "GET /v1/tenants/nobody",
            Value::Null,
            404,
            "TENANT_NOT_FOUND",
        ),
        ("GET /v1/tenants/a%3Ab", Value::Null, 400, "INVALID_REQUEST"),
        ("GET /v1/tenants/%ff", Value::Null, 400, "INVALID_REQUEST"),
        (
            FACTOR,
            json!({ "replication_factor": -1 }),
            400,
            "INVALID_REPLICATION_FACTOR",
        ),
    ];
    all_fail(&cluster, &wrong).await;

    let factor = tell(&cluster, "POST /v1/tenants", of("t", 10)).await;
    let nodes = ask(&cluster, "GET /v1/admin/storage-nodes").await;
    let nodes = nodes.body["nodes"].as_array().unwrap().len();
    let problem = factor.body["message"].as_str().unwrap();
    assert!(problem.contains(&format!("there are {nodes}")), "{problem}");

    let shown = ask(&cluster, "GET /v1/tenants/lww").await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.body["replicas_now"], 3);
    assert_eq!(shown.body["replication_factor"], 3);
    assert!(shown.body["updated_at"].as_i64() >= shown.body["created_at"].as_i64());

    let same = tell(&cluster, FACTOR, json!({ "replication_factor": 3 })).await;
    assert_eq!(same.status, 200);
    assert_eq!(same.body["old_replication_factor"], 3);
    assert_eq!(same.body["new_replication_factor"], 3);
    assert_eq!(same.body["migration_id"], "");
}

#[tokio::test]
async fn nodes_are_looked_after() {
    const NODES: &str = "POST /v1/admin/storage-nodes";
    const SECOND: &str = "DELETE /v1/admin/storage-nodes/n2";
    let cluster = cluster().await;
    let nodes = ask(&cluster, "GET /v1/admin/storage-nodes").await;
    assert_eq!(nodes.status, 200);
    let node = &nodes.body["nodes"][0];
    assert_eq!(
        (&node["node_id"], &node["status"]),
        (&json!("n1"), &json!("active"))
    );
    assert_eq!(
        (&node["virtual_nodes"], &node["port"]),
        (&json!(150), &json!(7001))
    );

    let of = |node, port| json!({ "node_id": node, "host": "localhost", "port": port });
    let wrong = [
        (NODES, of("n1", 7009), 412, "NODE_IN_USE"),
        (NODES, of("n9", 70_000), 400, "INVALID_REQUEST"),
        (
            "GET /v1/admin/migrations/m1",
            Value::Null,
            404,
            "MIGRATION_NOT_FOUND",
        ),
    ];
    all_fail(&cluster, &wrong).await;

    let removed = ask(&cluster, "DELETE /v1/admin/storage-nodes/n3?force=true").await;
    assert_eq!(removed.status, 202, "{}", removed.body);
    assert_eq!(removed.body["node_id"], "n3");
    cluster.fill(1).await;
    let perhaps = format!("{SECOND}?force=perhaps");
    let wrong = [
        (SECOND, json!({ "force": false }), 412, "NODE_IN_USE"),
        (&perhaps, Value::Null, 400, "INVALID_REQUEST"),
    ];
    all_fail(&cluster, &wrong).await;
}

#[tokio::test]
async fn migrations_are_looked_after() {
    let cluster = cluster().await;
    cluster.fill(1).await;
    cluster.start_node(3).await;
    let node = TestCluster::node(3);
    let fourth = json!({ "node_id": "n4", "host": node.host, "port": node.port, "zone": "east" });
    let asked = tell(&cluster, "POST /v1/admin/storage-nodes", fourth).await;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let id = asked.body["migration_id"].as_str().unwrap().to_owned();
    assert!(!id.is_empty(), "{}", asked.body);

    let factor = "PUT /v1/tenants/lww/replication-factor";
    let factor = tell(&cluster, factor, json!({ "replication_factor": 2 })).await;
    assert_eq!(
        (factor.status, &factor.body["old_replication_factor"]),
        (200, &json!(3))
    );
    let shown = ask(&cluster, &format!("GET /v1/admin/migrations/{id}")).await;
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert_eq!(shown.body["migration_status"], "pending");
    assert_eq!(shown.body["progress"]["partitions_done"], 0);
    assert_eq!(
        shown.body["changes"][0],
        "add n4 at localhost:7004 in zone east"
    );
    let listed = ask(&cluster, "GET /v1/admin/migrations").await;
    let names = |listed: &Answer| -> Vec<Value> {
        let migrations = listed.body["migrations"].as_array().unwrap().iter();
        migrations
            .map(|found| found["migration_id"].clone())
            .collect()
    };
    assert_eq!(
        names(&listed),
        [factor.body["migration_id"].clone(), json!(id)]
    );
    let one = ask(&cluster, "GET /v1/admin/migrations?limit=1").await;
    assert_eq!(names(&one), [factor.body["migration_id"].clone()]);

    let pace = format!("PUT /v1/admin/migrations/{id}/pace");
    let paced = tell(&cluster, &pace, json!({ "bytes_per_second_max": 4096.0 })).await;
    assert_eq!(
        (paced.status, &paced.body["bytes_per_second_max"]),
        (200, &json!(4096))
    );
    let free = tell(&cluster, &pace, json!({ "bytes_per_second_max": null })).await;
    assert_eq!(
        (free.status, &free.body["bytes_per_second_max"]),
        (200, &Value::Null)
    );
    let cancel = format!("POST /v1/admin/migrations/{id}/cancel");
    let cancelled = ask(&cluster, &cancel).await;
    assert_eq!(
        (cancelled.status, &cancelled.body["migration_status"]),
        (202, &json!("cancelled"))
    );
    let wrong = [
        (&*cancel, Value::Null, 412, "NODE_IN_USE"),
        (
            &*pace,
            json!({ "bytes_per_second_max": 1 }),
            412,
            "NODE_IN_USE",
        ),
        (
            &*pace,
            json!({ "bytes_per_second_max": -1 }),
            400,
            "INVALID_REQUEST",
        ),
        (
            "GET /v1/admin/migrations?limit=1001",
            Value::Null,
            400,
            "INVALID_REQUEST",
        ),
        (
            "GET /v1/admin/migrations?limit=some",
            Value::Null,
            400,
            "INVALID_REQUEST",
        ),
        (
            "POST /v1/admin/migrations/m-1/cancel",
            Value::Null,
            404,
            "MIGRATION_NOT_FOUND",
        ),
    ];
    all_fail(&cluster, &wrong).await;
}

#[tokio::test]
async fn several_changes_are_one_and_are_planned_before() {
    const ASK: &str = "POST /v1/admin/changes";
    const PLAN: &str = "POST /v1/admin/changes/plan";
    let cluster = cluster().await;
    for number in 0..8 {
        let key = format!("k{number}");
        let written = json!({ "tenant_id": "lww", "key": key, "value": "v", "consistency": "all" });
        let written = tell(&cluster, "POST /v1/key-value", written).await;
        assert_eq!(written.status, 200, "{}", written.body);
    }
    for node in [3, 4] {
        cluster.start_node(node).await;
    }
    let add = |node: usize| {
        let node = TestCluster::node(node);
        json!({ "node_id": node.id.as_str(), "host": node.host, "port": node.port })
    };
    let changes = json!({
        "changes": [
            { "add": add(3) },
            { "replace": { "node_id": "n2", "by": add(4), "force": null } },
            { "set": { "node_id": "n1", "virtual_nodes": 300.0, "zone": "east" } },
        ],
        "factors": [{ "tenant_id": "lww", "replication_factor": 2 }],
    });
    let planned = tell(&cluster, PLAN, changes.clone()).await;
    assert_eq!(planned.status, 200, "{}", planned.body);
    let nodes = planned.body["nodes"].as_array().unwrap().iter();
    let nodes: Vec<_> = nodes.map(|node| &node["node_id"]).collect();
    assert_eq!(nodes, ["n1", "n2", "n3", "n4", "n5"], "{}", planned.body);
    let of = |name: &str| planned.body[name].as_u64();
    assert_eq!(of("copies"), Some(16), "{}", planned.body);
    let moving = (of("copies_moving"), of("partitions_moving"));
    assert!(moving.0 > Some(0) && moving.1 > Some(0), "{}", planned.body);
    let listed = ask(&cluster, "GET /v1/admin/migrations").await;
    assert_eq!(listed.body["migrations"], json!([]), "nothing was changed");

    let asked = tell(&cluster, ASK, changes.clone()).await;
    assert_eq!(
        (asked.status, &asked.body["status"]),
        (202, &json!("success"))
    );
    let again = tell(&cluster, ASK, changes).await;
    let id = &asked.body["migration_id"];
    assert_eq!(&again.body["migration_id"], id, "it is the same change");
    let id = id.as_str().unwrap();
    let shown = ask(&cluster, &format!("GET /v1/admin/migrations/{id}")).await;
    let expected = [
        "add n4 at localhost:7004",
        "replace n2 by n5 at localhost:7005",
        "set n1 to 300 virtual nodes and zone east",
        "replication factor 2 for tenant lww",
    ];
    assert_eq!(shown.body["changes"], json!(expected));

    let set = |member: &str, value: Value| {
        let mut set = json!({ "node_id": "n1" });
        set[member] = value;
        json!({ "changes": [{ "set": set }] })
    };
    for line in [ASK, PLAN] {
        let wrong = [
            json!({ "changes": {} }),
            json!({ "changes": [{}] }),
            json!({ "changes": [{ "leave": { "node_id": "n1" } }] }),
            json!({ "changes": [{ "add": {}, "remove": { "node_id": "n1" } }] }),
            json!({ "changes": [{ "replace": { "node_id": "n1" } }] }),
            json!({ "changes": [{ "remove": { "node_id": "n3", "force": "true" } }] }),
            set("virtual_nodes", json!(1.5)),
            set("zone", json!(7)),
        ];
        let wrong = wrong.map(|body| (line, body, 400, "INVALID_REQUEST"));
        all_fail(&cluster, &wrong).await;
    }
    let remove = json!({ "remove": { "node_id": "n3" } });
    let factor = |tenant: &str, factor: i32| {
        let factor = json!({ "tenant_id": tenant, "replication_factor": factor });
        json!({ "factors": [factor] })
    };
    let bad = |body: Value| (ASK, body, 400, "INVALID_REQUEST");
    let wrong = [
        bad(json!({})),
        bad(json!({ "changes": null, "factors": null })),
        bad(json!({ "changes": [{ "remove": { "node_id": "n9" } }] })),
        bad(json!({ "changes": [remove, remove] })),
        bad(set("virtual_nodes", json!(0))),
        (ASK, factor("lww", 11), 400, "INVALID_REPLICATION_FACTOR"),
        (ASK, factor("nobody", 2), 404, "TENANT_NOT_FOUND"),
    ];
    all_fail(&cluster, &wrong).await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let cluster = cluster().await;
    let long = "x".repeat(1024 * 1024 + 1);
    let far_too_long = "x".repeat(9 * 1024 * 1024);
    let body = |value: &str| json!({ "tenant_id": "lww", "key": "k", "value": value }).to_string();
    let post = "POST /v1/key-value";
    let cases: [(&str, &[&str], String, &str); 11] = [
        (
            post,
            &[],
            "{".into(),
            "the body is not the JSON object it should be",
        ),
        (
            post,
            &[],
            "[1]".into(),
            "the body is not the JSON object it should be",
        ),
        (post, &[], "{} x".into(), "the body is not one JSON object"),
        (
            post,
            &[],
            r#"{"tenant_id": 7}"#.into(),
            "tenant_id: invalid type",
        ),
        (
            post,
            &[],
            r#"{"tenant_id": "lww", "key": "k"}"#.into(),
            "value: is missing",
        ),
        (
            post,
            &[],
            r#"{"tenant_id": null, "key": "k", "value": 1}"#.into(),
            "tenant_id: ",
        ),
        (
            post,
            &[],
            r#"{"tenant_id": "lww", "key": "", "value": 1, "unknown": 1}"#.into(),
            "key: is empty",
        ),
        (post, &[], body(&long), "value: has 1048577 bytes"),
        (
            post,
            &["x-request-timeout: soon"],
            body("v"),
            "X-Request-Timeout: is not a duration",
        ),
        (
            "GET /v1/key-value?tenant_id=lww&key=k&consistency=two",
            &[],
            String::new(),
            "consistency: is 'two'",
        ),
        (
            "GET /v1/key-value?tenant_id=lww&key=k&context=AAAA",
            &[],
            String::new(),
            "context: ",
        ),
    ];
    for (line, headers, body, message) in cases {
        let answer = send(&cluster, line, headers, body.as_bytes()).await;
        assert_eq!(answer.failure(), (400, "INVALID_REQUEST"), "{message}");
        let told = answer.body["message"].as_str().unwrap();
        assert!(told.starts_with(message), "{told}");
    }
    let long = send(&cluster, post, &[], body(&far_too_long).as_bytes()).await;
    assert_eq!(long.failure(), (413, "INVALID_REQUEST"));
    assert_eq!(
        long.body["message"],
        "the body is longer than 8388608 bytes"
    );
    for (line, status) in [
        ("GET /v1/nothing", 404),
        ("PATCH /v1/key-value", 405),
        ("POST /health", 405),
    ] {
        assert_eq!(
            ask(&cluster, line).await.failure(),
            (status, "INVALID_REQUEST"),
            "{line}"
        );
    }
    let mode = ask(
        &cluster,
        "GET /v1/key-value?tenant_id=lww&key=k&value_as=xml",
    )
    .await;
    assert_eq!(mode.failure(), (400, "INVALID_REQUEST"));
    assert_eq!(
        ask(&cluster, "GET /v1/key-value?tenant_id=nobody&key=k")
            .await
            .failure(),
        (404, "TENANT_NOT_FOUND")
    );
}

#[tokio::test]
async fn a_missing_quorum_is_told_before_the_clients_deadline() {
    let cluster = cluster().await;
    cluster.slow_down(Duration::from_millis(500));
    let body = json!({ "tenant_id": "lww", "key": "k", "value": "v" }).to_string();
    let late = send(
        &cluster,
        "POST /v1/key-value",
        &["X-Request-Timeout: 100ms"],
        body.as_bytes(),
    )
    .await;
    assert_eq!(late.failure(), (504, "QUORUM_NOT_REACHED"));
    assert_eq!(late.body["details"]["indeterminate"], "true");
    cluster.slow_down(Duration::ZERO);
    cluster.cut_off(0);
    cluster.cut_off(1);
    let missing = write(&cluster, json!("v")).await;
    assert_eq!(missing.failure(), (503, "QUORUM_NOT_REACHED"));
    let details = &missing.body["details"];
    assert_eq!(
        (&details["required"], &details["answered"]),
        (&json!("2"), &json!("1"))
    );
}

#[tokio::test]
async fn a_store_that_is_down_and_a_stop_are_told_with_when_to_retry() {
    let cluster = cluster().await;
    cluster.hang_metadata();
    let down = tell(&cluster, "POST /v1/tenants", json!({ "tenant_id": "t" })).await;
    assert_eq!(down.failure(), (504, "STORE_UNAVAILABLE"));
    assert_eq!(down.header("retry-after"), Some("1"));
    cluster.coordinator.stop();
    let refused = write(&cluster, json!("v")).await;
    assert_eq!(refused.failure(), (503, "STOPPING"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(ask(&cluster, "GET /ready").await.status, 503);
}

#[tokio::test]
async fn a_request_has_a_name() {
    let cluster = cluster().await;
    let given = send(&cluster, "GET /health", &["X-Request-ID: mine-7"], b"").await;
    assert_eq!(given.header("x-request-id"), Some("mine-7"));
    for bad in [
        "x-request-id: has spaces",
        &format!("x-request-id: {}", "x".repeat(129)),
        "x-nothing: 1",
    ] {
        let made = send(&cluster, "GET /nothing", &[bad], b"").await;
        let name = made.header("x-request-id").unwrap();
        assert!(
            name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn web_pages_may_not_call_unless_they_are_named() {
    let cluster = cluster().await;
    let answer = send(
        &cluster,
        "GET /health",
        &["Origin: https://a.example.com"],
        b"",
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_says_nothing() {
    use axum::routing::get;
    use tower::ServiceExt;
    let routes = axum::Router::new()
        .route("/", get(async || -> &'static str { panic!("a secret") }))
        .layer(failure::panics())
        .layer(axum::middleware::from_fn(super::observed::observed));
    let request = axum::extract::Request::get("/")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = routes.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 500);
    let body = axum::body::to_bytes(answer.into_body(), 4096)
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&body["error_code"], &body["message"]),
        (&json!("INTERNAL_ERROR"), &json!("internal error"))
    );
}

/// Every route of the wire contract.
const ROUTES: [(&str, &str); 20] = [
    ("delete", "/v1/admin/storage-nodes/{node_id}"),
    ("delete", "/v1/key-value"),
    ("get", "/health"),
    ("get", "/health/live"),
    ("get", "/health/ready"),
    ("get", "/ready"),
    ("get", "/v1/admin/migrations"),
    ("get", "/v1/admin/migrations/{migration_id}"),
    ("get", "/v1/admin/storage-nodes"),
    ("get", "/v1/key-value"),
    ("get", "/v1/tenants/{tenant_id}"),
    ("post", "/v1/admin/changes"),
    ("post", "/v1/admin/changes/plan"),
    ("post", "/v1/admin/migrations/{migration_id}/cancel"),
    ("post", "/v1/admin/storage-nodes"),
    ("post", "/v1/key-value"),
    ("post", "/v1/tenants"),
    ("put", "/v1/admin/migrations/{migration_id}/pace"),
    ("put", "/v1/tenants/{tenant_id}/replication-factor"),
    ("put", "/v1/tenants/{tenant_id}/sibling-limits"),
];

#[test]
fn the_document_has_every_route() {
    let document = serde_json::to_value(documented().to_openapi()).unwrap();
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(
                operation["summary"].is_string(),
                "{method} {path} has no summary"
            );
            if !path.contains("health") && path != "/ready" {
                let responses = operation["responses"].as_object().unwrap();
                assert_eq!(
                    responses.len(),
                    15,
                    "{method} {path}: one success and all failures"
                );
                assert!(responses.keys().any(|status| status.starts_with('2')));
            }
            routes.insert((method.clone(), path.clone()));
        }
    }
    let expected = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(routes, BTreeSet::from(expected));
    assert_eq!(references_without_a_schema(&document), BTreeSet::new());
}

fn references_without_a_schema(document: &Value) -> BTreeSet<String> {
    let text = document.to_string();
    let named = text.split("\"#/components/schemas/").skip(1);
    let named = named.filter_map(|rest| rest.split('"').next());
    let schemas = &document["components"]["schemas"];
    named
        .filter(|name| schemas.get(name).is_none())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_document_and_a_page_of_it_are_served_and_need_no_internet() {
    let cluster = cluster().await;
    let document = ask(&cluster, "GET /openapi.json").await;
    assert_eq!(
        (document.status, document.body["openapi"].as_str().is_some()),
        (200, true)
    );
    let page = ask(&cluster, "GET /docs/").await;
    assert_eq!(page.status, 200);
    let page = page.body.as_str().unwrap().to_owned();
    let sources = page
        .split(['"', '\''])
        .filter(|text| text.starts_with("http") || text.starts_with("//"));
    assert_eq!(sources.collect::<Vec<_>>(), Vec::<&str>::new());
    for part in [
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "swagger-initializer.js",
    ] {
        assert!(page.contains(part), "{part}");
        assert_eq!(
            ask(&cluster, &format!("GET /docs/{part}")).await.status,
            200,
            "{part}"
        );
    }
}
