//! A scenario as text: what differs from the defaults, one line for each step and fault.

use std::fmt::Write as _;

use serde::Serialize;
use toml::{Table, Value};

use super::head::Head;
use crate::world::{ClientPlan, TenantPlan, World};

pub(super) fn text(head: &Head, world: &World) -> String {
    let mut text = beginning(head);
    let all = pruned(world, &World::default(), &["seed"]);
    let tables = [
        "coordinator",
        "replica",
        "network",
        "disk",
        "time",
        "transport",
    ];
    let lists = ["tenants", "clients"];
    let (sections, root): (Table, Table) = all
        .into_iter()
        .filter(|(name, _)| !lists.contains(&name.as_str()))
        .partition(|(name, value)| tables.contains(&name.as_str()) || value.is_table());
    for (name, value) in root {
        match value {
            Value::Array(items) if items.iter().any(Value::is_table) => {
                list(&mut text, &name, items.iter().map(inline));
            }
            value => {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
    }
    if world.tenants != World::default().tenants {
        let plans = world.tenants.iter();
        let lines = plans.map(|plan| pruned(plan, &TenantPlan::default(), &["name"]));
        let lines = lines.map(|line| inline(&Value::Table(line)));
        list(&mut text, "tenants", lines);
    }
    if world.clients.is_empty() {
        text.push_str("clients = []\n"); // what is left out is as in a world of no particular kind
    }
    for (name, value) in sections {
        let Value::Table(members) = value else {
            continue;
        };
        let _ = write!(text, "\n[{name}]\n{}", Value::Table(members).root());
    }
    if world.clients != World::default().clients {
        for plan in &world.clients {
            client(&mut text, plan);
        }
    }
    text
}

fn beginning(head: &Head) -> String {
    let mut text = String::new();
    if !head.title.is_empty() {
        let _ = writeln!(text, "title = {}", Value::String(head.title.clone()));
    }
    if !head.about.is_empty() {
        let about = head.about.trim().replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(text, "about = \"\"\"\n{about}\n\"\"\"");
    }
    if head.promise > 0 {
        let _ = writeln!(text, "promise = {}", head.promise);
    }
    let _ = writeln!(text, "seeds = {}", head.seeds);
    for (mutant, invariant) in &head.catches {
        let invariant = Value::String(invariant.clone());
        let _ = writeln!(text, "catches.{mutant} = {invariant}");
    }
    text.push('\n');
    text
}

fn client(text: &mut String, plan: &ClientPlan) {
    let mut members = pruned(plan, &ClientPlan::default(), &[]);
    let steps = members.remove("steps");
    let _ = write!(text, "\n[[clients]]\n{}", Value::Table(members).root());
    if let Some(Value::Array(steps)) = steps {
        list(text, "steps", steps.iter().map(inline));
    }
}

fn list(text: &mut String, name: &str, items: impl Iterator<Item = String>) {
    let _ = writeln!(text, "{name} = [");
    for item in items {
        let _ = writeln!(text, "  {item},");
    }
    text.push_str("]\n");
}

/// What comes first in a line, in this order; the rest follows by the alphabet.
const FIRST: &[&str] = &[
    "name", "who", "after", "at", "for", "until", "write", "read", "delete", "retry", "via",
];

/// A table in one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Table(members) => {
            let first = |name: &str| FIRST.iter().position(|known| *known == name);
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by_key(|name| first(name).unwrap_or(FIRST.len()));
            let members: Vec<String> = names
                .into_iter()
                .map(|name| format!("{name} = {}", inline(&members[name])))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        value => value.to_string(),
    }
}

trait Root {
    fn root(&self) -> String;
}

impl Root for Value {
    /// The members of a table, a line each.
    fn root(&self) -> String {
        let members = self.as_table().into_iter().flatten();
        members
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect()
    }
}

/// The members that are not as in `default`, and those to be kept anyway.
fn pruned<T: Serialize>(value: &T, default: &T, keep: &[&str]) -> Table {
    let table = |value: &T| Table::try_from(value).unwrap_or_default();
    let default = table(default);
    let mut left = Table::new();
    for (name, value) in table(value) {
        if keep.contains(&name.as_str()) {
            left.insert(name, value);
            continue;
        }
        match (value, default.get(&name)) {
            (value, Some(default)) if value == *default => {}
            (Value::Table(members), Some(Value::Table(default))) => {
                let other = members
                    .into_iter()
                    .filter(|(name, value)| default.get(name) != Some(value));
                left.insert(name, Value::Table(other.collect()));
            }
            (value, _) => drop(left.insert(name, value)),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::*;

    #[test]
    fn a_scenario_is_read_as_it_is_written() {
        for seed in 0..200 {
            let mut scenario = Scenario::of(World::draw(seed));
            scenario.head.title = "it's \"a\" story".to_owned();
            scenario.head.about = "of two\nlines \\ \"quoted\"".to_owned();
            let text = scenario.text();
            let read = Scenario::parse(&text).unwrap_or_else(|p| panic!("{p}\n{text}"));
            assert_eq!(read.world, scenario.world, "{text}");
            assert_eq!(read.head.about.trim(), scenario.head.about);
            assert_eq!(read.head.title, scenario.head.title);
        }
    }

    #[test]
    fn a_world_without_clients_is_read_as_one() {
        let world = World {
            clients: Vec::new(),
            ..World::default()
        };
        let text = Scenario::of(world.clone()).text();
        let read = Scenario::parse(&text).unwrap_or_else(|p| panic!("{p}\n{text}"));
        assert_eq!(read.world, world, "{text}");
    }

    #[test]
    fn defaults_are_left_out() {
        let text = Scenario::of(World::default()).text();
        assert_eq!(text.trim(), "seeds = 1\n\nseed = 0");
    }
}
