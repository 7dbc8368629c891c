//! `/v1/key-value`: write, read, delete.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::answer::{self, SUCCESS};
use super::body::{Body, Either, Merge, agreed, or_default};
use super::call::Call;
use super::errors::Errors;
use super::failure::Failure;
use super::query::Asked;
use super::schema;
use super::value::{self, ValueAs, ValueEncoding};
use crate::proto::v1;

/// What is to be written.
#[derive(Deserialize, ToSchema)]
pub(super) struct Write {
    /// 1 to 255 bytes of printable text without ':'.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(
        required,
        examples("default"),
        min_length = 1,
        max_length = 255,
        pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$"
    )]
    tenant_id: String,
    /// 1 to 1024 bytes.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(required, examples("greeting"), min_length = 1, max_length = 1024)]
    key: String,
    /// Any JSON. A string is stored as its bytes, anything else as it is written.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Value, required = false, examples("hello"))]
    value: Option<Box<RawValue>>,
    /// Instead of `value`: bytes of any kind, as base64.
    #[schema(schema_with = schema::value_base64)]
    value_base64: Option<String>,
    /// "one", "quorum" or "all"; otherwise the tenant's default.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(schema_with = schema::consistency_in_body, required = false)]
    consistency: String,
    /// What was seen of the key, as an earlier answer gave it; base64.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(schema_with = schema::context_in_body, required = false)]
    context: String,
    /// In the place of the header Idempotency-Key.
    #[schema(ignore)]
    idempotency_key: Option<String>,
}

/// `null` is a value too.
fn given<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// An acknowledged write or deletion.
#[derive(Serialize, ToSchema)]
pub(super) struct Written {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// As in the request.
    key: String,
    /// As in the request, or generated.
    idempotency_key: String,
    /// The record's clock: counters by replica.
    vector_clock: BTreeMap<String, i64>,
    /// How many replicas had it durably when it was acknowledged.
    replica_count: i32,
    /// The consistency it was acknowledged at.
    consistency: String,
    /// Whether this is the answer to an earlier request with the same tenant, key and idempotency key.
    is_duplicate: bool,
    /// The idempotency store was down, so a retry with the same key may become a second write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    without_idempotency: bool,
    /// Covers the write: hand it on with the next read or write of the key; base64.
    context: String,
}

/// What is to be read.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Read {
    /// The tenant.
    #[serde(default)]
    #[param(
        required,
        min_length = 1,
        max_length = 255,
        pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$"
    )]
    tenant_id: String,
    /// The key.
    #[serde(default)]
    #[param(required, min_length = 1, max_length = 1024)]
    key: String,
    /// "one", "quorum" or "all"; otherwise the tenant's default.
    #[serde(default)]
    #[param(schema_with = schema::consistency)]
    consistency: String,
    /// The least that the answer must cover, as an earlier answer gave it; base64.
    #[serde(default)]
    #[param(schema_with = schema::context)]
    context: String,
    /// How the value is shown: `text` (default), `json` or `base64`. What is not UTF-8 is always base64.
    #[serde(default)]
    #[param(inline)]
    value_as: ValueAs,
}

/// A key's value.
#[derive(Serialize, ToSchema)]
pub(super) struct Found {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// As in the request.
    key: String,
    /// The value; of several siblings the one that was written last.
    #[schema(value_type = Value)]
    value: Box<RawValue>,
    /// What `value` is: the text, the JSON, or base64 of the bytes.
    value_encoding: ValueEncoding,
    /// The record's clock: counters by replica.
    vector_clock: BTreeMap<String, i64>,
    /// Covers all that is shown: hand it on with the next read or write of the key; base64.
    context: String,
    /// All concurrent values, that in `value` first; only under the conflict policy "siblings", and only if there are
    /// several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    siblings: Vec<Sibling>,
}

/// One of several concurrent values.
#[derive(Serialize, ToSchema)]
pub(super) struct Sibling {
    /// The value.
    #[schema(value_type = Value)]
    value: Box<RawValue>,
    /// What `value` is.
    value_encoding: ValueEncoding,
    /// When it was written: unix milliseconds by the replicas' hybrid clock.
    stamp_unix_ms: i64,
    /// Orders writes of one millisecond.
    stamp_logical: u32,
}

/// What is to be deleted; each of it may be in the query or in a JSON body.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Delete {
    /// The tenant.
    #[param(value_type = String, required, min_length = 1, max_length = 255, pattern = "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$")]
    tenant_id: Option<String>,
    /// The key.
    #[param(value_type = String, required, min_length = 1, max_length = 1024)]
    key: Option<String>,
    /// "one", "quorum" or "all"; otherwise the tenant's default.
    #[param(schema_with = schema::consistency)]
    consistency: Option<String>,
    /// What was seen of the key, as an earlier answer gave it; base64.
    #[param(schema_with = schema::context)]
    context: Option<String>,
    /// In the place of the header Idempotency-Key.
    #[param(ignore)]
    idempotency_key: Option<String>,
}

impl Merge for Delete {
    fn merge(self, query: Self) -> Result<Self, Failure> {
        let context = query.context.as_deref().map(value::from_query);
        Ok(Self {
            tenant_id: agreed("tenant_id", self.tenant_id, query.tenant_id)?,
            key: agreed("key", self.key, query.key)?,
            consistency: agreed("consistency", self.consistency, query.consistency)?,
            context: agreed("context", self.context, context)?,
            idempotency_key: agreed(
                "idempotency_key",
                self.idempotency_key,
                query.idempotency_key,
            )?,
        })
    }
}

/// Write a key's value.
///
/// Acknowledged means: as many replicas as the consistency asks for have it durably.
#[utoipa::path(
    post, path = "/v1/key-value", tag = "key-value", request_body = Write,
    params(
        ("Idempotency-Key" = Option<String>, Header, nullable = false, max_length = 255, description = "All requests of one tenant for one key with one \
            idempotency key have one effect and one answer; the same idempotency key with another tenant or key is another request. \
            A member idempotency_key of the body says the same"),
        ("X-Request-Timeout" = Option<String>, Header, nullable = false, description = "How long the client waits, such as 250ms", example = "2s"),
    ),
    responses((status = 200, description = "Acknowledged", body = Written), Errors),
)]
pub(super) async fn write(
    State(gateway): State<Shared>,
    call: Call,
    Body(write): Body<Write>,
) -> Result<Response, Failure> {
    let value = value::stored(write.value.as_deref(), write.value_base64.as_deref())?;
    drop((write.value, write.value_base64)); // not kept beside the bytes while those are written
    let message = v1::WriteKeyValueRequest {
        value,
        tenant_id: write.tenant_id,
        key: write.key,
        consistency: write.consistency,
        idempotency_key: call.idempotency_key(write.idempotency_key)?,
        context: value::decoded("context", &write.context)?,
    };
    let answer = gateway.service.write_key_value(call.with(message)?).await?;
    Ok(answer::json(StatusCode::OK, answer, |written| Written {
        status: SUCCESS,
        key: written.key,
        idempotency_key: written.idempotency_key,
        vector_clock: answer::clock(written.vector_clock),
        replica_count: written.replica_count,
        consistency: written.consistency,
        is_duplicate: written.is_duplicate,
        without_idempotency: written.without_idempotency,
        context: value::encoded(&written.context),
    }))
}

/// Read a key's value.
///
/// A key that has none is 404 KEY_NOT_FOUND; `details.context` then covers its absence.
#[utoipa::path(
    get, path = "/v1/key-value", tag = "key-value",
    params(
        Read,
        ("X-Request-Timeout" = Option<String>, Header, nullable = false, description = "How long the client waits, such as 250ms", example = "2s"),
    ),
    responses((status = 200, description = "The value", body = Found), Errors),
)]
pub(super) async fn read(
    State(gateway): State<Shared>,
    Asked(read): Asked<Read>,
    call: Call,
) -> Result<Response, Failure> {
    let message = v1::ReadKeyValueRequest {
        tenant_id: read.tenant_id,
        key: read.key,
        consistency: read.consistency,
        context: value::decoded("context", &value::from_query(&read.context))?,
    };
    let answer = gateway.service.read_key_value(call.with(message)?).await?;
    Ok(answer::json(StatusCode::OK, answer, |found| {
        let (value, value_encoding) = value::shown(&found.value, read.value_as);
        let siblings = found.siblings.iter().map(|sibling| {
            let (value, value_encoding) = value::shown(&sibling.value, read.value_as);
            Sibling {
                value,
                value_encoding,
                stamp_unix_ms: sibling.stamp_unix_ms,
                stamp_logical: sibling.stamp_logical,
            }
        });
        Found {
            status: SUCCESS,
            siblings: siblings.collect(),
            key: found.key,
            value,
            value_encoding,
            vector_clock: answer::clock(found.vector_clock),
            context: value::encoded(&found.context),
        }
    }))
}

/// Delete a key.
///
/// It succeeds for a key that is not there, too. What the query says may be said in a JSON body instead.
#[utoipa::path(
    delete, path = "/v1/key-value", tag = "key-value",
    params(
        Delete,
        ("Idempotency-Key" = Option<String>, Header, nullable = false, max_length = 255, description = "All requests of one tenant for one key with one \
            idempotency key have one effect and one answer; the same idempotency key with another tenant or key is another request. \
            A member idempotency_key of the body says the same"),
        ("X-Request-Timeout" = Option<String>, Header, nullable = false, description = "How long the client waits, such as 250ms", example = "2s"),
    ),
    responses((status = 200, description = "Acknowledged", body = Written), Errors),
)]
pub(super) async fn delete(
    State(gateway): State<Shared>,
    call: Call,
    Either(delete): Either<Delete>,
) -> Result<Response, Failure> {
    let message = v1::DeleteKeyValueRequest {
        tenant_id: delete.tenant_id.unwrap_or_default(),
        key: delete.key.unwrap_or_default(),
        consistency: delete.consistency.unwrap_or_default(),
        idempotency_key: call.idempotency_key(delete.idempotency_key)?,
        context: value::decoded("context", &delete.context.unwrap_or_default())?,
    };
    let answer = gateway
        .service
        .delete_key_value(call.with(message)?)
        .await?;
    Ok(answer::json(StatusCode::OK, answer, |deleted| Written {
        status: SUCCESS,
        key: deleted.key,
        idempotency_key: deleted.idempotency_key,
        vector_clock: answer::clock(deleted.vector_clock),
        replica_count: deleted.replica_count,
        consistency: deleted.consistency,
        is_duplicate: deleted.is_duplicate,
        without_idempotency: deleted.without_idempotency,
        context: value::encoded(&deleted.context),
    }))
}
