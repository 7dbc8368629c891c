//! Durations as people write them ("100ms", "1m 30s"), wherever a setting is one.
//!
//! The settings of coordinator, storage node and adapters hold plain durations, which serde writes as seconds and
//! nanoseconds. Which keys are durations is told by the defaults.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Replaces every duration by its text.
pub(super) fn to_text(tree: Value) -> Value {
    if let Some(duration) = duration(&tree) {
        return text(duration).into();
    }
    match tree {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, to_text(value)))
            .collect(),
        other => other,
    }
}

/// Replaces the texts of all that is a duration in `types` by what serde reads. An error is a key and what is wrong.
pub(super) fn from_text(types: &Value, tree: &Value) -> Result<Value, (String, String)> {
    if duration(types).is_some() {
        let text = tree.as_str().ok_or((
            String::new(),
            format!("{tree} is not a duration, such as \"500ms\""),
        ))?;
        let duration = humantime::parse_duration(text).map_err(|error| {
            (
                String::new(),
                format!("'{text}' is not a duration, such as 500ms: {error}"),
            )
        })?;
        return Ok(json!({ "secs": duration.as_secs(), "nanos": duration.subsec_nanos() }));
    }
    let (Value::Object(types), Value::Object(members)) = (types, tree) else {
        return Ok(tree.clone());
    };
    let mut read = Map::new();
    for (name, value) in members {
        let types = types.get(name).unwrap_or(&Value::Null);
        let value = from_text(types, value).map_err(|(key, problem)| match key.as_str() {
            "" => (name.clone(), problem),
            key => (format!("{name}.{key}"), problem),
        })?;
        read.insert(name.clone(), value);
    }
    Ok(Value::Object(read))
}

/// As people write it.
pub(super) fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// What serde makes of a [`Duration`].
pub(super) fn duration(value: &Value) -> Option<Duration> {
    let members = value.as_object().filter(|members| members.len() == 2)?;
    let seconds = members.get("secs")?.as_u64()?;
    let nanos = u32::try_from(members.get("nanos")?.as_u64()?).ok()?;
    Some(Duration::new(seconds, nanos))
}
