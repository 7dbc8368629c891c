//! A scenario: a story about one promise, as a file: a world with explicit steps and faults, what has to come of them,
//! and which known bugs the story would bring to light.
//!
//! Unlike a bare seed it outlives any change in the way worlds are drawn. The format is described in
//! `scenarios/README.md`.

mod check;
mod head;
mod written;

pub use head::{Head, mutant_named};

use std::path::Path;

use pairdb::mutant::Mutant;

use crate::outcome::{Options, Outcome};
use crate::run::run;
use crate::world::World;

/// A scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// What is told beside the world.
    pub head: Head,
    /// The world in which it happens.
    pub world: World,
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
        check::check(&scenario.head, &scenario.world)?;
        Ok(scenario)
    }

    /// The scenario as a file has it: only what is not the default.
    #[must_use]
    pub fn text(&self) -> String {
        written::text(&self.head, &self.world)
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
    pub fn outcomes(&self, mutant: Option<Mutant>) -> impl Iterator<Item = Outcome> {
        let first = self.world.seed;
        (first..first + self.head.seeds).map(move |seed| {
            let world = World {
                seed,
                ..self.world.clone()
            };
            let options = Options {
                mutant,
                ..Options::default()
            };
            run(world, options)
        })
    }
}
