//! `/v1/admin/changes`: several changes of nodes and replication factors as one, and what such a change would move.
//!
//! What it is not: adding or removing one node, which older clients ask for elsewhere ([`nodes`](super::nodes)).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::answer::{self, SUCCESS};
use super::body::{Body, or_default, whole, whole_or_none};
use super::call::Call;
use super::errors::Errors;
use super::failure::Failure;
use super::nodes::Add;
use crate::proto::v1;
use crate::proto::v1::node_change::Change;

/// What is to become of nodes and replication factors, as one change: data moves once.
#[derive(Deserialize, ToSchema)]
pub(super) struct Changes {
    /// Of nodes, each node once.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<ChangeOfNode>>, max_items = 1024)]
    changes: Vec<ChangeOfNode>,
    /// Of tenants' replication factors, each tenant once.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Vec<ChangeOfFactor>>, max_items = 1024)]
    factors: Vec<ChangeOfFactor>,
}

/// What is to become of one storage node.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ChangeOfNode {
    /// It joins.
    Add(Add),
    /// It leaves.
    Remove(Leaves),
    /// Another one takes its place, and owns exactly what it owned.
    Replace(Replaced),
    /// It takes another share of the data, or is in another zone.
    Set(Set),
}

/// A node that leaves.
#[derive(Deserialize, ToSchema)]
struct Leaves {
    /// Which one.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(required, min_length = 1, max_length = 255, pattern = "^[!\"$-~]+$")]
    node_id: String,
    /// Take it for lost, which it is only if it does not answer: what only it holds is given up.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<bool>)]
    force: bool,
}

/// A node whose place another one takes.
#[derive(Deserialize, ToSchema)]
struct Replaced {
    /// Who leaves.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(required, min_length = 1, max_length = 255, pattern = "^[!\"$-~]+$")]
    node_id: String,
    /// Who joins. It has as many tokens as the other one, and its zone unless it names one.
    by: Add,
    /// Take the one that leaves for lost, which it is only if it does not answer.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<bool>)]
    force: bool,
}

/// A node that takes another share of the data, or is in another zone.
#[derive(Deserialize, ToSchema)]
struct Set {
    /// Which one.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(required, min_length = 1, max_length = 255, pattern = "^[!\"$-~]+$")]
    node_id: String,
    /// How many tokens it is to have; absent or null: as many as now.
    #[serde(default, deserialize_with = "whole_or_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4096)]
    virtual_nodes: Option<u32>,
    /// In which zone it is to be; empty: in none; absent or null: where it is.
    #[serde(default)]
    #[schema(max_length = 255, pattern = "^[!-~]*$")]
    zone: Option<String>,
}

/// A tenant that gets another replication factor.
#[derive(Deserialize, ToSchema)]
struct ChangeOfFactor {
    /// Which tenant.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(required, min_length = 1, max_length = 255)]
    tenant_id: String,
    /// How many owners its keys are to have.
    #[serde(default, deserialize_with = "whole")]
    #[schema(required, minimum = 1, maximum = 10)]
    replication_factor: i32,
}

impl From<ChangeOfNode> for Change {
    fn from(asked: ChangeOfNode) -> Self {
        match asked {
            ChangeOfNode::Add(add) => Self::Add(add.into()),
            ChangeOfNode::Remove(Leaves { node_id, force }) => {
                Self::Remove(v1::RemoveStorageNodeRequest { node_id, force })
            }
            ChangeOfNode::Replace(Replaced { node_id, by, force }) => {
                Self::Replace(v1::ReplaceStorageNode {
                    node_id,
                    by: Some(by.into()),
                    force,
                })
            }
            ChangeOfNode::Set(Set {
                node_id,
                virtual_nodes,
                zone,
            }) => Self::Set(v1::SetStorageNode {
                node_id,
                virtual_nodes,
                zone,
            }),
        }
    }
}

impl From<Changes> for v1::ChangeNodesRequest {
    fn from(asked: Changes) -> Self {
        let changes = asked.changes.into_iter().map(|change| v1::NodeChange {
            change: Some(change.into()),
        });
        let factors = asked.factors.into_iter();
        let factors = factors.map(|asked| v1::UpdateReplicationFactorRequest {
            tenant_id: asked.tenant_id,
            new_replication_factor: asked.replication_factor,
        });
        Self {
            changes: changes.collect(),
            factors: factors.collect(),
        }
    }
}

/// What came of asking for a change.
#[derive(Serialize, ToSchema)]
pub(super) struct AskedFor {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// The migration that moves data; empty when none is needed.
    migration_id: String,
    /// For people.
    message: String,
    /// Unix seconds; 0 when unknown.
    estimated_completion: i64,
}

/// What a change would move, if it were begun after all that were asked for before. Writes that come meanwhile are not
/// counted.
#[derive(Serialize, ToSchema)]
pub(super) struct Plan {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// How many partitions there are.
    partitions: u64,
    /// Those of which some tenant's keys get another owner.
    partitions_moving: u64,
    /// Records as they are to be held afterwards, each once for each of its owners.
    copies: u64,
    /// Those of them that have to be made, at owners that lack them.
    copies_moving: u64,
    /// In the order of their names.
    nodes: Vec<PlannedNode>,
    /// Nodes that did not answer: what they alone hold is not counted.
    silent: Vec<String>,
}

/// What would become of one node.
#[derive(Serialize, ToSchema)]
struct PlannedNode {
    /// Its name.
    node_id: String,
    /// Partitions that it owns by the largest replication factor there is, before.
    partitions_before: u64,
    /// And after.
    partitions_after: u64,
    /// Records that it is to hold, before.
    keys_before: u64,
    /// And after.
    keys_after: u64,
    /// Records that it gets.
    keys_gained: u64,
}

/// Change nodes and replication factors.
///
/// All of it is one change, so data moves once. While no node holds a record it is made at once; otherwise a migration
/// moves data, in the background. What is so already, or was asked for already, changes nothing. 412 NODE_IN_USE when
/// fewer nodes would be left than some tenant has replicas, when a node that joins does not answer or is not empty, and
/// when one that is to hand over what it holds does not answer.
#[utoipa::path(
    post, path = "/v1/admin/changes", tag = "admin", request_body = Changes,
    responses((status = 202, description = "Made, or asked for", body = AskedFor), Errors),
)]
pub(super) async fn ask(
    State(gateway): State<Shared>,
    call: Call,
    Body(changes): Body<Changes>,
) -> Result<Response, Failure> {
    let request = call.with(v1::ChangeNodesRequest::from(changes))?;
    let answer = gateway.service.change_nodes(request).await?;
    Ok(answer::json(StatusCode::ACCEPTED, answer, |changed| {
        AskedFor {
            status: SUCCESS,
            migration_id: changed.migration_id,
            message: changed.message,
            estimated_completion: changed.estimated_completion,
        }
    }))
}

/// Say what a change would move.
///
/// Nothing is changed. It fails as the change itself would by what is known now.
#[utoipa::path(
    post, path = "/v1/admin/changes/plan", tag = "admin", request_body = Changes,
    responses((status = 200, description = "What would move", body = Plan), Errors),
)]
pub(super) async fn plan(
    State(gateway): State<Shared>,
    call: Call,
    Body(changes): Body<Changes>,
) -> Result<Response, Failure> {
    let change = Some(changes.into());
    let request = call.with(v1::PlanNodesRequest { change })?;
    let answer = gateway.service.plan_nodes(request).await?;
    Ok(answer::json(StatusCode::OK, answer, planned))
}

fn planned(plan: v1::PlanNodesResponse) -> Plan {
    let nodes = plan.nodes.into_iter().map(|node| PlannedNode {
        node_id: node.node_id,
        partitions_before: node.partitions_before,
        partitions_after: node.partitions_after,
        keys_before: node.keys_before,
        keys_after: node.keys_after,
        keys_gained: node.keys_gained,
    });
    Plan {
        status: SUCCESS,
        partitions: plan.partitions,
        partitions_moving: plan.partitions_moving,
        copies: plan.copies,
        copies_moving: plan.copies_moving,
        nodes: nodes.collect(),
        silent: plan.silent,
    }
}
