//! Puts one source over another and remembers, key by key, which one had the last word.
//!
//! Not `figment`, which does the same: it finds an unknown key only when all is put together, by serde, which tells of
//! one without the keys beside it; and it guesses a variable's type from its text, so that a password `0123` becomes a
//! number.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::durations;
use super::source::{parse_like, read_file};
use super::{Config, ConfigError, ranges, variables};

/// A configuration in the making.
#[derive(Clone, Debug)]
pub struct Layers {
    defaults: Value,
    tree: Value,
    given_by: BTreeMap<String, String>,
}

impl Layers {
    /// The defaults alone.
    #[must_use]
    pub fn new() -> Self {
        let defaults = tree(&Config::default());
        Self {
            tree: defaults.clone(),
            defaults,
            given_by: BTreeMap::new(),
        }
    }

    /// Replaces a default, because a command has another one.
    #[must_use]
    pub fn default_of_command(mut self, key: &str, value: impl Into<Value>) -> Self {
        let pointer = pointer(key);
        if !self.given_by.contains_key(key)
            && let Some(place) = self.tree.pointer_mut(&pointer)
        {
            *place = value.into();
        }
        self
    }

    /// Puts a file over what is there.
    pub fn file(mut self, path: &Path) -> Result<Self, ConfigError> {
        let tree = read_file(path)?;
        self.put_tree("", &tree, &path.display().to_string())?;
        Ok(self)
    }

    /// Puts environment variables named `PAIRDB_SECTION__KEY` over what is there. Others have to pass
    /// [`check_names`](super::check_names).
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let names = variables.iter();
        variables::check_names(names.map(|(name, text)| (name.as_str(), text.as_str())))?;
        for (name, text) in variables {
            if let Some(key) = variables::key(&name) {
                self.put_text(&key, &text, &name)?;
            }
        }
        Ok(self)
    }

    /// Puts a flag over what is there, when it was given.
    pub fn flag(
        mut self,
        name: &str,
        key: &str,
        text: Option<impl ToString>,
    ) -> Result<Self, ConfigError> {
        if let Some(text) = text {
            self.put_text(key, &text.to_string(), name)?;
        }
        Ok(self)
    }

    /// The configuration, checked.
    pub fn build(&self) -> Result<Config, ConfigError> {
        let tree = durations::from_text(&tree_of_types(), &self.tree)
            .map_err(|(key, problem)| self.bad_value(&key, problem))?;
        ranges::check(&tree).map_err(|(key, problem)| self.bad_value(key, problem))?;
        let config: Config = serde_path_to_error::deserialize(tree).map_err(|error| {
            self.bad_value(&error.path().to_string(), error.inner().to_string())
        })?;
        config
            .validate()
            .map_err(|(key, problem)| self.bad_value(key, problem))?;
        Ok(config)
    }

    /// The same for a coordinator, which needs more.
    pub fn build_for_coordinator(&self) -> Result<Config, ConfigError> {
        let config = self.build()?;
        config
            .validate_for_coordinator()
            .map_err(|(key, problem)| self.bad_value(key, problem))?;
        Ok(config)
    }

    fn bad_value(&self, key: &str, problem: String) -> ConfigError {
        let source_name = self
            .given_by
            .get(key)
            .map_or("defaults", String::as_str)
            .to_owned();
        ConfigError::BadValue {
            source_name,
            key: key.to_owned(),
            problem,
        }
    }

    fn put_tree(
        &mut self,
        prefix: &str,
        tree: &Value,
        source_name: &str,
    ) -> Result<(), ConfigError> {
        let Value::Object(members) = tree else {
            return self.put(prefix, tree.clone(), source_name);
        };
        for (name, value) in members {
            let key = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            self.default_of(&key, source_name)?;
            self.put_tree(&key, value, source_name)?;
        }
        Ok(())
    }

    fn put_text(&mut self, key: &str, text: &str, source_name: &str) -> Result<(), ConfigError> {
        let value = parse_like(self.default_of(key, source_name)?, text).map_err(|problem| {
            ConfigError::BadValue {
                source_name: source_name.to_owned(),
                key: key.to_owned(),
                problem,
            }
        })?;
        self.put(key, value, source_name)
    }

    fn put(&mut self, key: &str, value: Value, source_name: &str) -> Result<(), ConfigError> {
        if self.default_of(key, source_name)?.is_object() {
            return Err(ConfigError::BadValue {
                source_name: source_name.to_owned(),
                key: key.to_owned(),
                problem: "is a section, not a key".into(),
            });
        }
        if let Some(place) = self.tree.pointer_mut(&pointer(key)) {
            *place = value;
            self.given_by.insert(key.to_owned(), source_name.to_owned());
        }
        Ok(())
    }

    /// The default of `key`, which is an error when there is no such key.
    fn default_of(&self, key: &str, source_name: &str) -> Result<&Value, ConfigError> {
        if let Some(default) = self.defaults.pointer(&pointer(key)) {
            return Ok(default);
        }
        let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent);
        let beside = self
            .defaults
            .pointer(&pointer(parent))
            .unwrap_or(&self.defaults);
        let known: Vec<&str> = beside
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        let name = key.rsplit('.').next().unwrap_or(key);
        Err(ConfigError::UnknownKey {
            source_name: source_name.to_owned(),
            key: key.to_owned(),
            meant: variables::closest(name, known.iter().copied()).map(str::to_owned),
            known: known.join(", "),
        })
    }
}

/// A configuration as people write it.
#[must_use]
pub fn tree(config: &Config) -> Value {
    durations::to_text(serde_json::to_value(config).unwrap_or_default())
}

/// The defaults as serde has them: what has the form of a duration there is one.
fn tree_of_types() -> Value {
    serde_json::to_value(Config::default()).unwrap_or_default()
}

impl Default for Layers {
    fn default() -> Self {
        Self::new()
    }
}

fn pointer(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("/{}", key.replace('.', "/"))
    }
}

#[cfg(test)]
#[path = "layers_test.rs"]
mod tests;
