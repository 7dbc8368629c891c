//! The command line: one program that is every part of PairDB, and its client.
//!
//! What it is not: nothing here decides what a write or a read means. It parses, composes adapters with the
//! coordinator and the storage node (it is the composition root), and prints.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the composition root: clocks, tasks and threads of the process are its own business"
)]

mod client;
mod delete;
mod exit;
mod get;
mod key;
mod node;
mod output;
mod put;
mod status;
mod tenant;
mod value;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{EXIT_CODES, Failure};

/// A multi-tenant, Dynamo-style key-value store
#[derive(Parser, Debug)]
#[command(name = "pairdb", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
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
    /// Add, remove and list storage nodes
    #[command(subcommand, after_help = node::EXAMPLES)]
    Node(node::NodeCommand),
    /// Show how the cluster is
    #[command(after_help = status::EXAMPLES)]
    Status(status::Status),
}

impl Command {
    /// Whether failures are wanted as JSON.
    const fn json(&self) -> bool {
        match self {
            Self::Put(put) => put.client.json,
            Self::Get(get) => get.client.json,
            Self::Delete(delete) => delete.client.json,
            Self::Tenant(tenant) => tenant.client().json,
            Self::Node(node) => node.client().json,
            Self::Status(status) => status.client.json,
        }
    }

    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Put(put) => on_one_thread(put.run()),
            Self::Get(get) => on_one_thread(get.run()),
            Self::Delete(delete) => on_one_thread(delete.run()),
            Self::Tenant(tenant) => on_one_thread(tenant.run()),
            Self::Node(node) => on_one_thread(node.run()),
            Self::Status(status) => on_one_thread(status.run()),
        }
    }
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.command.json();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure, json);
            failure.exit.into()
        }
    }
}

fn on_one_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("can't start: {error}")))?
        .block_on(work)
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
}
