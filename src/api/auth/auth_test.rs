//! Every RPC by every kind of caller, over a real socket.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use prost_types::FileDescriptorSet;
use ring::hmac;
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::super::access_table::AccessTable;
use super::super::limits::LimitSettings;
use super::super::test_cluster::TestCluster;
use super::{AuthMode, AuthSettings, Secret};
use crate::proto::{self, v1};

/// The administrator's key of the cluster under test.
pub(in crate::api) const ADMIN: &str = "the-administrator-of-a-test-cluster";
/// What JWTs are signed with.
pub(in crate::api) const SECRET: &str = "a secret that is only used in tests and is long enough";

/// Tokens are needed.
pub(in crate::api) fn required() -> AuthSettings {
    AuthSettings {
        mode: AuthMode::Required,
        admin_key: Secret::from(ADMIN),
        jwt_secret: Secret::from(SECRET),
        ..AuthSettings::default()
    }
}

/// Seconds from now, as claims have them.
pub(in crate::api) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().cast_signed() + seconds
}

/// A JWT with these claims, good for an hour unless they say otherwise.
pub(in crate::api) fn jwt(claims: Value) -> String {
    let mut all = json!({ "exp": in_seconds(3600) });
    let more = claims.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    signed_with(
        SECRET.as_bytes(),
        &json!({ "alg": "HS256", "typ": "JWT" }),
        &all,
    )
}

/// A JWT that is signed with a secret.
pub(in crate::api) fn signed_with(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = unsigned(header, claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What is signed of a JWT.
pub(in crate::api) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

struct Asker {
    grpc: Grpc<Channel>,
}

impl Asker {
    async fn new(cluster: &TestCluster) -> Self {
        let grpc = Grpc::new(cluster.channel().await);
        Self { grpc }
    }

    /// Calls any method with any message.
    async fn ask<Q, A>(
        &mut self,
        path: &str,
        message: Q,
        authorization: Option<&str>,
    ) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(5));
        if let Some(text) = authorization {
            request
                .metadata_mut()
                .insert("authorization", text.parse().unwrap());
        }
        self.grpc.ready().await.unwrap();
        let path: PathAndQuery = path.parse().unwrap();
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        self.grpc
            .unary(request, path, codec)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn by_admin<Q, A>(&mut self, method: &str, message: Q) -> A
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path = format!("/pairdb.v1.CoordinatorService/{method}");
        let admin = format!("Bearer {ADMIN}");
        self.ask(&path, message, Some(&admin)).await.unwrap()
    }

    /// Makes a tenant's API key.
    async fn key(&mut self, tenant: &str, role: &str) -> v1::CreateApiKeyResponse {
        let request = v1::CreateApiKeyRequest {
            tenant_id: tenant.into(),
            role: role.into(),
        };
        self.by_admin("CreateApiKey", request).await
    }
}

/// A cluster with the tenants `own` and `other` that needs tokens.
async fn cluster() -> (TestCluster, Asker) {
    let cluster = TestCluster::start_with(&required(), &LimitSettings::default()).await;
    let mut asker = Asker::new(&cluster).await;
    for n in 0..3 {
        let node = TestCluster::node(n);
        let request = v1::AddStorageNodeRequest {
            node_id: node.id.as_str().into(),
            host: node.host,
            port: node.port.into(),
            virtual_nodes: 0,
            zone: String::new(),
        };
        let _: v1::AddStorageNodeResponse = asker.by_admin("AddStorageNode", request).await;
    }
    for tenant_id in ["own", "other"].map(String::from) {
        let request = v1::CreateTenantRequest {
            tenant_id,
            ..Default::default()
        };
        let _: v1::CreateTenantResponse = asker.by_admin("CreateTenant", request).await;
    }
    (cluster, asker)
}

/// All methods of the service, and whether their requests begin with a tenant's name.
fn methods() -> Vec<(String, bool)> {
    let files = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
    let messages: HashMap<_, _> = files
        .iter()
        .flat_map(|file| &file.message_type)
        .map(|message| (message.name(), message))
        .collect();
    let services = files.iter().flat_map(|file| &file.service);
    let service = services
        .filter(|service| service.name() == "CoordinatorService")
        .flat_map(|service| &service.method);
    let of_tenant = |input: &str| {
        let message = messages[input.rsplit('.').next().unwrap()];
        message
            .field
            .iter()
            .any(|field| field.name() == "tenant_id" && field.number() == 1)
    };
    service
        .map(|method| (method.name().to_owned(), of_tenant(method.input_type())))
        .collect()
}

fn verdict(outcome: &Result<(), Status>) -> &'static str {
    let Err(status) = outcome else { return "yes" };
    let reason = status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone());
    match (status.code(), reason.as_deref()) {
        (Code::Unauthenticated, Some("UNAUTHORIZED")) => "401",
        (Code::PermissionDenied, Some("FORBIDDEN")) => "403",
        (Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented, _) => "?",
        _ => "yes", // let in; an empty request then has other faults
    }
}

/// Every kind of caller, and the header `authorization` that it sends.
async fn callers(asker: &mut Asker) -> [(&'static str, Option<String>); 16] {
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let of_own = |roles: &[&str]| bearer(&jwt(json!({ "tenant_id": "own", "roles": roles })));
    let of_none = |roles: &[&str]| bearer(&jwt(json!({ "roles": roles })));
    let read_key = asker.key("own", "tenant-read").await.token;
    let write_key = asker.key("own", "").await.token;
    let revoked = asker.key("own", "tenant-write").await;
    let revoke = v1::RevokeApiKeyRequest {
        tenant_id: "own".into(),
        key_id: revoked.key.unwrap().key_id,
    };
    let _: v1::RevokeApiKeyResponse = asker.by_admin("RevokeApiKey", revoke).await;
    // One key of sixteen ends in an A.
    let last = if write_key.ends_with('A') { 'Q' } else { 'A' };
    let wrong_secret = format!("{}{last}", &write_key[..write_key.len() - 1]);
    let expired = json!({ "tenant_id": "own", "roles": ["admin"], "exp": in_seconds(-60) });
    let early = json!({ "tenant_id": "own", "roles": ["admin"], "nbf": in_seconds(60) });
    [
        ("none", None),
        ("garbage", bearer("garbage")),
        ("basic", Some("Basic b3duOm93bg==".to_owned())),
        ("expired", bearer(&jwt(expired))),
        ("early", bearer(&jwt(early))),
        ("key-revoked", bearer(&revoked.token)),
        ("key-wrong", bearer(&wrong_secret)),
        ("no-role", of_own(&["chef"])),
        ("no-tenant", of_none(&["tenant-write"])),
        ("key-read", bearer(&read_key)),
        ("read", of_own(&["tenant-read"])),
        ("key-write", bearer(&write_key)),
        ("write", of_own(&["tenant-write"])),
        ("admin-of-own", of_own(&["admin"])),
        ("admin", of_none(&["admin"])),
        ("key-admin", bearer(ADMIN)),
    ]
}

#[tokio::test]
async fn every_method_by_every_caller() {
    let (_cluster, mut asker) = cluster().await;
    let callers = callers(&mut asker).await;
    let mut table = AccessTable::new();
    for (method, of_tenant) in methods() {
        let mut answers = Vec::new();
        for (caller, authorization) in &callers {
            let mut verdicts = Vec::new();
            for tenant in if of_tenant {
                &["own", "other"][..]
            } else {
                &[""]
            } {
                let message = v1::GetTenantRequest {
                    tenant_id: (*tenant).to_owned(),
                };
                let mut ask = async |package: &str| {
                    let path = format!("/{package}.CoordinatorService/{method}");
                    let outcome = asker.ask(&path, message.clone(), authorization.as_deref());
                    verdict(&outcome.await)
                };
                let told = ask("pairdb.v1").await;
                assert_eq!(ask("proto").await, told, "{method}: the old path differs");
                verdicts.push(told);
            }
            answers.push((*caller, verdicts));
        }
        table.way(&method, answers);
    }
    insta::assert_snapshot!(table.text(), @r"
    own tenant/other tenant
    WriteKeyValue
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read
        yes/403  key-write write admin-of-own
        yes/yes  admin key-admin
    ReadKeyValue
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant
        yes/403  key-read read key-write write admin-of-own
        yes/yes  admin key-admin
    DeleteKeyValue
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read
        yes/403  key-write write admin-of-own
        yes/yes  admin key-admin
    CreateTenant
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    UpdateReplicationFactor
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    GetTenant
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant
        yes/403  key-read read key-write write admin-of-own
        yes/yes  admin key-admin
    SetSiblingLimits
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    AddStorageNode
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    RemoveStorageNode
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    GetMigrationStatus
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    ChangeNodes
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    PlanNodes
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    ListMigrations
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    CancelMigration
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    PaceMigration
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    ListStorageNodes
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    GetConvergence
        401      none garbage basic expired early key-revoked key-wrong
        403      no-role no-tenant key-read read key-write write admin-of-own
        yes      admin key-admin
    VerifyPage
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write admin-of-own
        yes/yes  admin key-admin
    CreateApiKey
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    ListApiKeys
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    RevokeApiKey
        401/401  none garbage basic expired early key-revoked key-wrong
        403/403  no-role no-tenant key-read read key-write write
        yes/403  admin-of-own
        yes/yes  admin key-admin
    ");
}

#[tokio::test]
async fn probes_need_no_token() {
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
    let (_cluster, mut asker) = cluster().await;
    let request = HealthCheckRequest::default();
    let health = asker
        .ask("/grpc.health.v1.Health/Check", request, None)
        .await;
    let _: HealthCheckResponse = health.unwrap();
}

#[tokio::test]
async fn a_refusal_says_why_and_holds_no_secret() {
    let (_cluster, mut asker) = cluster().await;
    let path = "/pairdb.v1.CoordinatorService/GetTenant";
    let foreign = asker.key("other", "").await.token;
    let expired = jwt(json!({ "exp": in_seconds(-60) }));
    for (authorization, message) in [
        (None, "a token is needed: Authorization: Bearer TOKEN"),
        (Some("Bearer"), "the token is not valid"),
        (
            Some("Bearer pdb_0000000000000000_abc"),
            "the token is not valid",
        ),
        (Some(&*format!("Bearer {expired}")), "the token has expired"),
        (
            Some(&*format!("bearer  {foreign}")),
            "the token is for tenant 'other' only",
        ),
    ] {
        let request = v1::GetTenantRequest {
            tenant_id: "own".into(),
        };
        let status = asker
            .ask::<_, ()>(path, request, authorization)
            .await
            .unwrap_err();
        assert_eq!(status.message(), message);
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let (_cluster, mut asker) = cluster().await;
    let key = asker.key("own", "tenant-read").await;
    let bearer = format!("Bearer {}", key.token);
    let path = "/pairdb.v1.CoordinatorService/GetTenant";
    let own = || v1::GetTenantRequest {
        tenant_id: "own".into(),
    };
    for _ in 0..2 {
        asker
            .ask::<_, ()>(path, own(), Some(&bearer))
            .await
            .unwrap();
    }
    let info = key.key.unwrap();
    let revoke = v1::RevokeApiKeyRequest {
        tenant_id: "own".into(),
        key_id: info.key_id.clone(),
    };
    let revoked: v1::RevokeApiKeyResponse = asker.by_admin("RevokeApiKey", revoke).await;
    assert!(revoked.key.unwrap().revoked_at > 0);
    let seen_by = Instant::now() + Duration::from_secs(10);
    let status = loop {
        match asker.ask::<_, ()>(path, own(), Some(&bearer)).await {
            Err(status) => break status,
            Ok(_) => assert!(Instant::now() < seen_by, "its revocation is never seen"),
        }
    };
    assert_eq!(status.message(), "the API key was revoked");

    let list = v1::ListApiKeysRequest {
        tenant_id: "own".into(),
        after: String::new(),
    };
    let listed: v1::ListApiKeysResponse = asker.by_admin("ListApiKeys", list).await;
    assert_eq!(listed.keys.len(), 1);
    assert_eq!(listed.keys[0].key_id, info.key_id);
    assert!(listed.keys[0].revoked_at > 0 && listed.next.is_empty());
}

#[tokio::test]
async fn keys_come_in_pages_and_belong_to_a_tenant() {
    let (_cluster, mut asker) = cluster().await;
    for _ in 0..150 {
        asker.key("own", "").await;
    }
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let tenant_id = "own".into();
        let list = v1::ListApiKeysRequest { tenant_id, after };
        let page: v1::ListApiKeysResponse = asker.by_admin("ListApiKeys", list).await;
        ids.extend(page.keys.into_iter().map(|key| key.key_id));
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    assert!(ids.len() == 150 && ids.is_sorted());
    let admin = format!("Bearer {ADMIN}");
    let path = "/pairdb.v1.CoordinatorService/";
    let foreign = v1::RevokeApiKeyRequest {
        tenant_id: "other".into(),
        key_id: ids[0].clone(),
    };
    let revoked = asker
        .ask::<_, ()>(&format!("{path}RevokeApiKey"), foreign, Some(&admin))
        .await;
    let status = revoked.unwrap_err();
    let reason = status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone());
    assert_eq!(
        (status.code(), reason.as_deref()),
        (Code::NotFound, Some("API_KEY_NOT_FOUND"))
    );
    let nobody = v1::CreateApiKeyRequest {
        tenant_id: "nobody".into(),
        role: String::new(),
    };
    let made = asker
        .ask::<_, ()>(&format!("{path}CreateApiKey"), nobody, Some(&admin))
        .await;
    assert_eq!(made.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn without_authentication_everybody_may_do_everything() {
    let cluster = TestCluster::start().await;
    let mut asker = Asker::new(&cluster).await;
    for (method, _) in methods() {
        for token in [None, Some("Bearer garbage")] {
            let path = format!("/pairdb.v1.CoordinatorService/{method}");
            let outcome = asker
                .ask(&path, v1::GetTenantRequest::default(), token)
                .await;
            assert_eq!(verdict(&outcome), "yes", "{method}");
        }
    }
}
