//! The metadata store at the other end of a network that fails, and failing itself when the world says so.

use std::future::ready;

use futures::{FutureExt, Stream, StreamExt};
use pairdb::adapters::memory::MemoryMetadata;
use pairdb::placement::{Epoch, Topology};
use pairdb::ports::{Change, MetadataEvent, MetadataStore, StoreError, Tenant, TenantId};

use super::transport::StoreLink;

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

    async fn ask<A: Send + 'static>(
        &self,
        mut question: impl FnMut(&MemoryMetadata) -> Option<Result<A, StoreError>> + Send + 'static,
    ) -> Result<A, StoreError> {
        let store = self.store.clone();
        self.link.ask(move || question(&store)).await?
    }
}

impl MetadataStore for SimMetadata {
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let id = id.clone();
        self.ask(move |store| store.tenant(&id).now_or_never())
            .await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, StoreError> {
        let after = after.cloned();
        self.ask(move |store| store.tenants(after.as_ref(), limit).now_or_never())
            .await
    }

    async fn create_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.ask(move |store| store.create_tenant(tenant.clone()).now_or_never())
            .await
    }

    async fn update_tenant(&self, tenant: Tenant) -> Result<Change<Tenant>, StoreError> {
        self.ask(move |store| store.update_tenant(tenant.clone()).now_or_never())
            .await
    }

    async fn topology(&self) -> Result<Topology, StoreError> {
        self.ask(|store| store.topology().now_or_never()).await
    }

    async fn replace_topology(
        &self,
        expected: Epoch,
        next: Topology,
    ) -> Result<Change<Topology>, StoreError> {
        self.ask(move |store| {
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
