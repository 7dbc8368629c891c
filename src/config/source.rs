//! Where settings come from: a file's tree, or one text at one key.

use std::path::Path;

use serde_json::Value;

use super::ConfigError;

/// Reads a TOML or YAML file (by its name's ending) into a tree.
pub(super) fn read_file(path: &Path) -> Result<Value, ConfigError> {
    let error = |problem: String| ConfigError::File {
        file: path.display().to_string(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|cause| error(cause.to_string()))?;
    let tree = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|cause| error(unquoted(&text, &cause)))?,
        Some("yaml" | "yml") => serde_saphyr::from_str(&text)
            .map_err(|cause| error(cause.without_snippet().to_string()))?,
        _ => {
            return Err(error(
                "is neither TOML nor YAML; its name must end in .toml, .yaml or .yml".into(),
            ));
        }
    };
    match tree {
        Value::Null => Ok(Value::Object(serde_json::Map::new())), // an empty YAML file
        Value::Object(_) => Ok(tree),
        _ => Err(error("must hold sections with keys".into())),
    }
}

/// Where and what, without the line itself: it may hold a secret.
fn unquoted(text: &str, cause: &toml::de::Error) -> String {
    let at = cause.span().map_or(0, |span| span.start);
    let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}: {}", cause.message())
}

/// Reads `text` as what `default` is.
pub(super) fn parse_like(default: &Value, text: &str) -> Result<Value, String> {
    let text = text.trim();
    match default {
        Value::Bool(_) => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(format!("'{text}' is neither true nor false")),
        },
        Value::Number(_) => match serde_json::from_str(text) {
            Ok(Value::Number(number)) => Ok(Value::Number(number)),
            _ => Err(format!("'{text}' is not a number")),
        },
        Value::String(_) => Ok(text.into()),
        Value::Object(_) => Err("is a section, not a key".into()),
        Value::Null | Value::Array(_) => Err("can only be set in a file".into()),
    }
}
