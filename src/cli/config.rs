//! `pairdb config`: the configuration as it is in effect.

use clap::Args;

use super::exit::Failure;
use super::output;
use crate::config::{Layers, tree};

/// What `config --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb config
  pairdb config --config /etc/pairdb.yaml --json
  PAIRDB_COORDINATOR__READ_TIMEOUT=1s pairdb config

Defaults, the file of --config, then environment variables named PAIRDB_SECTION__KEY; each overrides
the one before it, and a command's own flags override them all. Secrets are masked.";

/// The arguments of `config`.
#[derive(Args, Debug)]
pub struct ShowConfig {
    /// JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}

impl ShowConfig {
    /// Prints it.
    pub fn run(self, layers: &Layers) -> Result<(), Failure> {
        let tree = tree(&layers.build()?.masked());
        if self.json {
            return output::json(&tree);
        }
        let text = toml::to_string(&tree)
            .map_err(|error| Failure::local(format!("can't show the configuration: {error}")))?;
        output::line(text.trim_end())
    }
}
