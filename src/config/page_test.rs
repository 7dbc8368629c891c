//! The page of settings, `docs/configuration.md`, holds each setting with the default that it has, and no other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Config, tree};

/// Each setting with its default, as the page writes it.
fn defaults(value: &Value, key: &str, found: &mut BTreeMap<String, String>) {
    let default = match value {
        Value::Object(members) => {
            for (name, value) in members {
                let key = match key {
                    "" => name.clone(),
                    key => format!("{key}.{name}"),
                };
                defaults(value, &key, found);
            }
            return;
        }
        Value::Array(_) => "none".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    };
    found.insert(key.to_owned(), default);
}

/// A row of the page's tables: a setting in backquotes, then its default, perhaps with its size in brackets.
fn row(line: &str) -> Option<(String, String)> {
    let mut cells = line.split('|').skip(1).map(str::trim);
    let key = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    let default = cells.next()?.split(" (").next()?;
    Some((key.to_owned(), default.to_owned()))
}

#[test]
fn the_page_of_settings_has_each_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap();
    let told: BTreeMap<String, String> = page.lines().filter_map(row).collect();
    let mut there = BTreeMap::new();
    defaults(&tree(&Config::default()), "", &mut there);
    assert_eq!(told, there);
}
