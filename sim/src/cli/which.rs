//! Which run is meant: a seed's world or a scenario file, perhaps with a bug put back.

use std::path::PathBuf;

use clap::Args;
use pairdb::mutant::Mutant;

use crate::outcome::{Options, Outcome};
use crate::run::run;
use crate::scenario::{Scenario, mutant_named};
use crate::world::World;

#[derive(Args)]
pub(super) struct Which {
    /// A scenario file.
    #[arg(value_name = "FILE", required_unless_present_any = ["seed", "world"], conflicts_with = "world")]
    file: Option<PathBuf>,
    /// The world drawn from this seed; with a file: that world with this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file, as FILE.
    #[arg(long, value_name = "FILE", hide = true)]
    world: Option<PathBuf>,
    /// Puts this bug back.
    #[arg(long)]
    mutant: Option<String>,
}

impl Which {
    pub(super) fn world(&self) -> Result<World, String> {
        let mut world = match self.file.as_ref().or(self.world.as_ref()) {
            Some(path) => Scenario::read(path)?.world,
            None => World::draw(self.seed.unwrap_or_default()),
        };
        world.seed = self.seed.unwrap_or(world.seed);
        Ok(world)
    }

    pub(super) fn mutant_named(&self) -> Result<Option<Mutant>, String> {
        self.mutant.as_deref().map(mutant_named).transpose()
    }

    pub(super) fn run(&self, messages: bool, record: bool) -> Result<Outcome, String> {
        let options = Options {
            mutant: self.mutant_named()?,
            messages,
            record,
            ..Options::default()
        };
        Ok(run(self.world()?, options))
    }

    /// The command that runs the same again and shows all of it.
    pub(super) fn replay(&self) -> String {
        let mut command = "cargo sim replay".to_owned();
        if let Some(path) = self.file.as_ref().or(self.world.as_ref()) {
            command += &format!(" {}", path.display());
        }
        if let Some(seed) = self.seed {
            command += &format!(" --seed {seed}");
        }
        if let Some(mutant) = &self.mutant {
            command += &format!(" --mutant {mutant}");
        }
        command
    }
}
