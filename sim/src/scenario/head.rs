//! What a scenario tells beside its world, and the known bugs that it may name.

use std::collections::BTreeMap;

use pairdb::mutant::Mutant;
use serde::{Deserialize, Serialize};

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

/// The known bug of that name.
///
/// # Errors
/// Names those that there are.
pub fn mutant_named(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!(
            "there is no mutant '{name}'; there are {}",
            names.join(", ")
        )
    })
}
