//! A scenario: a story about one promise, as a file: a world with explicit steps and faults, what has to come of them, and
//! which known bugs the story would bring to light.
//!
//! Unlike a bare seed it outlives any change in the way worlds are drawn. The format is described in
//! `scenarios/README.md`.

mod check;
mod written;

pub(crate) use check::endpoints;

use std::collections::BTreeMap;
use std::path::Path;

use pairdb::sabotage::Sabotage;
use serde::{Deserialize, Serialize};

use crate::run::{Options, Outcome, run};
use crate::world::World;

/// A scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// What is told beside the world.
    pub head: Head,
    /// The world in which it happens.
    pub world: World,
}

/// What is told beside the world.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Head {
    /// The story in a line.
    pub title: String,
    /// The story.
    pub about: String,
    /// The promise it is about, by its number in the specification; 0 for none in particular.
    #[serde(skip_serializing_if = "is_zero")]
    pub promise: u8,
    /// How many seeds, from the world's on, tell this story. What is drawn while it runs must not matter to an explicit
    /// story; a world whose clients follow their habits has one seed.
    pub seeds: u64,
    /// The known bugs that the story brings to light, and the invariant that says so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub catches: BTreeMap<String, String>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            title: String::new(),
            about: String::new(),
            promise: 0,
            seeds: 5,
            catches: BTreeMap::new(),
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
const fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Says which file can't be read, and why.
    pub fn read(path: &Path) -> Result<Self, String> {
        let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
        Self::parse(&text).map_err(|error| problem(&error))
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
        let heads = ["title", "about", "promise", "seeds", "catches"];
        let (head, world): (toml::Table, toml::Table) = table
            .into_iter()
            .partition(|(name, _)| heads.contains(&name.as_str()));
        let problem = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        let scenario = Self {
            head: head.try_into().map_err(problem)?,
            world: world.try_into().map_err(problem)?,
        };
        check::check(&scenario)?;
        Ok(scenario)
    }

    /// The scenario as a file has it: only what is not the default.
    #[must_use]
    pub fn text(&self) -> String {
        written::text(self)
    }

    /// A world without a story.
    #[must_use]
    pub fn of(world: World) -> Self {
        let head = Head {
            seeds: 1,
            ..Head::default()
        };
        Self { head, world }
    }

    /// Runs it under each of its seeds.
    pub fn outcomes(&self, sabotage: Option<Sabotage>) -> impl Iterator<Item = Outcome> {
        let first = self.world.seed;
        (first..first + self.head.seeds).map(move |seed| {
            let world = World {
                seed,
                ..self.world.clone()
            };
            let options = Options {
                sabotage,
                ..Options::default()
            };
            run(world, options)
        })
    }
}

/// The known bug of that name.
///
/// # Errors
/// Names those that there are.
pub fn sabotage(name: &str) -> Result<Sabotage, String> {
    let found = Sabotage::ALL
        .iter()
        .find(|sabotage| sabotage.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Sabotage::ALL
            .iter()
            .map(|sabotage| sabotage.name())
            .collect();
        format!(
            "there is no mutant '{name}'; there are {}",
            names.join(", ")
        )
    })
}
