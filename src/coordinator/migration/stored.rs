//! What the metadata store has of changes of owners: migrations, those that wait, and the tenants whose factors count.

use super::super::metadata::Metadata;
use crate::placement::TopologyChange;
use crate::ports::{
    CoordinatorWorld, MetadataStore, Migration, MigrationProgress, MigrationStatus, StoreError,
    Tenant,
};
use crate::sizes::{self, Size};

/// Migrations that are over and can still be looked at.
pub(in crate::coordinator) const KEPT: usize = 100;
/// Changes that may wait at the same time.
pub(super) const OPEN_MAX: usize = 64;

/// A migration whose change is under way.
pub(super) fn started(migration: Migration, change: &TopologyChange, now: i64) -> Migration {
    let progress = MigrationProgress {
        partitions: change.moves.len() as u64,
        ..migration.progress
    };
    Migration {
        status: MigrationStatus::InProgress,
        started_at: migration.started_at.or(Some(now)),
        ended_at: None,
        waits_for: None,
        progress,
        ..migration
    }
}

/// Migrations that are not over, those asked for first first.
pub(super) async fn open_migrations<W: CoordinatorWorld>(
    metadata: &Metadata<W>,
) -> Result<Vec<Migration>, StoreError> {
    let open = metadata.store().open_migrations(OPEN_MAX);
    metadata.in_time(metadata.deadline(), open).await
}

/// All tenants.
pub(super) async fn all_tenants<W: CoordinatorWorld>(
    metadata: &Metadata<W>,
) -> Result<Vec<Tenant>, StoreError> {
    let mut all: Vec<Tenant> = Vec::new();
    let page_max = sizes::of(Size::TenantsPage);
    loop {
        let after = all.last().map(|tenant| tenant.id.clone());
        let page = metadata.store().tenants(after.as_ref(), page_max);
        let page = metadata.in_time(metadata.deadline(), page).await?;
        let is_last = page.len() < page_max;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
