//! What SQL databases hold, read with suspicion: whoever can open the database can have written it.

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;
use sqlx::Row;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::placement::{ChangeId, Epoch, Node, NodeId, PartitionId, Topology, TopologyChange};
use crate::ports::{
    ApiKey, Checkpoint, Migration, MigrationProgress, SiblingLimits, Tenant, TenantId,
};

/// A tenant by its name, and the epoch that is stored, as one statement sees both.
pub(super) const TENANT_AND_EPOCH: &str =
    "SELECT *, (SELECT epoch FROM topology) AS epoch FROM tenants WHERE id = $1";

/// The topology with its nodes: one statement, so that what it reads is of one moment. A change under way is long, so
/// only one row has it.
pub(super) const TOPOLOGY: &str = "
    SELECT epoch, partitions, factors_since, storage_nodes.*,
           CASE WHEN id IS NULL OR id = (SELECT min(id) FROM storage_nodes) THEN change END AS change
    FROM topology LEFT JOIN storage_nodes ON TRUE";

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

/// A row of [`TENANT_AND_EPOCH`].
pub(super) fn tenant_and_epoch(row: &impl SqlRow) -> sqlx::Result<(Tenant, Epoch)> {
    Ok((tenant(row)?, Epoch(number(row, "epoch")?)))
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

/// A topology from the rows of [`TOPOLOGY`]: one row a node, or one row with a NULL node.
pub(super) fn topology(rows: &[impl SqlRow]) -> sqlx::Result<Topology> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let nodes = rows
        .iter()
        .filter(|row| !matches!(row.text("id"), Ok(None)))
        .map(node)
        .collect::<sqlx::Result<Vec<Node>>>()?;
    let epoch = Epoch(number(first, "epoch")?);
    let nodes = Topology::new(epoch, number(first, "partitions")?, nodes);
    let topology = Topology {
        factors_since: Epoch(number(first, "factors_since")?),
        change: change(rows)?.map(Arc::new),
        ..parsed("topology", nodes)?
    };
    parsed("topology", topology.validate())?;
    Ok(topology)
}

fn change(rows: &[impl SqlRow]) -> sqlx::Result<Option<TopologyChange>> {
    for row in rows {
        if let Some(text) = row.text("change")? {
            return parsed("change", serde_json::from_str(text)).map(Some);
        }
    }
    Ok(None)
}

fn node(row: &impl SqlRow) -> sqlx::Result<Node> {
    Ok(Node {
        id: parsed("id", NodeId::new(text(row, "id")?))?,
        host: text(row, "host")?.to_owned(),
        port: number(row, "port")?,
        virtual_nodes: number(row, "virtual_nodes")?,
        status: parsed("status", text(row, "status")?.parse())?,
        zone: row.text("zone")?.map(str::to_owned),
        seat: row.text("seat")?.map(str::to_owned),
    })
}

pub(super) fn migration(row: &impl SqlRow) -> sqlx::Result<Migration> {
    let limit = row.optional_integer("bytes_per_second")?;
    Ok(Migration {
        id: parsed("id", ChangeId::new(text(row, "id")?))?,
        request: parsed("request", serde_json::from_str(text(row, "request")?))?,
        status: parsed("status", text(row, "status")?.parse())?,
        cancel: row.integer("cancel")? != 0,
        created_at: row.integer("created_at")?,
        started_at: row.optional_integer("started_at")?,
        ended_at: row.optional_integer("ended_at")?,
        progress: MigrationProgress {
            partitions: count(row, "partitions")?,
            partitions_done: count(row, "partitions_done")?,
            keys: count(row, "keys")?,
            keys_total: count(row, "keys_total")?,
            bytes: count(row, "bytes")?,
        },
        waits_for: row.text("waits_for")?.map(str::to_owned),
        error: row.text("error")?.map(str::to_owned),
        bytes_per_second: limit.map(i64::cast_unsigned),
        version: number(row, "version")?,
    })
}

pub(super) fn checkpoint(row: &impl SqlRow) -> sqlx::Result<Checkpoint> {
    Ok(Checkpoint {
        partition: PartitionId(number(row, "partition_id")?),
        keys: count(row, "keys")?,
        bytes: count(row, "bytes")?,
    })
}

/// 64 bits without sign, as they are.
fn count(row: &impl SqlRow, column: &str) -> sqlx::Result<u64> {
    Ok(row.integer(column)?.cast_unsigned())
}

/// What is kept as JSON.
pub(super) fn json(value: &impl Serialize) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
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
