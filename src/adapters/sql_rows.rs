//! Rows read with suspicion: whoever can open the file can have written them.

use std::fmt::Display;

use sqlx::Row;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteRow;

use crate::placement::{Epoch, Node, NodeId, Topology};
use crate::ports::{Tenant, TenantId};

pub(super) fn tenant(row: &SqliteRow) -> sqlx::Result<Tenant> {
    let default_consistency: Option<&str> = row.try_get("default_consistency")?;
    Ok(Tenant {
        id: parsed("id", TenantId::new(row.try_get::<&str, _>("id")?))?,
        replication_factor: number(row, "replication_factor")?,
        conflict_policy: parsed(
            "conflict_policy",
            row.try_get::<&str, _>("conflict_policy")?.parse(),
        )?,
        default_consistency: parsed(
            "default_consistency",
            default_consistency.map(str::parse).transpose(),
        )?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: number(row, "version")?,
    })
}

/// A topology from its join with the nodes: one row a node, or one row with a NULL node.
pub(super) fn topology(rows: &[SqliteRow]) -> sqlx::Result<Topology> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let has_node = |row: &&SqliteRow| !matches!(row.try_get::<Option<&str>, _>("id"), Ok(None));
    let nodes = rows
        .iter()
        .filter(has_node)
        .map(node)
        .collect::<sqlx::Result<Vec<Node>>>()?;
    let epoch = Epoch(number(first, "epoch")?);
    parsed(
        "topology",
        Topology::new(epoch, number(first, "partitions")?, nodes),
    )
}

fn node(row: &SqliteRow) -> sqlx::Result<Node> {
    Ok(Node {
        id: parsed("id", NodeId::new(row.try_get::<&str, _>("id")?))?,
        host: row.try_get("host")?,
        port: number(row, "port")?,
        virtual_nodes: number(row, "virtual_nodes")?,
        status: parsed("status", row.try_get::<&str, _>("status")?.parse())?,
    })
}

/// A number in the range of its type.
pub(super) fn number<T: TryFrom<i64, Error: Display>>(
    row: &SqliteRow,
    column: &str,
) -> sqlx::Result<T> {
    parsed(column, T::try_from(row.try_get(column)?))
}

fn parsed<T, E: Display>(column: &str, result: Result<T, E>) -> sqlx::Result<T> {
    result.map_err(|error| unreadable(column, error.to_string()))
}

pub(super) fn unreadable(column: &str, cause: impl Into<BoxDynError>) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: cause.into(),
    }
}
