//! `/v1/admin/storage-nodes`: add one, remove one, list.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::answer::{self, SUCCESS};
use super::body::{Body, Either, Merge, Named, agreed, or_default, whole};
use super::call::Call;
use super::errors::Errors;
use super::failure::{Failure, wrong};
use super::schema;
use crate::proto::v1;

/// A storage node to be added.
#[derive(Deserialize, ToSchema)]
pub(super) struct Add {
    /// 1 to 255 bytes, unique in its cluster.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(
        required,
        examples("node-4"),
        min_length = 1,
        max_length = 255,
        pattern = "^[!\"$-~]+$"
    )]
    node_id: String,
    /// Where coordinators reach it: a host name or an address.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(schema_with = schema::host, required = true)]
    host: String,
    /// Where coordinators reach it.
    #[serde(default, deserialize_with = "whole")]
    #[schema(required, minimum = 1, maximum = 65535)]
    port: i32,
    /// How many tokens it has on the ring, in proportion to its share of the data; absent or 0: 150.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 4096)]
    virtual_nodes: i32,
    /// What it shares a fate with other nodes in, such as a rack: owners lie in as many zones as there are. Absent or
    /// empty: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<String>, max_length = 255, pattern = "^[!-~]*$")]
    zone: String,
}

impl From<Add> for v1::AddStorageNodeRequest {
    fn from(add: Add) -> Self {
        Self {
            node_id: add.node_id,
            host: add.host,
            port: add.port,
            virtual_nodes: add.virtual_nodes,
            zone: add.zone,
        }
    }
}

/// Whether a node goes though it is down; in the query or in a JSON body.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Remove {
    /// Take a node that does not answer for lost: what only it holds is given up.
    #[serde(default)]
    #[param(schema_with = schema::force)]
    force: Option<Flag>,
}

impl Merge for Remove {
    fn merge(self, query: Self) -> Result<Self, Failure> {
        let read = |flag: Option<Flag>| flag.map(Flag::read).transpose();
        let force = agreed("force", read(self.force)?, read(query.force)?)?;
        Ok(Self {
            force: force.map(Flag::Bool),
        })
    }
}

/// `true`, or its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

impl Flag {
    fn read(self) -> Result<bool, Failure> {
        match self {
            Self::Bool(flag) => Ok(flag),
            Self::Text(text) => match text.as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" | "" => Ok(false),
                _ => Err(wrong("force", "is neither true nor false")),
            },
        }
    }
}

/// A change of the cluster's nodes.
#[derive(Serialize, ToSchema)]
pub(super) struct Change {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// The node.
    node_id: String,
    /// The migration that moves data; empty when none is needed.
    migration_id: String,
    /// For people.
    message: String,
    /// Unix seconds; 0 when unknown.
    estimated_completion: i64,
}

/// All storage nodes.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    /// Always "success".
    #[schema(examples("success"))]
    status: &'static str,
    /// In the order of their names.
    nodes: Vec<Node>,
}

/// A storage node and how it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Node {
    /// Its name.
    node_id: String,
    /// Where coordinators reach it.
    host: String,
    /// Where coordinators reach it.
    port: i32,
    /// "joining", "active", "draining" or "inactive".
    status: String,
    /// How many tokens it has on the ring.
    virtual_nodes: i32,
    /// About how many keys it held when it last answered; 0 when it never did.
    keys_count: i64,
    /// 0 to 100; 0 when unknown.
    #[schema(minimum = 0, maximum = 100)]
    disk_usage_percent: f32,
    /// Whether it answered this coordinator when last asked.
    reachable: bool,
    /// Why it refused writes when it last answered; empty when it took them, or never answered.
    refuses_writes: String,
    /// The newest topology it knew when it last answered.
    epoch: u64,
    /// Its current incarnation, as in a vector clock.
    incarnation: String,
    /// Whether it refuses everything for an epoch that the metadata store does not have. It counts as missing then.
    out_of_step: bool,
    /// Its zone; empty: none.
    zone: String,
    /// The migration under way that makes it join, leave, or own another share; empty: none does.
    migration_id: String,
}

/// Add a storage node.
///
/// While no node holds a record it is added at once; otherwise a migration moves data to it, in the background. A node
/// that does not answer or is not empty is 412 NODE_IN_USE.
#[utoipa::path(
    post, path = "/v1/admin/storage-nodes", tag = "admin", request_body = Add,
    responses((status = 202, description = "Added, or being added", body = Change), Errors),
)]
pub(super) async fn add(
    State(gateway): State<Shared>,
    call: Call,
    Body(add): Body<Add>,
) -> Result<Response, Failure> {
    let request = call.with(v1::AddStorageNodeRequest::from(add))?;
    let answer = gateway.service.add_storage_node(request).await?;
    Ok(answer::json(StatusCode::ACCEPTED, answer, |change| {
        Change {
            status: SUCCESS,
            node_id: change.node_id,
            migration_id: change.migration_id,
            message: change.message,
            estimated_completion: change.estimated_completion,
        }
    }))
}

/// Remove a storage node.
///
/// While no node holds a record it goes at once; otherwise a migration moves what it holds to others, in the
/// background. 412 NODE_IN_USE when fewer nodes would be left than some tenant has replicas. `force` may be in a JSON
/// body instead.
#[utoipa::path(
    delete, path = "/v1/admin/storage-nodes/{node_id}", tag = "admin",
    params(("node_id" = String, Path, description = "The node", min_length = 1, max_length = 255, pattern = "^[!\"$-~]+$"), Remove),
    responses((status = 202, description = "Removed, or being removed", body = Change), Errors),
)]
pub(super) async fn remove(
    State(gateway): State<Shared>,
    Named(node_id): Named,
    call: Call,
    Either(remove): Either<Remove>,
) -> Result<Response, Failure> {
    let force = remove.force.map_or(Ok(false), Flag::read)?;
    let message = v1::RemoveStorageNodeRequest { node_id, force };
    let answer = gateway
        .service
        .remove_storage_node(call.with(message)?)
        .await?;
    Ok(answer::json(StatusCode::ACCEPTED, answer, |change| {
        Change {
            status: SUCCESS,
            node_id: change.node_id,
            migration_id: change.migration_id,
            message: change.message,
            estimated_completion: change.estimated_completion,
        }
    }))
}

/// List the storage nodes.
#[utoipa::path(
    get, path = "/v1/admin/storage-nodes", tag = "admin",
    responses((status = 200, description = "All of them", body = Nodes), Errors),
)]
pub(super) async fn list(State(gateway): State<Shared>, call: Call) -> Result<Response, Failure> {
    let request = call.with(v1::ListStorageNodesRequest {})?;
    let answer = gateway.service.list_storage_nodes(request).await?;
    Ok(answer::json(StatusCode::OK, answer, |list| Nodes {
        status: SUCCESS,
        nodes: list.nodes.into_iter().map(node).collect(),
    }))
}

fn node(info: v1::StorageNodeInfo) -> Node {
    Node {
        node_id: info.node_id,
        host: info.host,
        port: info.port,
        status: info.status,
        virtual_nodes: info.virtual_nodes,
        keys_count: info.keys_count,
        disk_usage_percent: info.disk_usage_percent,
        reachable: info.reachable,
        refuses_writes: info.refuses_writes,
        out_of_step: info.out_of_step,
        epoch: info.epoch,
        incarnation: info.incarnation,
        zone: info.zone,
        migration_id: info.migration_id,
    }
}
