//! Shrinking: from a run in which something broke to the shortest story in which the same invariant still breaks.
//!
//! 1. The run is spelled out: what clients did by their habits becomes steps at their times.
//! 2. Delta debugging takes away steps, faults and wrong clocks; then clients, nodes and coordinators go, settings
//!    return to their defaults, what steps bring along is left out, faults get shorter; again, until nothing more can
//!    go.
//!
//! Nothing here is drawn by chance: one failing world becomes one scenario, unless time runs out before.

pub mod ddmin;
mod reduce;
mod size;

use std::time::{Duration, Instant};

use pairdb::mutant::Mutant;

use self::reduce::Search;
pub use self::size::Size;
use crate::outcome::{Options, Outcome};
use crate::run::run;
use crate::scenario::{Head, Scenario};
use crate::world::World;

/// How many other seeds are tried when a run that was spelled out does not break under its own.
const SEEDS_TRIED: u64 = 40;

/// What became of a failing world.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The shortest story found.
    pub scenario: Scenario,
    /// How large it was.
    pub before: Size,
    /// How large it is.
    pub after: Size,
    /// How many worlds were run.
    pub runs: u64,
    /// Whether clients still go by their habits, because with explicit steps nothing broke.
    pub by_habits: bool,
    /// Whether nothing more could be taken away; else time ran out.
    pub complete: bool,
}

/// Shrinks `world`, which breaks `invariant` with that bug put back, for `limit` at most. `tell` hears how it goes.
///
/// # Errors
/// When nothing breaks, or not that.
pub fn shrink(
    world: &World,
    mutant: Option<Mutant>,
    invariant: Option<&str>,
    limit: Duration,
    tell: &mut dyn FnMut(String),
) -> Result<Shrunk, String> {
    let options = Options {
        mutant,
        spell: true,
        ..Options::default()
    };
    let first = run(world.clone(), options);
    let target = target(&first, invariant)?;
    let before = Size::of(world, first.operations);
    tell(format!("'{target}' breaks with {before}"));
    let mut search = Search::new(target, mutant, Instant::now() + limit, world.seed, tell);
    let key = first
        .violations
        .iter()
        .find(|broken| broken.invariant == target);
    let key = key.and_then(|broken| broken.key.clone());
    let spelled = first
        .spelled
        .clone()
        .filter(|_| world.clients.iter().any(|c| c.roams()));
    let spelled = spelled.and_then(|spelled| seed_for(&mut search, &spelled));
    let by_habits = spelled.is_none() && world.clients.iter().any(|client| client.roams());
    if by_habits {
        search.tell("spelled out it does not break: shrinking habits");
    }
    let mut small = spelled.unwrap_or_else(|| world.clone());
    let complete = search.reduce(&mut small, key.as_deref());
    let last = run(small.clone(), options);
    let after = Size::of(&small, last.operations);
    let scenario = Scenario {
        head: head(world, mutant, target, &last, before, after),
        world: small,
    };
    Ok(Shrunk {
        scenario,
        before,
        after,
        runs: search.runs(),
        by_habits,
        complete,
    })
}

/// The invariant to hold on to.
fn target(outcome: &Outcome, wanted: Option<&str>) -> Result<&'static str, String> {
    let mut broken = outcome.violations.iter().map(|broken| broken.invariant);
    let found = match wanted {
        None => broken.next(),
        Some(wanted) => broken.find(|broken| *broken == wanted),
    };
    found.ok_or_else(|| match wanted {
        Some(wanted) => format!("'{wanted}' does not break in that world"),
        None => "nothing breaks in that world".to_owned(),
    })
}

/// The world with its own seed, or else with one under which the steps break what they did.
fn seed_for(search: &mut Search<'_>, spelled: &World) -> Option<World> {
    let seed = search.breaks_under(spelled, SEEDS_TRIED)?;
    let spelled = spelled.clone();
    Some(World { seed, ..spelled })
}

fn head(
    world: &World,
    mutant: Option<Mutant>,
    target: &str,
    last: &Outcome,
    before: Size,
    after: Size,
) -> Head {
    let violation = last
        .violations
        .iter()
        .find(|broken| broken.invariant == target);
    let what = violation.map_or_else(String::new, ToString::to_string);
    let with = mutant.map_or_else(String::new, |mutant| {
        format!(" with the mutant {}: {}", mutant.name(), mutant.what())
    });
    let catches = mutant.map(|mutant| (mutant.name().to_owned(), target.to_owned()));
    Head {
        title: format!("Shrunk: {target}"),
        about: format!(
            "Seed {}{with}.\n{what}\nBefore: {before}.\nAfter: {after}.",
            world.seed
        ),
        promise: violation.map_or(0, |violation| violation.promise),
        seeds: 1,
        catches: catches.into_iter().collect(),
    }
}
