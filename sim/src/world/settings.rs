//! The product's settings as a scenario file has them: durations as text, and only what is not the default.
//!
//! They hold plain durations, which serde writes as seconds and nanoseconds. Which keys are durations is told by the
//! defaults.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::human;

/// Writes what is not the default.
pub(super) fn serialize<T, S>(settings: &T, to: S) -> Result<S::Ok, S::Error>
where
    T: Serialize + Default,
    S: Serializer,
{
    use serde::ser::Error;
    let (settings, defaults) = (members(settings), members(&T::default()));
    let (settings, defaults) = (
        settings.map_err(Error::custom)?,
        defaults.map_err(Error::custom)?,
    );
    let other = settings
        .into_iter()
        .filter(|(name, value)| defaults.get(name) != Some(value));
    let text = |(name, value)| match nanos(&value) {
        Some(nanos) => (name, human::text(nanos).into()),
        None => (name, value),
    };
    other
        .map(text)
        .collect::<Map<String, Value>>()
        .serialize(to)
}

/// Reads them.
pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Serialize + DeserializeOwned + Default,
    D: Deserializer<'de>,
{
    use serde::de::Error;
    let mut settings = members(&T::default()).map_err(Error::custom)?;
    for (name, value) in Map::deserialize(from)? {
        let Some(default) = settings.get(&name) else {
            let known: Vec<&str> = settings.keys().map(String::as_str).collect();
            return Err(Error::custom(format!(
                "unknown field `{name}`, expected one of {}",
                known.join(", ")
            )));
        };
        let value = match (nanos(default), value.as_str()) {
            (Some(_), Some(text)) => {
                let nanos =
                    human::parse(text).map_err(|p| Error::custom(format!("{name}: {p}")))?;
                let nanos = u64::try_from(nanos)
                    .map_err(|_| Error::custom(format!("{name}: '{text}' is out of range")))?;
                json!({ "secs": nanos / 1_000_000_000, "nanos": nanos % 1_000_000_000 })
            }
            _ => value,
        };
        settings.insert(name, value);
    }
    serde_json::from_value(Value::Object(settings)).map_err(Error::custom)
}

fn members(settings: &impl Serialize) -> Result<Map<String, Value>, String> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("settings are a table".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What serde makes of a duration.
fn nanos(value: &Value) -> Option<i128> {
    let members = value.as_object().filter(|members| members.len() == 2)?;
    let (seconds, nanos) = (
        members.get("secs")?.as_u64()?,
        members.get("nanos")?.as_u64()?,
    );
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}
