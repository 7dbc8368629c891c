//! `pairdb status`: is the cluster well?

use clap::Args;
use serde_json::json;

use super::client::{ClientArgs, Effect, client, failure};
use super::convergence;
use super::exit::{Exit, Failure};
use super::migration::migrations;
use super::migration_view::{self, is_over};
use super::node;
use super::output::{self, BAD, GOOD, styled};
use crate::proto::health::v1::HealthCheckRequest;
use crate::proto::health::v1::health_check_response::ServingStatus;
use crate::proto::health::v1::health_client::HealthClient;

/// What `status --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb status
  pairdb status --json --server http://db.example:50051

Trees are what the owners of data are compared by: all that one tenant has in one partition. Hints are what
storage nodes owe one that did not answer (`pairdb hints`), tombstones what is left of deleted keys.

Exits with 5 when the coordinator is not reachable or not ready. A storage node that is down is
shown, but as long as the coordinator serves, the exit code is 0.";

/// The arguments of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// Where and how
    #[command(flatten)]
    pub client: ClientArgs,
}

impl Status {
    /// Asks and prints.
    pub async fn run(self) -> Result<(), Failure> {
        let channel = self.client.channel().await?;
        let health = HealthClient::new(channel.clone())
            .check(self.client.request(HealthCheckRequest {
                service: String::new(),
            }))
            .await
            .map_err(|status| failure(&status, Effect::Reads))?
            .into_inner();
        let serving = health.status() == ServingStatus::Serving;
        let mut client = client(channel);
        let nodes = node::nodes(&self.client, &mut client).await?;
        let convergence = convergence::convergence(&self.client, &mut client, false).await?;
        let mut open = migrations(&self.client, &mut client, 0).await?;
        open.retain(|migration| !is_over(migration));
        let in_step = nodes.iter().filter(|node| !node.out_of_step);
        let epoch = in_step.map(|node| node.epoch).max().unwrap_or(0);
        let reachable = nodes.iter().filter(|node| node.reachable).count();

        if self.client.json {
            output::json(&json!({
                "serving": serving,
                "epoch": epoch,
                "nodes_reachable": reachable,
                "nodes": nodes.iter().map(node::to_json).collect::<Vec<_>>(),
                "convergence": convergence::to_json(&convergence),
                "migrations": open.iter().map(migration_view::to_json).collect::<Vec<_>>(),
            }))?;
        } else {
            let server = &self.client.server;
            let state = if serving {
                styled(GOOD, "ready")
            } else {
                styled(BAD, "not ready")
            };
            output::line(&format!(
                "coordinator {server}: {state}, epoch {epoch}, {reachable} of {} storage nodes reachable",
                nodes.len()
            ))?;
            node::table(&nodes)?;
            convergence::summary(&convergence)?;
            if !open.is_empty() {
                migration_view::table(&open)?;
            }
        }
        if serving {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Unavailable,
            "NOT_READY",
            "the coordinator is not ready",
        ))
    }
}
