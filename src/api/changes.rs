//! Changes of owners as messages: what is asked for, what that would move, and how far it has come.
//!
//! What it is not: whether a change can be, which the coordinator says.

use super::convert;
use crate::coordinator::{CoordinatorError, Forecast, MigrationView, NodeForecast, NodesChanged};
use crate::placement::{ChangeRequest, FactorRequest, MoveState, Node, NodeChange};
use crate::ports::{Migration, MigrationStatus};
use crate::proto::v1;
use crate::proto::v1::node_change::Change;

/// Migrations that are listed unless told otherwise.
const LISTED: u32 = 20;
/// Migrations that are listed at most.
const LISTED_MAX: u32 = 1000;

/// What is asked for.
pub(super) fn request(asked: v1::ChangeNodesRequest) -> Result<ChangeRequest, CoordinatorError> {
    let nodes = asked.changes.into_iter().map(node_change);
    let factors = asked.factors.into_iter().map(factor);
    Ok(ChangeRequest {
        nodes: nodes.collect::<Result<_, _>>()?,
        factors: factors.collect::<Result<_, _>>()?,
    })
}

/// One change as what is asked for.
pub(super) fn only(change: NodeChange) -> ChangeRequest {
    ChangeRequest {
        nodes: vec![change],
        factors: Vec::new(),
    }
}

fn node_change(asked: v1::NodeChange) -> Result<NodeChange, CoordinatorError> {
    let missing = || CoordinatorError::InvalidRequest {
        field: "changes",
        problem: "one of them is empty; it must be add, remove, replace or set".into(),
    };
    Ok(match asked.change.ok_or_else(missing)? {
        Change::Add(add) => NodeChange::Add(convert::node(add)?),
        Change::Remove(remove) => NodeChange::Remove {
            id: convert::node_id(remove.node_id)?,
            force: remove.force,
        },
        Change::Replace(replace) => NodeChange::Replace {
            id: convert::node_id(replace.node_id)?,
            by: convert::node(replace.by.unwrap_or_default())?,
            force: replace.force,
        },
        Change::Set(set) => NodeChange::Set {
            id: convert::node_id(set.node_id)?,
            virtual_nodes: set.virtual_nodes,
            zone: set.zone,
        },
    })
}

fn factor(asked: v1::UpdateReplicationFactorRequest) -> Result<FactorRequest, CoordinatorError> {
    let given = asked.new_replication_factor;
    let factor = convert::replication_factor(given)?;
    let factor = u8::try_from(factor).map_err(|_| {
        CoordinatorError::InvalidReplicationFactor(format!(
            "{given} is not possible; it must be 1 to 10"
        ))
    })?;
    Ok(FactorRequest {
        tenant: asked.tenant_id.into(),
        factor,
    })
}

/// How many migrations are to be listed.
pub(super) fn limit(asked: u32) -> Result<usize, CoordinatorError> {
    match asked {
        0 => Ok(LISTED as usize),
        1..=LISTED_MAX => Ok(asked as usize),
        _ => Err(CoordinatorError::InvalidRequest {
            field: "limit",
            problem: format!("is {asked}; it must be 1 to {LISTED_MAX}, or 0 for {LISTED}"),
        }),
    }
}

/// What came of a change: the migration's name, and a line for people.
pub(super) fn outcome(changed: &NodesChanged) -> (String, String) {
    match changed {
        NodesChanged::Already { topology, by: None } => (
            String::new(),
            format!("it was so already, at epoch {}", topology.epoch),
        ),
        NodesChanged::Already { by: Some(id), .. } => (
            id.to_string(),
            format!("it was so already, by migration {id}, which is completed"),
        ),
        NodesChanged::AtOnce { topology, given_up } => {
            let epoch = topology.epoch;
            let lost: Vec<&str> = given_up.iter().map(|id| id.as_str()).collect();
            let data = match lost.is_empty() {
                true => "no data had to move".to_owned(),
                false => format!(
                    "{} did not answer, and what only they may hold is given up",
                    lost.join(", ")
                ),
            };
            (String::new(), format!("done since epoch {epoch}; {data}"))
        }
        NodesChanged::Asked { migration, ahead } => {
            let id = &migration.id;
            let turn = match ahead {
                0 => String::new(),
                1 => ", once the migration before it has ended".to_owned(),
                ahead => format!(", once the {ahead} migrations before it have ended"),
            };
            (
                id.to_string(),
                format!("migration {id} moves the data{turn}"),
            )
        }
    }
}

/// What a change would move.
pub(super) fn plan(forecast: Forecast) -> v1::PlanNodesResponse {
    let node = |node: NodeForecast| v1::PlannedNode {
        node_id: node.id.as_str().into(),
        partitions_before: node.partitions.0,
        partitions_after: node.partitions.1,
        keys_before: node.keys.0,
        keys_after: node.keys.1,
        keys_gained: node.keys_gained,
    };
    let silent = forecast.silent.iter().map(|id| id.as_str().to_owned());
    v1::PlanNodesResponse {
        partitions: forecast.partitions,
        partitions_moving: forecast.partitions_moving,
        copies: forecast.copies,
        copies_moving: forecast.copies_moving,
        bytes_moving: forecast.bytes_moving,
        estimated_seconds: forecast.seconds,
        silent: silent.collect(),
        nodes: forecast.nodes.into_iter().map(node).collect(),
    }
}

/// How far a migration has come.
pub(super) fn status(view: MigrationView) -> v1::GetMigrationStatusResponse {
    let progress = progress(&view);
    let migration = view.migration;
    let is_open = migration.status.is_open();
    v1::GetMigrationStatusResponse {
        success: true,
        migration_id: migration.id.to_string(),
        r#type: migration.kind().into(),
        node_id: migration
            .node()
            .map(|id| id.as_str().to_owned())
            .unwrap_or_default(),
        status: migration.status.as_str().into(),
        progress: Some(progress),
        started_at: migration.started_at.unwrap_or_default(),
        estimated_completion: view.estimated_completion.unwrap_or_default(),
        created_at: migration.created_at,
        ended_at: migration.ended_at.unwrap_or_default(),
        cancelling: migration.cancel && is_open,
        waits_for: view.waits_for.unwrap_or_default(),
        bytes_per_second_max: migration.bytes_per_second,
        changes: in_words(&migration),
        error_message: migration.error.unwrap_or_default(),
    }
}

fn progress(view: &MigrationView) -> v1::MigrationProgress {
    let progress = view.migration.progress;
    let of = |state| {
        let mut counts = view.partitions.iter();
        let found = counts.find(|(counted, _)| *counted == state);
        found.map_or(0, |(_, count)| *count)
    };
    let done = progress.partitions_done;
    let percentage = match (view.migration.status, progress.partitions) {
        (MigrationStatus::Completed, _) => 100.0,
        // All that is done was undone.
        (MigrationStatus::Cancelled, _) => 0.0,
        (_, 0) => 0.0,
        (_, all) => (done as f32 * 100.0 / all as f32).min(100.0),
    };
    v1::MigrationProgress {
        keys_migrated: long(progress.keys),
        total_keys: long(progress.keys_total),
        percentage,
        partitions: progress.partitions,
        partitions_done: done,
        partitions_waiting: of(MoveState::Waiting),
        partitions_copying: of(MoveState::Copying),
        partitions_handing_over: of(MoveState::HandingOver),
        // Those that are done are in this state, too, until the change is over.
        partitions_moved: of(MoveState::Moved).saturating_sub(done),
        bytes: progress.bytes,
        keys_per_second: view.keys_per_second,
    }
}

/// A line for each change that was asked for.
fn in_words(migration: &Migration) -> Vec<String> {
    let nodes = migration.request.nodes.iter().map(|change| match change {
        NodeChange::Add(node) => format!("add {}", placed(node)),
        NodeChange::Remove { id, force: false } => format!("remove {id}"),
        NodeChange::Remove { id, force: true } => format!("remove {id}, which is given up"),
        NodeChange::Replace { id, by, force } => {
            let lost = if *force { ", which is given up," } else { "" };
            format!("replace {id}{lost} by {}", placed(by))
        }
        NodeChange::Set {
            id,
            virtual_nodes,
            zone,
        } => {
            let weight = virtual_nodes.map(|count| format!("{count} virtual nodes"));
            let zone = zone.as_deref().map(|zone| match zone {
                "" => "no zone".to_owned(),
                zone => format!("zone {zone}"),
            });
            let what: Vec<String> = weight.into_iter().chain(zone).collect();
            format!("set {id} to {}", what.join(" and "))
        }
    });
    let factors = migration.request.factors.iter();
    let factors = factors.map(|asked| {
        let (tenant, factor) = (&asked.tenant, asked.factor);
        format!("replication factor {factor} for tenant {tenant}")
    });
    nodes.chain(factors).collect()
}

fn placed(node: &Node) -> String {
    let zone = node.zone.as_deref();
    let zone = zone.map_or_else(String::new, |zone| format!(" in zone {zone}"));
    format!("{} at {}{zone}", node.id, node.address())
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "changes_test.rs"]
mod tests;
