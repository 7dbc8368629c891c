//! The metadata store at the other end of a network that fails, and failing itself when the world says so.

use std::fmt::Debug;
use std::future::ready;

use futures::{FutureExt, Stream, StreamExt};
use pairdb::adapters::memory::MemoryMetadata;
use pairdb::placement::{Epoch, Topology};
use pairdb::ports::{Change, MetadataEvent, MetadataStore, StoreError, Tenant, TenantId};

use super::transport::StoreLink;
use crate::describe::Said;

/// The metadata store as one coordinator reaches it.
#[derive(Clone)]
pub struct SimMetadata {
    store: MemoryMetadata,
    link: StoreLink,
}

impl SimMetadata {
    /// `store` at the end of `link`.
    #[must_use]
    pub fn new(store: MemoryMetadata, link: StoreLink) -> Self {
        Self { store, link }
    }

    async fn ask<A: Debug + Send + 'static>(
        &self,
        said: impl FnOnce() -> Said,
        mut question: impl FnMut(&MemoryMetadata) -> Option<Result<A, StoreError>> + Send + 'static,
    ) -> Result<A, StoreError> {
        let store = self.store.clone();
        self.link.ask(said, move || question(&store)).await?
    }
}

impl MetadataStore for SimMetadata {
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let id = id.clone();
        let name = id.to_string();
        let said = || Said::new("tenant", name);
        self.ask(said, move |store| store.tenant(&id).now_or_never())
            .await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let after = after.cloned();
        let said = || Said::new("tenants", "");
        self.ask(said, move |store| {
            store.tenants(after.as_ref(), limit).now_or_never()
        })
        .await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let name = tenant.id.to_string();
        let said = || Said::new("create tenant", name);
        self.ask(said, move |store| {
            store.create_tenant(tenant.clone()).now_or_never()
        })
        .await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        let name = tenant.id.to_string();
        let said = || Said::new("update tenant", name);
        self.ask(said, move |store| {
            store.update_tenant(tenant.clone()).now_or_never()
        })
        .await
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        let said = || Said::new("topology", "");
        self.ask(said, |store| store.topology().now_or_never())
            .await
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        let epoch = next.epoch;
        let said = || Said::new("replace topology", format!("{expected} by {epoch}"));
        self.ask(said, move |store| {
            store
                .replace_topology(expected, next.clone())
                .now_or_never()
        })
        .await
    }

    fn watch(&self) -> impl Stream<Item = MetadataEvent> + Send + Unpin + 'static {
        let link = self.link.clone();
        // Events are hints: in bad times they are lost.
        self.store.watch().filter(move |_| ready(link.is_well()))
    }
}
