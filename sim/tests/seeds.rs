//! The promises under simulation: seeds, scenarios, and determinism itself.
//!
//! Part of the root's `cargo test`. More seeds: `PAIRDB_SIM_FROM=1000 PAIRDB_SIM_SEEDS=5000 cargo test --test simulation`, or `cargo sim sweep`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use pairdb_sim::cli::report;
use pairdb_sim::run::{Options, run};
use pairdb_sim::sweep::{cores, sweep};
use pairdb_sim::world::World;

const SEEDS: u64 = 200;

/// Set in the child processes of the determinism test: which seeds to run, and where to put their histories.
const CHILD: &str = "PAIRDB_SIM_CHILD";
const CHILD_SEEDS: [u64; 6] = [1, 2, 3, 5, 8, 13];

#[test]
fn promises_hold() {
    let number = |name: &str| env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let from = number("PAIRDB_SIM_FROM").unwrap_or(0);
    let seeds = number("PAIRDB_SIM_SEEDS").unwrap_or(SEEDS);
    let mut broken = Vec::new();
    sweep(from..from + seeds, cores(), None, |outcome| {
        if !outcome.violations.is_empty() {
            let replay = format!("cargo sim run --seed {}", outcome.seed);
            broken.push(report::text(&outcome, &replay));
        }
        true
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn scenarios_stay_mended() {
    let folder = scenarios();
    let files = fs::read_dir(&folder).expect("there is a folder of scenarios");
    let mut files: Vec<PathBuf> = files
        .map(|file| file.expect("it can be listed").path())
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let world = World::read(&file).unwrap_or_else(|problem| panic!("{problem}"));
        let outcome = run(world, Options::default());
        let replay = format!("cargo sim run --world {}", file.display());
        assert!(
            outcome.violations.is_empty(),
            "{}",
            report::text(&outcome, &replay)
        );
    }
}

/// Promise 12: one seed, one byte-identical history, in two fresh processes.
#[test]
fn histories_are_the_same_in_every_process() {
    let folder = env::temp_dir().join(format!("pairdb-sim-{}", std::process::id()));
    let [first, second] = ["first", "second"].map(|name| {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).expect("there is room for histories");
        let child = Command::new(env::current_exe().expect("this is a program"))
            .args(["--exact", "write_histories", "--ignored", "--nocapture"])
            .env(CHILD, &folder)
            .output();
        let child = child.expect("this program can be run");
        assert!(
            child.status.success(),
            "{}",
            String::from_utf8_lossy(&child.stderr)
        );
        folder
    });
    for seed in CHILD_SEEDS {
        let read = |folder: &Path| {
            fs::read_to_string(folder.join(seed.to_string())).expect("a child wrote it")
        };
        let (first, second) = (read(&first), read(&second));
        assert!(first.lines().count() > 100, "seed {seed} has a history");
        let differ = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert!(first == second, "seed {seed} has two histories: {differ:?}");
    }
    let _ = fs::remove_dir_all(folder);
}

#[test]
#[ignore = "the child process of the test above"]
fn write_histories() {
    let Some(folder) = env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    for seed in CHILD_SEEDS {
        let options = Options {
            messages: true,
            ..Options::default()
        };
        let outcome = run(World::draw(seed), options);
        let text = format!("{}{:016x}\n", outcome.history, outcome.fingerprint);
        fs::write(folder.join(seed.to_string()), text).expect("a history can be written");
    }
}

fn scenarios() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("scenarios");
    if folder.is_dir() {
        folder
    } else {
        here.join("../scenarios")
    }
}
