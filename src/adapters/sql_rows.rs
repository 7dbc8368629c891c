//! What SQL databases hold, read with suspicion: whoever can open the database can have written it.

use std::fmt::Display;

use sqlx::Row;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::placement::{Epoch, Node, NodeId, Topology};
use crate::ports::{ApiKey, SiblingLimits, Tenant, TenantId};

/// A row of either database. Numbers are 64 bits wide in both.
pub(super) trait SqlRow {
    fn text(&self, column: &str) -> sqlx::Result<Option<&str>>;
    fn integer(&self, column: &str) -> sqlx::Result<i64>;
    fn optional_integer(&self, column: &str) -> sqlx::Result<Option<i64>>;
    fn blob(&self, column: &str) -> sqlx::Result<&[u8]>;
}

impl SqlRow for SqliteRow {
    fn text(&self, column: &str) -> sqlx::Result<Option<&str>> {
        self.try_get(column)
    }

    fn integer(&self, column: &str) -> sqlx::Result<i64> {
        self.try_get(column)
    }

    fn optional_integer(&self, column: &str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }

    fn blob(&self, column: &str) -> sqlx::Result<&[u8]> {
        self.try_get(column)
    }
}

impl SqlRow for PgRow {
    fn text(&self, column: &str) -> sqlx::Result<Option<&str>> {
        self.try_get(column)
    }

    fn integer(&self, column: &str) -> sqlx::Result<i64> {
        self.try_get(column)
    }

    fn optional_integer(&self, column: &str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }

    fn blob(&self, column: &str) -> sqlx::Result<&[u8]> {
        self.try_get(column)
    }
}

pub(super) fn tenant(row: &impl SqlRow) -> sqlx::Result<Tenant> {
    Ok(Tenant {
        id: parsed("id", TenantId::new(text(row, "id")?))?,
        replication_factor: number(row, "replication_factor")?,
        conflict_policy: parsed("conflict_policy", text(row, "conflict_policy")?.parse())?,
        default_consistency: parsed(
            "default_consistency",
            row.text("default_consistency")?.map(str::parse).transpose(),
        )?,
        siblings: SiblingLimits {
            warn: number(row, "siblings_warn")?,
            max: number(row, "siblings_max")?,
        },
        created_at: row.integer("created_at")?,
        updated_at: row.integer("updated_at")?,
        version: number(row, "version")?,
    })
}

pub(super) fn api_key(row: &impl SqlRow) -> sqlx::Result<ApiKey> {
    Ok(ApiKey {
        id: parsed("id", text(row, "id")?.parse())?,
        tenant: parsed("tenant_id", TenantId::new(text(row, "tenant_id")?))?,
        role: parsed("role", text(row, "role")?.parse())?,
        secret_hash: parsed("secret_hash", row.blob("secret_hash")?.try_into())?,
        created_at: row.integer("created_at")?,
        revoked_at: row.optional_integer("revoked_at")?,
    })
}

/// A topology from its join with the nodes: one row a node, or one row with a NULL node.
pub(super) fn topology(rows: &[impl SqlRow]) -> sqlx::Result<Topology> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let nodes = rows
        .iter()
        .filter(|row| !matches!(row.text("id"), Ok(None)))
        .map(node)
        .collect::<sqlx::Result<Vec<Node>>>()?;
    let epoch = Epoch(number(first, "epoch")?);
    parsed(
        "topology",
        Topology::new(epoch, number(first, "partitions")?, nodes),
    )
}

fn node(row: &impl SqlRow) -> sqlx::Result<Node> {
    Ok(Node {
        id: parsed("id", NodeId::new(text(row, "id")?))?,
        host: text(row, "host")?.to_owned(),
        port: number(row, "port")?,
        virtual_nodes: number(row, "virtual_nodes")?,
        status: parsed("status", text(row, "status")?.parse())?,
        zone: None,
        seat: None,
    })
}

fn text<'r>(row: &'r impl SqlRow, column: &str) -> sqlx::Result<&'r str> {
    row.text(column)?.ok_or_else(|| unreadable(column, "NULL"))
}

/// A number in the range of its type.
pub(super) fn number<T: TryFrom<i64, Error: Display>>(
    row: &impl SqlRow,
    column: &str,
) -> sqlx::Result<T> {
    parsed(column, T::try_from(row.integer(column)?))
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
