//! Every route by every kind of caller.

use serde_json::{Value, json};

use super::documented;
use super::http_test::send;
use crate::api::access_table::AccessTable;
use crate::api::auth::auth_test::{ADMIN, in_seconds, jwt, required};
use crate::api::limits::LimitSettings;
use crate::api::test_cluster::TestCluster;

/// What each route that takes a body is sent.
fn body(line: &str, tenant: &str) -> Value {
    match line {
        "POST /v1/key-value" => json!({ "tenant_id": tenant, "key": "k", "value": "v" }),
        "POST /v1/tenants" => json!({ "tenant_id": tenant }),
        "PUT /v1/tenants/{tenant_id}/replication-factor" => json!({ "replication_factor": 3 }),
        "PUT /v1/admin/migrations/{migration_id}/pace" => json!({}),
        "POST /v1/admin/changes" | "POST /v1/admin/changes/plan" => {
            json!({ "changes": [{ "remove": { "node_id": "n9" } }] })
        }
        "POST /v1/admin/storage-nodes" => {
            json!({ "node_id": "n9", "host": "localhost", "port": 1 })
        }
        _ => Value::Null,
    }
}

/// Every kind of caller, and its token.
fn callers() -> [(&'static str, Option<String>); 9] {
    let own = |roles: &[&str]| Some(jwt(json!({ "tenant_id": "own", "roles": roles })));
    let expired = json!({ "tenant_id": "own", "roles": ["admin"], "exp": in_seconds(-60) });
    [
        ("none", None),
        ("garbage", Some("garbage".to_owned())),
        ("expired", Some(jwt(expired))),
        ("no-role", own(&[])),
        ("read", own(&["tenant-read"])),
        ("write", own(&["tenant-write"])),
        ("admin-of-own", own(&["admin"])),
        ("admin", Some(jwt(json!({ "roles": ["admin"] })))),
        ("key-admin", Some(ADMIN.to_owned())),
    ]
}

/// Every route of the document, as "METHOD PATH".
fn routes() -> Vec<String> {
    let (_, document) = documented().split_for_parts();
    let document = serde_json::to_value(document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    routes.collect()
}

async fn verdict(
    cluster: &TestCluster,
    route: &str,
    tenant: &str,
    token: Option<&str>,
) -> &'static str {
    let mut asked = route
        .replace("{tenant_id}", tenant)
        .replace("{node_id}", "n9")
        .replace("{migration_id}", "m1");
    if matches!(route, "GET /v1/key-value" | "DELETE /v1/key-value") {
        asked += &format!("?tenant_id={tenant}&key=k");
    }
    let (kind, body) = match body(route, tenant) {
        Value::Null => ("accept: */*", String::new()),
        body => ("content-type: application/json", body.to_string()),
    };
    let bearer = token.map(|token| format!("authorization: Bearer {token}"));
    let headers: Vec<&str> = bearer.as_deref().into_iter().chain([kind]).collect();
    let answer = send(cluster, &asked, &headers, body.as_bytes()).await;
    let challenged = answer.header("www-authenticate") == Some("Bearer");
    assert_eq!(challenged, answer.status == 401, "{route}");
    match answer.status {
        401 => {
            assert_eq!(answer.failure().1, "UNAUTHORIZED");
            "401"
        }
        403 => {
            assert_eq!(answer.failure().1, "FORBIDDEN");
            "403"
        }
        405 => panic!("{route}: {}", answer.body),
        _ => "yes", // let in, whatever else is wrong: there are no nodes and no tenants here
    }
}

#[tokio::test]
async fn every_route_by_every_caller() {
    let cluster = TestCluster::start_with(&required(), &LimitSettings::default()).await;
    let callers = callers();
    let mut table = AccessTable::new();
    for route in routes() {
        let mut answers = Vec::new();
        for (caller, token) in &callers {
            let mut verdicts = Vec::new();
            for tenant in ["own", "other"] {
                verdicts.push(verdict(&cluster, &route, tenant, token.as_deref()).await);
            }
            answers.push((*caller, verdicts));
        }
        table.way(&route, answers);
    }
    insta::assert_snapshot!(table.text(), @r"
    own tenant/other tenant
    GET /health
        yes/yes  none garbage expired no-role read write admin-of-own admin key-admin
    GET /health/live
        yes/yes  none garbage expired no-role read write admin-of-own admin key-admin
    GET /health/ready
        yes/yes  none garbage expired no-role read write admin-of-own admin key-admin
    GET /ready
        yes/yes  none garbage expired no-role read write admin-of-own admin key-admin
    POST /v1/admin/changes
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    POST /v1/admin/changes/plan
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    GET /v1/admin/migrations
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    GET /v1/admin/migrations/{migration_id}
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    POST /v1/admin/migrations/{migration_id}/cancel
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    PUT /v1/admin/migrations/{migration_id}/pace
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    GET /v1/admin/storage-nodes
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    POST /v1/admin/storage-nodes
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    DELETE /v1/admin/storage-nodes/{node_id}
        401/401  none garbage expired
        403/403  no-role read write admin-of-own
        yes/yes  admin key-admin
    DELETE /v1/key-value
        401/401  none garbage expired
        403/403  no-role read
        yes/403  write admin-of-own
        yes/yes  admin key-admin
    GET /v1/key-value
        401/401  none garbage expired
        403/403  no-role
        yes/403  read write admin-of-own
        yes/yes  admin key-admin
    POST /v1/key-value
        401/401  none garbage expired
        403/403  no-role read
        yes/403  write admin-of-own
        yes/yes  admin key-admin
    POST /v1/tenants
        401/401  none garbage expired
        403/403  no-role read write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    GET /v1/tenants/{tenant_id}
        401/401  none garbage expired
        403/403  no-role
        yes/403  read write admin-of-own
        yes/yes  admin key-admin
    PUT /v1/tenants/{tenant_id}/replication-factor
        401/401  none garbage expired
        403/403  no-role read write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    PUT /v1/tenants/{tenant_id}/sibling-limits
        401/401  none garbage expired
        403/403  no-role read write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    ");
}

#[tokio::test]
async fn what_is_left_of_a_limit_is_in_headers() {
    let limits = LimitSettings {
        reads_per_second: 2,
        ..LimitSettings::default()
    };
    let cluster = TestCluster::start_with(&crate::api::AuthSettings::default(), &limits).await;
    let mut refused = None;
    for _ in 0..10 {
        let answer = send(&cluster, "GET /v1/tenants/nobody", &[], b"").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("ten requests in a second are more than two");
    assert_eq!(refused.failure().1, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    for name in ["x-ratelimit-reset", "retry-after"] {
        let seconds: u32 = refused.header(name).unwrap().parse().unwrap();
        assert!((1..=2).contains(&seconds), "{name}: {seconds}");
    }
}
