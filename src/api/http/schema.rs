//! What the OpenAPI document says of fields whose types say too little: which texts they take, and which numbers.

use utoipa::openapi::schema::{AnyOfBuilder, SchemaType, Type};
use utoipa::openapi::{
    KnownFormat, ObjectBuilder, OneOfBuilder, OpenApi, RefOr, Schema, SchemaFormat,
};

/// Base64 of either alphabet, padded or not.
const BASE64: &str = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]={0,2}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?)?$\
    |^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]={0,2}|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=?)?$";

const CONSISTENCY: &str = "\"one\", \"quorum\" or \"all\"; otherwise the tenant's default.";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn text_or_null() -> ObjectBuilder {
    let types = [Type::String, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types))
}

/// A level of consistency in a query; empty is as good as none.
pub(super) fn consistency() -> Schema {
    let levels = ["one", "quorum", "all", ""];
    text()
        .enum_values(Some(levels))
        .description(Some(CONSISTENCY))
        .into()
}

/// A level of consistency in a body.
pub(super) fn consistency_in_body() -> Schema {
    let levels = [Some("one"), Some("quorum"), Some("all"), Some(""), None];
    text_or_null()
        .enum_values(Some(levels))
        .description(Some(CONSISTENCY))
        .into()
}

/// A conflict policy.
pub(super) fn conflict_policy() -> Schema {
    let policies = [Some("last_write_wins"), Some("siblings"), Some(""), None];
    text_or_null()
        .enum_values(Some(policies))
        .description(Some(
            "\"last_write_wins\" (also when absent) or \"siblings\".",
        ))
        .into()
}

/// Bytes in a body.
pub(super) fn value_base64() -> Schema {
    text()
        .pattern(Some(BASE64))
        .description(Some("Instead of `value`: bytes of any kind, as base64."))
        .into()
}

/// A context in a query.
pub(super) fn context() -> Schema {
    context_of(text())
}

/// A context in a body.
pub(super) fn context_in_body() -> Schema {
    context_of(text_or_null())
}

fn context_of(text: ObjectBuilder) -> Schema {
    text.pattern(Some(BASE64))
        .description(Some(
            "What was seen of the key, as an earlier answer gave it; base64. A read covers at least that; under the conflict \
             policy \"siblings\" a write or a deletion replaces exactly that.",
        ))
        .into()
}

/// A flag in a query.
pub(super) fn force() -> Schema {
    let spelled = text().enum_values(Some(["true", "false", "1", "0", ""]));
    AnyOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Boolean))
        .item(spelled)
        .description(Some(
            "Take a node that does not answer for lost: what only it holds is given up. One that answers is not given up.",
        ))
        .into()
}

/// Where a node is.
pub(super) fn host() -> Schema {
    let name = text()
        .pattern(Some("^[A-Za-z0-9._-]+$"))
        .min_length(Some(1))
        .max_length(Some(255));
    let address = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Ipv6)));
    AnyOfBuilder::new()
        .item(name)
        .item(address)
        .description(Some(
            "Where coordinators reach it: a host name or an address.",
        ))
        .into()
}

/// Says of an object that exactly one of these members must be there; `null` is as good as none for the second one.
pub(super) fn exactly_one_of(document: &mut OpenApi, name: &str, members: [(&str, &str); 2]) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let Some(RefOr::T(Schema::Object(object))) = schemas.get(name) else {
        return;
    };
    let mut either = OneOfBuilder::new().description(object.description.clone());
    for (index, (member, title)) in members.iter().enumerate() {
        let mut one = object.clone();
        let (other, _) = members[1 - index];
        one.properties.remove(other);
        one.required.retain(|required| required != other);
        one.required.push((*member).to_owned());
        one.title = Some((*title).to_owned());
        if index == 0 {
            let absent = ObjectBuilder::new().schema_type(Type::Null).build();
            one.properties.insert(other.to_owned(), absent.into());
        }
        either = either.item(one);
    }
    let either = RefOr::T(Schema::OneOf(either.build()));
    schemas.insert(name.to_owned(), either);
}
