//! The command line: one program that is every part of PairDB, and its client.
//!
//! What it is not: nothing here decides what a write or a read means. It parses, composes adapters with the
//! coordinator and the storage node (it is the composition root), and prints.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the composition root: clocks, tasks and threads of the process are its own business"
)]

mod bench;
mod bounds;
mod change;
mod client;
mod config;
mod convergence;
mod coordinator;
mod delete;
mod dev;
mod exit;
mod forecast;
mod get;
mod health;
mod hints;
mod join;
mod key;
mod membership;
mod migrate;
mod migration;
mod migration_view;
mod migration_watch;
mod node;
mod one_thread;
mod output;
mod peer;
mod put;
mod serve;
mod shell;
mod status;
mod storage;
mod tenant;
mod tenant_key;
mod tls;
mod value;
mod verify;

#[cfg(test)]
mod deploy_test;
#[cfg(test)]
mod scaling_test;
#[cfg(test)]
mod tls_test;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Failure, exit_codes};
use one_thread::on_one_thread;

use crate::config::{Layers, check_names};

pub use serve::{METRICS, Metric, MetricKind, table as metric_table};

/// A multi-tenant, Dynamo-style key-value store
#[derive(Parser, Debug)]
#[command(name = "pairdb", version, after_help = exit_codes(), max_term_width = 100)]
struct Cli {
    /// A TOML or YAML file of settings, for commands that serve and for `config`
    #[arg(long, global = true, env = "PAIRDB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a whole cluster in one process, to try it and to develop against it
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::Dev),
    /// Run a coordinator
    #[command(after_help = coordinator::EXAMPLES)]
    Coordinator(coordinator::Coordinator),
    /// Run a storage node
    #[command(after_help = storage::EXAMPLES)]
    Storage(storage::Storage),
    /// Write a value
    #[command(after_help = put::EXAMPLES)]
    Put(put::Put),
    /// Read a value
    #[command(after_help = get::EXAMPLES)]
    Get(get::Get),
    /// Delete a key
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::Delete),
    /// Create, show and change tenants
    #[command(subcommand, after_help = tenant::EXAMPLES)]
    Tenant(tenant::TenantCommand),
    /// Add, remove, replace, change and list storage nodes
    #[command(subcommand, after_help = node::EXAMPLES)]
    Node(node::NodeCommand),
    /// Watch, cancel and pace what moves data
    #[command(subcommand, after_help = migration::EXAMPLES)]
    Migration(migration::MigrationCommand),
    /// Show how the cluster is
    #[command(after_help = status::EXAMPLES)]
    Status(status::Status),
    /// Ask one process whether it serves
    #[command(after_help = health::EXAMPLES)]
    Health(health::Health),
    /// Show what storage nodes owe each other, or wait until one has got it
    #[command(after_help = hints::EXAMPLES)]
    Hints(hints::Hints),
    /// Read all owners of all keys and print differences
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Verify),
    /// Put load on a cluster and measure it
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Bench),
    /// Bring the tables of the metadata store up to date, or show whether they are
    #[command(after_help = migrate::EXAMPLES)]
    Migrate(migrate::Migrate),
    /// Show the configuration in effect
    #[command(after_help = config::EXAMPLES)]
    Config(config::ShowConfig),
}

impl Command {
    /// Whether failures are wanted as JSON.
    const fn json(&self) -> bool {
        match self {
            Self::Dev(dev) => dev.json,
            Self::Coordinator(coordinator) => coordinator.json,
            Self::Storage(storage) => storage.json,
            Self::Put(put) => put.client.json,
            Self::Get(get) => get.client.json,
            Self::Delete(delete) => delete.client.json,
            Self::Tenant(tenant) => tenant.client().json,
            Self::Node(node) => node.client().json,
            Self::Migration(migration) => migration.client().json,
            Self::Status(status) => status.client.json,
            Self::Health(health) => health.client.json,
            Self::Hints(hints) => hints.json(),
            Self::Verify(verify) => verify.client.json,
            Self::Bench(bench) => bench.json,
            Self::Migrate(migrate) => migrate.json,
            Self::Config(config) => config.json,
        }
    }

    fn run(self, file: Option<&Path>) -> Result<(), Failure> {
        match self {
            Self::Dev(dev) => dev.run(layers(file)?),
            Self::Coordinator(coordinator) => coordinator.run(layers(file)?),
            Self::Storage(storage) => storage.run(layers(file)?),
            Self::Put(put) => on_one_thread(put.run()),
            Self::Get(get) => on_one_thread(get.run()),
            Self::Delete(delete) => on_one_thread(delete.run()),
            Self::Tenant(tenant) => on_one_thread(tenant.run()),
            Self::Node(node) => on_one_thread(node.run()),
            Self::Migration(migration) => on_one_thread(migration.run()),
            Self::Status(status) => on_one_thread(status.run()),
            Self::Health(health) => on_one_thread(health.run()),
            Self::Hints(hints) => on_one_thread(hints.run()),
            Self::Verify(verify) => on_one_thread(verify.run()),
            Self::Bench(bench) => on_one_thread(bench.run()),
            Self::Migrate(migrate) => migrate.run(layers(file)?),
            Self::Config(config) => config.run(&layers(file)?),
        }
    }
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, std::env::args_os()),
    };
    let json = cli.command.json();
    match variables_are_ours().and_then(|()| cli.command.run(cli.config.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure, json);
            failure.exit.into()
        }
    }
}

/// What the parser has to say instead: help, the version, or what is wrong, which scripts get in their own form.
fn not_parsed(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.take_while(|argument| argument != "--");
    if error.use_stderr() && arguments.any(|argument| argument == "--json") {
        let failure = Failure::from(error);
        output::failure(&failure, true);
        return failure.exit.into();
    }
    // That it can't be written is nobody's failure.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A variable that begins like ours and is none was meant to be one, whatever the command.
fn variables_are_ours() -> Result<(), Failure> {
    let variables: Vec<_> = variables().collect();
    let variables = variables
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    Ok(check_names(variables)?)
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, text)| {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        (lossy(name), lossy(text))
    })
}

/// The settings before a command's own flags: defaults, file, environment.
fn layers(file: Option<&Path>) -> Result<Layers, Failure> {
    let layers = match file {
        Some(file) => Layers::new().file(file)?,
        None => Layers::new(),
    };
    Ok(layers.environment(variables())?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_examples() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        for command in cli
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
        {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.starts_with("Example"),
                "{} has no examples",
                command.get_name()
            );
        }
    }

    #[test]
    fn a_value_may_begin_with_a_hyphen_and_flags_stay_flags() {
        let put = |arguments: &[&str]| {
            let arguments = ["pairdb", "put"].iter().chain(arguments);
            match Cli::try_parse_from(arguments).map(|cli| cli.command) {
                Ok(Command::Put(put)) => Some((put.value, put.client.json)),
                _ => None,
            }
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(put(&["key", "-5"]), Some((text("-5"), false)));
        assert_eq!(put(&["key", "-"]), Some((text("-"), false)));
        assert_eq!(put(&["key", "--json"]), Some((None, true)));
        assert_eq!(put(&["key", "--", "--json"]), Some((text("--json"), false)));
        assert_eq!(put(&["key", "value", "--file", "too"]), None);
    }
}
