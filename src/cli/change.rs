//! Asking for a change of owners: what `node` and `tenant` have in common.

use clap::Args;
use serde_json::{Value, json};

use super::client::{ClientArgs, Effect, failure};
use super::exit::Failure;
use super::forecast;
use super::migration_view;
use super::migration_watch::{WaitArgs, Wanted, watch};
use super::output;
use crate::proto::v1::{ChangeNodesRequest, NodeChange, PlanNodesRequest, node_change};

/// How a change is asked for.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// Say what would move and how much each node would hold, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return when all data has moved
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// For how long
    #[command(flatten)]
    pub patience: WaitArgs,
    /// Where and how
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Several changes of nodes as one.
pub fn of_nodes(changes: impl IntoIterator<Item = node_change::Change>) -> ChangeNodesRequest {
    let changes = changes.into_iter();
    ChangeNodesRequest {
        changes: changes
            .map(|change| NodeChange {
                change: Some(change),
            })
            .collect(),
        factors: Vec::new(),
    }
}

impl ChangeArgs {
    /// Asks for it, or for what it would move. `nodes` are those that it is about.
    pub async fn nodes(&self, change: ChangeNodesRequest, nodes: &[String]) -> Result<(), Failure> {
        if self.dry_run {
            return self.plan(change).await;
        }
        let mut client = self.client.connect().await?;
        let changed = client.change_nodes(self.client.request(change)).await;
        let changed = changed.map_err(|status| failure(&status, Effect::Writes))?;
        let changed = changed.into_inner();
        let told = json!({
            "node": nodes.first(),
            "nodes": nodes,
            "migration_id": migration(&changed.migration_id),
            "message": changed.message,
        });
        let line = format!("{}: {}", nodes.join(", "), changed.message);
        self.asked(&changed.migration_id, told, &line).await
    }

    /// Says what a change would move.
    pub async fn plan(&self, change: ChangeNodesRequest) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let change = Some(change);
        let plan = client.plan_nodes(self.client.request(PlanNodesRequest { change }));
        let plan = plan.await;
        let plan = plan.map_err(|status| failure(&status, Effect::Reads))?;
        let plan = plan.into_inner();
        match self.client.json {
            true => output::json(&forecast::to_json(&plan)),
            false => forecast::print(&plan),
        }
    }

    /// Tells what was asked for, and waits until it is so, if that is wanted.
    pub async fn asked(&self, id: &str, mut told: Value, line: &str) -> Result<(), Failure> {
        let waits = self.wait && !id.is_empty();
        if !self.client.json {
            output::line(line)?;
            if !id.is_empty() && !self.wait {
                output::note(&format!(
                    "`pairdb migration watch {id}` shows how far it has come"
                ));
            }
        }
        if waits {
            let mut client = self.client.connect().await?;
            let wanted = Wanted::Completed;
            let over = watch(&self.client, &mut client, id, &self.patience, wanted).await?;
            told["migration"] = migration_view::to_json(&over);
        }
        match self.client.json {
            true => output::json(&told),
            false => Ok(()),
        }
    }
}

/// A migration's id as JSON: null when there is none.
pub fn migration(id: &str) -> Value {
    if id.is_empty() {
        Value::Null
    } else {
        id.into()
    }
}
