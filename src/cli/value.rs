//! Values, contexts and clocks as command lines take them and JSON shows them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::proto::v1::VectorClock;

/// A clap parser for bytes in base64.
pub fn parse_base64(text: &str) -> Result<Bytes, String> {
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| format!("not base64 ({error})"))
}

/// Bytes in base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A value as JSON members: always in base64, and as text where it is UTF-8 (else null).
pub fn members(value: &[u8]) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("value_base64".into(), base64(value).into());
    members.insert("value_utf8".into(), json!(str::from_utf8(value).ok()));
    members
}

/// A clock as JSON: replica to count.
pub fn clock(clock: Option<&VectorClock>) -> Value {
    let mut members = Map::new();
    for entry in clock.into_iter().flat_map(|clock| &clock.entries) {
        members.insert(
            entry.coordinator_node_id.clone(),
            entry.logical_timestamp.into(),
        );
    }
    Value::Object(members)
}
