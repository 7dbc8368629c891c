//! The wire's messages as the coordinator's requests, and its outcomes as messages.

use std::time::Duration;

use super::observe;
use crate::coordinator::{
    ClockEntry, CoordinatorError, NodeOverview, ReadOutcome, ReadRequest, WriteOutcome,
    WriteRequest,
};
use crate::placement::{DEFAULT_VIRTUAL_NODES, Node, NodeId, NodeStatus};
use crate::ports::{SiblingLimits, Tenant};
use crate::proto::v1;
use crate::quorum::{ConflictPolicy, Consistency};
use crate::version::Content;

/// A write.
pub(super) fn write_request(
    request: v1::WriteKeyValueRequest,
    timeout: Option<Duration>,
) -> Result<WriteRequest, CoordinatorError> {
    observe::tenant(&request.tenant_id);
    Ok(WriteRequest {
        consistency: consistency(&request.consistency)?,
        tenant: request.tenant_id,
        key: request.key,
        content: Content::Value(request.value),
        context: request.context,
        idempotency_key: request.idempotency_key.filter(|key| !key.is_empty()),
        timeout,
    })
}

/// A delete: a write of a tombstone.
pub(super) fn delete_request(
    request: v1::DeleteKeyValueRequest,
    timeout: Option<Duration>,
) -> Result<WriteRequest, CoordinatorError> {
    observe::tenant(&request.tenant_id);
    Ok(WriteRequest {
        consistency: consistency(&request.consistency)?,
        tenant: request.tenant_id,
        key: request.key,
        content: Content::Tombstone,
        context: request.context,
        idempotency_key: request.idempotency_key.filter(|key| !key.is_empty()),
        timeout,
    })
}

/// A read.
pub(super) fn read_request(
    request: v1::ReadKeyValueRequest,
    timeout: Option<Duration>,
) -> Result<ReadRequest, CoordinatorError> {
    observe::tenant(&request.tenant_id);
    Ok(ReadRequest {
        consistency: consistency(&request.consistency)?,
        tenant: request.tenant_id,
        key: request.key,
        context: request.context,
        timeout,
    })
}

/// A node to be added.
pub(super) fn node(request: v1::AddStorageNodeRequest) -> Result<Node, CoordinatorError> {
    let virtual_nodes = match request.virtual_nodes {
        0 => DEFAULT_VIRTUAL_NODES,
        given => u32::try_from(given).map_err(|_| {
            invalid(
                "virtual_nodes",
                format!("is {given}; it must be positive, or 0 for 150"),
            )
        })?,
    };
    let port = u16::try_from(request.port).map_err(|_| {
        invalid(
            "port",
            format!("is {}; it must be 1 to 65535", request.port),
        )
    })?;
    let node = Node {
        id: node_id(request.node_id)?,
        host: request.host,
        port,
        virtual_nodes,
        status: NodeStatus::Active,
        zone: Some(request.zone).filter(|zone| !zone.is_empty()),
        seat: None,
    };
    node.validate().map_err(|error| {
        use crate::placement::InvalidNode;
        let field = match error {
            InvalidNode::Id => "node_id",
            InvalidNode::Host => "host",
            InvalidNode::Port => "port",
            InvalidNode::VirtualNodes(_) => "virtual_nodes",
            InvalidNode::Zone => "zone",
            InvalidNode::Seat => "seat",
        };
        invalid(field, error.to_string())
    })?;
    Ok(node)
}

/// A node's name.
pub(super) fn node_id(name: String) -> Result<NodeId, CoordinatorError> {
    NodeId::new(name).map_err(|error| invalid("node_id", error.to_string()))
}

/// A replication factor. Negative ones are no factor at all.
pub(super) fn replication_factor(factor: i32) -> Result<u32, CoordinatorError> {
    u32::try_from(factor).map_err(|_| {
        CoordinatorError::InvalidReplicationFactor(format!(
            "{factor} is not possible; it must be 1 to 10"
        ))
    })
}

/// A conflict policy's name; `None` when it is empty.
pub(super) fn conflict_policy(name: &str) -> Result<Option<ConflictPolicy>, CoordinatorError> {
    if name.is_empty() {
        return Ok(None);
    }
    let problem = |_| format!("is '{name}'; it must be last_write_wins or siblings");
    name.parse()
        .map(Some)
        .map_err(|error| invalid("conflict_policy", problem(error)))
}

/// How many siblings a tenant's keys may have.
pub(super) fn sibling_limits(warn: u32, max: u32) -> Result<SiblingLimits, CoordinatorError> {
    let highest = SiblingLimits::HIGHEST;
    SiblingLimits::new(warn, max).ok_or_else(|| match max {
        max if max == 0 || max > highest.into() => invalid(
            "siblings_max",
            format!("is {max}; it must be 1 to {highest}"),
        ),
        max => invalid(
            "siblings_warn",
            format!("is {warn}; it must be 1 to siblings_max, which is {max}"),
        ),
    })
}

/// The answer to a write.
pub(super) fn write_response(key: String, outcome: WriteOutcome) -> v1::WriteKeyValueResponse {
    v1::WriteKeyValueResponse {
        success: true,
        key,
        idempotency_key: outcome.idempotency_key,
        vector_clock: Some(vector_clock(outcome.clock)),
        replica_count: number(outcome.replicas),
        consistency: outcome.consistency.as_str().into(),
        is_duplicate: outcome.is_duplicate,
        error_message: String::new(),
        context: outcome.context,
        without_idempotency: outcome.without_idempotency,
    }
}

/// The answer to a delete.
pub(super) fn delete_response(key: String, outcome: WriteOutcome) -> v1::DeleteKeyValueResponse {
    v1::DeleteKeyValueResponse {
        success: true,
        key,
        idempotency_key: outcome.idempotency_key,
        vector_clock: Some(vector_clock(outcome.clock)),
        replica_count: number(outcome.replicas),
        consistency: outcome.consistency.as_str().into(),
        is_duplicate: outcome.is_duplicate,
        error_message: String::new(),
        context: outcome.context,
        without_idempotency: outcome.without_idempotency,
    }
}

/// The answer to a read.
pub(super) fn read_response(key: String, outcome: ReadOutcome) -> v1::ReadKeyValueResponse {
    let siblings: Vec<_> = outcome
        .values
        .into_iter()
        .map(|shown| v1::Sibling {
            value: shown.value,
            stamp_unix_ms: long(shown.stamp.wall_ms()),
            stamp_logical: shown.stamp.logical().into(),
        })
        .collect();
    v1::ReadKeyValueResponse {
        success: true,
        key,
        value: siblings
            .first()
            .map(|winner| winner.value.clone())
            .unwrap_or_default(),
        vector_clock: Some(vector_clock(outcome.clock)),
        error_message: String::new(),
        context: outcome.context,
        // One value is there already; twice on the wire would help nobody.
        siblings: if siblings.len() > 1 {
            observe::conflict();
            siblings
        } else {
            Vec::new()
        },
    }
}

/// A tenant's settings.
pub(super) fn tenant_response(tenant: &Tenant, replicas_now: i32) -> v1::GetTenantResponse {
    v1::GetTenantResponse {
        success: true,
        tenant_id: tenant.id.as_str().into(),
        replication_factor: tenant.replication_factor.into(),
        created_at: tenant.created_at,
        updated_at: tenant.updated_at,
        error_message: String::new(),
        conflict_policy: tenant.conflict_policy.as_str().into(),
        siblings_warn: tenant.siblings.warn.into(),
        siblings_max: tenant.siblings.max.into(),
        replicas_now,
    }
}

/// A node and how it is.
pub(super) fn node_info(overview: NodeOverview) -> v1::StorageNodeInfo {
    let NodeOverview {
        node,
        report,
        answers,
        healthy: _,
        out_of_step,
        changed_by,
    } = overview;
    let incarnation = report
        .as_ref()
        .and_then(|report| report.incarnations.last());
    v1::StorageNodeInfo {
        host: node.host,
        port: node.port.into(),
        status: node.status.as_str().into(),
        virtual_nodes: i32::try_from(node.virtual_nodes).unwrap_or(i32::MAX),
        keys_count: report.as_ref().map_or(0, |report| long(report.keys)),
        disk_usage_percent: report
            .as_ref()
            .and_then(|report| report.disk_used_percent)
            .map_or(0.0, f32::from),
        reachable: answers,
        refuses_writes: report
            .as_ref()
            .and_then(|report| report.refuses_writes.clone())
            .unwrap_or_default(),
        epoch: report.as_ref().map_or(0, |report| report.epoch.0),
        incarnation: incarnation
            .map(|actor| format!("{}#{}", node.id, actor.short()))
            .unwrap_or_default(),
        node_id: node.id.as_str().into(),
        out_of_step,
        zone: node.zone.unwrap_or_default(),
        migration_id: changed_by.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn vector_clock(entries: Vec<ClockEntry>) -> v1::VectorClock {
    let entries = entries
        .into_iter()
        .map(|entry| v1::VectorClockEntry {
            coordinator_node_id: entry.node,
            logical_timestamp: long(entry.counter),
        })
        .collect();
    v1::VectorClock { entries }
}

fn consistency(name: &str) -> Result<Option<Consistency>, CoordinatorError> {
    if name.is_empty() {
        return Ok(None);
    }
    let problem =
        || format!("is '{name}'; it must be one, quorum or all, or empty for the default");
    name.parse()
        .map(Some)
        .map_err(|_| invalid("consistency", problem()))
}

fn invalid(field: &'static str, problem: String) -> CoordinatorError {
    CoordinatorError::InvalidRequest { field, problem }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "convert_test.rs"]
mod tests;
