//! What is refused because it could be meant in two ways, or because a page of another site may have sent it.

use serde_json::{Value, json};

use super::http_test::{ask, cluster, send, tell};
use crate::api::test_cluster::TestCluster;

const WRITE: &str = "POST /v1/key-value";
const JSON: &str = "content-type: application/json";

/// What a key holds now.
async fn held(cluster: &TestCluster, key: &str) -> Value {
    let line = format!("GET /v1/key-value?tenant_id=lww&key={key}");
    ask(cluster, &line).await.body["value"].clone()
}

fn body(key: &str) -> String {
    json!({ "tenant_id": "lww", "key": key, "value": "v" }).to_string()
}

#[tokio::test]
async fn a_body_is_json_and_says_so() {
    let cluster = cluster().await;
    for kind in [
        "content-type: text/plain",
        "content-type: application/x-www-form-urlencoded",
        "content-type: multipart/form-data; boundary=x",
        "content-type: application/json-seq",
        "content-type: application/json; charset=utf-16",
        "content-type: text/plain; application/json",
        "content-type: ",
        "content-type: \u{e9}",
    ] {
        let answer = send(&cluster, WRITE, &[kind], body("form").as_bytes()).await;
        assert_eq!(answer.failure(), (415, "INVALID_REQUEST"), "{kind}");
        let lines = [
            "DELETE /v1/key-value",
            "POST /v1/tenants",
            "PUT /v1/tenants/lww/sibling-limits",
            "PUT /v1/tenants/lww/replication-factor",
            "POST /v1/admin/changes",
            "POST /v1/admin/changes/plan",
            "POST /v1/admin/storage-nodes",
            "DELETE /v1/admin/storage-nodes/n1",
        ];
        for line in lines {
            let answer = send(&cluster, line, &[kind], b"{}").await;
            assert_eq!(answer.failure(), (415, "INVALID_REQUEST"), "{line} {kind}");
        }
    }
    for encoding in ["gzip", "deflate", "br", "identity, gzip"] {
        let encoding = format!("content-encoding: {encoding}");
        let answer = send(&cluster, WRITE, &[JSON, &encoding], b"\x1f\x8b\x08\0").await;
        assert_eq!(answer.failure(), (415, "INVALID_REQUEST"));
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.starts_with("Content-Encoding: "), "{message}");
    }
    assert_eq!(held(&cluster, "form").await, Value::Null);
    for kind in [
        JSON,
        "content-type: application/json; charset=utf-8",
        "Content-Type: Application/JSON;charset=\"UTF-8\"",
    ] {
        let answer = send(&cluster, WRITE, &[kind], body("k").as_bytes()).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
    }
    // Without a body there is nothing to say it of.
    let line = "DELETE /v1/key-value?tenant_id=lww&key=k";
    let answer = send(&cluster, line, &["content-type: text/plain"], b"").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_page_of_another_site_writes_nothing() {
    let cluster = cluster().await;
    let evil = "origin: https://evil.example";
    for headers in [
        &[JSON, evil] as &[&str],
        &["content-type: text/plain", evil],
        &[JSON, "origin: null"],
        &[
            JSON,
            "origin: http://localhost:1",
            "origin: http://localhost",
        ],
    ] {
        let answer = send(&cluster, WRITE, headers, body("k").as_bytes()).await;
        assert!([400, 403].contains(&answer.failure().0), "{headers:?}");
        let line = "DELETE /v1/key-value?tenant_id=lww&key=k";
        let answer = send(&cluster, line, headers, b"").await;
        assert!([400, 403].contains(&answer.failure().0), "{headers:?}");
    }
    assert_eq!(held(&cluster, "k").await, Value::Null);
    // The page at /docs.
    let own = [JSON, "origin: http://localhost"];
    let answer = send(&cluster, WRITE, &own, body("k").as_bytes()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn only_names_of_this_machine_lead_to_a_loopback_address() {
    let cluster = cluster().await;
    for line in [
        "GET /v1/key-value?tenant_id=lww&key=k",
        "GET /v1/admin/storage-nodes",
        "GET /health",
        "GET /openapi.json",
        "GET /nothing",
        "OPTIONS /v1/key-value",
    ] {
        for host in ["host: evil.example", "host: localhost.evil.example:8080"] {
            let answer = send(&cluster, line, &[host], b"").await;
            assert_eq!(answer.failure(), (421, "INVALID_REQUEST"), "{line} {host}");
        }
        let answer = send(&cluster, line, &["host: localhost", "host: evil"], b"").await;
        assert_eq!(answer.failure(), (400, "INVALID_REQUEST"), "{line}");
    }
    for host in ["host: 127.0.0.1:8080", "host: [::1]", "host: LOCALHOST"] {
        assert_eq!(
            send(&cluster, "GET /health", &[host], b"").await.status,
            200
        );
    }
}

#[tokio::test]
async fn what_is_no_text_is_no_key() {
    let cluster = cluster().await;
    let replaced = json!({ "tenant_id": "lww", "key": "\u{fffd}", "value": "mine" });
    tell(&cluster, WRITE, replaced).await;
    for key in ["%FF", "%FE", "%C3", "%ED%A0%80", "%", "%4", "%zz"] {
        for method in ["GET", "DELETE"] {
            let line = format!("{method} /v1/key-value?tenant_id=lww&key={key}");
            let answer = ask(&cluster, &line).await;
            assert_eq!(answer.failure(), (400, "INVALID_REQUEST"), "{line}");
            let message = answer.body["message"].as_str().unwrap();
            assert!(message.starts_with("key: "), "{message}");
        }
    }
    assert_eq!(held(&cluster, "%EF%BF%BD").await, "mine");
    for line in ["GET /v1/tenants/%zz", "GET /v1/tenants/%FF"] {
        assert_eq!(ask(&cluster, line).await.failure().0, 400, "{line}");
    }
    let answer = send(
        &cluster,
        WRITE,
        &[],
        b"{\"tenant_id\":\"lww\",\"key\":\"\xff\",\"value\":1}",
    )
    .await;
    assert_eq!(answer.failure(), (400, "INVALID_REQUEST"));
    let answer = send(
        &cluster,
        WRITE,
        &[],
        b"{\"tenant_id\":\"lww\",\"key\":\"k\",\"value\":\"\xff\"}",
    )
    .await;
    assert_eq!(answer.failure(), (400, "INVALID_REQUEST"));
}

#[tokio::test]
async fn base64_is_what_it_says() {
    let cluster = cluster().await;
    for text in ["a b=", " AAA", "AAA\n", "AA-/"] {
        let body = json!({ "tenant_id": "lww", "key": "k", "value_base64": text });
        let answer = tell(&cluster, WRITE, body).await;
        assert_eq!(answer.failure(), (400, "INVALID_REQUEST"), "{text:?}");
        assert_eq!(answer.body["message"], "value_base64: is not base64");
    }
    assert_eq!(held(&cluster, "k").await, Value::Null);
}

#[tokio::test]
async fn a_byte_order_mark_says_nothing() {
    let cluster = cluster().await;
    let marked = [b"\xef\xbb\xbf", body("k").as_bytes()].concat();
    assert_eq!(send(&cluster, WRITE, &[], &marked).await.status, 200);
    assert_eq!(held(&cluster, "k").await, "v");
    let utf16: Vec<u8> = body("k")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let marked = [b"\xff\xfe", utf16.as_slice()].concat();
    let answer = send(&cluster, WRITE, &[], &marked).await;
    assert_eq!(answer.body["message"], "the body is not UTF-8");
}

/// A request, `[headers]`, its body, and after `=>` the field that is said twice: in the query, in the body, in both,
/// in the path and elsewhere, in headers. BOTH is the body of a write with an idempotency key.
const SAID_TWICE: &str = r#"
GET /v1/key-value?tenant_id=lww&key=a&key=b => key
GET /v1/key-value?tenant_id=lww&key=a&key=a => key
DELETE /v1/key-value?tenant_id=lww&tenant_id=x&key=a => tenant_id
DELETE /v1/admin/storage-nodes/n1?force=true&force=false => force

POST /v1/key-value {"tenant_id":"lww","key":"k","value":1,"key":"l"} => key
POST /v1/key-value {"tenant_id":"lww","key":"k","value":1,"value":2} => value
POST /v1/key-value {"tenant_id":"lww","key":"k","value":1,"\u006bey":"l"} => key
POST /v1/tenants {"tenant_id":"t","tenant_id":"u"} => tenant_id

DELETE /v1/key-value?tenant_id=lww&key=a {"key":"b"} => key
DELETE /v1/key-value?tenant_id=lww&key=a {"tenant_id":"siblings"} => tenant_id
DELETE /v1/key-value?tenant_id=lww&key=a&consistency=all {"consistency":"one"} => consistency
DELETE /v1/key-value?tenant_id=lww&key=a&context=AA {"context":"AAA"} => context
DELETE /v1/admin/storage-nodes/n1?force=true {"force":false} => force
POST /v1/key-value?tenant_id=siblings BOTH => tenant_id
POST /v1/admin/changes?changes=[] {"factors":[]} => changes
POST /v1/admin/changes {"factors":[],"factors":[]} => factors
POST /v1/tenants?replication_factor=1 {"tenant_id":"t"} => replication_factor

PUT /v1/tenants/lww/replication-factor {"tenant_id":"x","replication_factor":3} => tenant_id
GET /v1/tenants/lww?tenant_id=siblings => tenant_id
DELETE /v1/admin/storage-nodes/n1?node_id=n2 => node_id

POST /v1/key-value [Idempotency-Key: i2] BOTH => idempotency_key
POST /v1/key-value [Idempotency-Key: i1] [Idempotency-Key: i2] BOTH => idempotency-key
POST /v1/key-value [X-Request-Timeout: 1s] [X-Request-Timeout: 2s] BOTH => x-request-timeout
"#;

/// A line of [`SAID_TWICE`].
fn request(line: &str) -> (&str, Vec<&str>, &str, &str) {
    let (request, field) = line.split_once(" => ").expect("what is said twice");
    let body_at = request.find('{').unwrap_or(request.len());
    let (head, body) = request.split_at(body_at);
    let (asked, headers) = head.split_once(" [").unwrap_or((head, ""));
    let headers = headers
        .split("] ")
        .map(|header| header.trim_start_matches('['));
    let headers = headers.filter(|header| !header.is_empty()).collect();
    (asked.trim_end(), headers, body, field)
}

#[tokio::test]
async fn what_is_said_twice_is_said_alike() {
    let cluster = cluster().await;
    let both = r#"{"tenant_id":"lww","key":"k","value":"v","idempotency_key":"i1"}"#;
    let twice = SAID_TWICE.replace("BOTH", both);
    let twice = twice.lines().filter(|line| !line.is_empty());
    for (line, headers, body, field) in twice.map(request) {
        let answer = send(&cluster, line, &headers, body.as_bytes()).await;
        assert_eq!(answer.failure(), (400, "INVALID_REQUEST"), "{line} {body}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{field}: is ")), "{message}");
    }
    assert_eq!(held(&cluster, "k").await, Value::Null);
    assert_eq!(ask(&cluster, "GET /v1/tenants/t").await.status, 404);

    // Alike is no contradiction; what is in the body counts where there is no header.
    let alike: [(&str, &[&str], &str); 4] = [
        (WRITE, &["Idempotency-Key: i1"], both),
        (WRITE, &[], both),
        (
            "DELETE /v1/key-value?tenant_id=lww&key=k",
            &["Idempotency-Key: i3"],
            r#"{"key":"k","idempotency_key":"i3"}"#,
        ),
        ("GET /v1/tenants/lww?tenant_id=lww", &[], ""),
    ];
    for (line, headers, body) in alike {
        let answer = send(&cluster, line, headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.body);
    }
    let again = send(&cluster, WRITE, &[], both.as_bytes()).await;
    assert_eq!(again.body["is_duplicate"], true);
}

#[tokio::test]
async fn of_two_tokens_none_counts() {
    use crate::api::auth::auth_test::{ADMIN, required};
    let cluster = TestCluster::start_with(&required(), &Default::default()).await;
    let (good, bad) = (
        format!("authorization: Bearer {ADMIN}"),
        "authorization: Bearer x",
    );
    let line = "GET /v1/admin/storage-nodes";
    for headers in [[&*good, bad], [bad, &*good]] {
        let answer = send(&cluster, line, &headers, b"").await;
        assert_eq!(answer.failure(), (401, "UNAUTHORIZED"));
    }
    assert_eq!(send(&cluster, line, &[&good, &good], b"").await.status, 200);
}
