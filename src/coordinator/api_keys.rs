//! API keys of tenants: made, listed and revoked in the metadata store. What a key allows is for the front to judge,
//! which also makes the secrets: none comes here, only hashes.

use futures::Stream;

use super::CoordinatorError;
use super::tenant_admin::Admin;
use super::validate;
use crate::ports::{
    ApiKey, ApiKeyId, Change, CoordinatorWorld, MetadataEvent, MetadataStore, StoreError,
    TenantRole,
};

impl<W: CoordinatorWorld> Admin<W> {
    /// Stores a new key for a tenant.
    ///
    /// # Errors
    /// [`CoordinatorError::TenantNotFound`], or the metadata store's trouble.
    pub async fn create_api_key(
        &self,
        tenant: &str,
        role: TenantRole,
        id: ApiKeyId,
        secret_hash: [u8; 32],
    ) -> Result<ApiKey, CoordinatorError> {
        let key = ApiKey {
            id,
            tenant: self.tenant(tenant).await?.id.clone(),
            role,
            secret_hash,
            created_at: self.unix_seconds(),
            revoked_at: None,
        };
        let created = self.metadata.store().create_api_key(key);
        match self
            .metadata
            .in_time(self.metadata.deadline(), created)
            .await?
        {
            Change::Made(key) => Ok(key),
            Change::Conflict(_) => Err(CoordinatorError::Internal("a random id was taken")),
        }
    }

    /// A key, straight from the metadata store, also when it was revoked.
    ///
    /// # Errors
    /// The metadata store's trouble.
    pub async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let found = self.metadata.store().api_key(id);
        self.metadata.in_time(self.metadata.deadline(), found).await
    }

    /// A tenant's keys in the order of their ids, revoked ones included, starting after `after`.
    ///
    /// # Errors
    /// [`CoordinatorError::TenantNotFound`], or the metadata store's trouble.
    pub async fn api_keys(
        &self,
        tenant: &str,
        after: Option<&ApiKeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>, CoordinatorError> {
        let tenant = self.tenant(tenant).await?;
        let listed = self.metadata.store().api_keys(&tenant.id, after, limit);
        Ok(self
            .metadata
            .in_time(self.metadata.deadline(), listed)
            .await?)
    }

    /// Revokes a tenant's key for good; `None` when it has none of this id.
    ///
    /// # Errors
    /// A bad name, or the metadata store's trouble.
    pub async fn revoke_api_key(
        &self,
        tenant: &str,
        id: &ApiKeyId,
    ) -> Result<Option<ApiKey>, CoordinatorError> {
        let tenant = validate::tenant_id(tenant)?;
        let now = self.unix_seconds();
        let revoked = self.metadata.store().revoke_api_key(&tenant, id, now);
        Ok(self
            .metadata
            .in_time(self.metadata.deadline(), revoked)
            .await?)
    }

    /// What the metadata store tells of from now on: hints, of which some may be lost.
    pub fn metadata_events(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        self.metadata.store().watch()
    }
}
