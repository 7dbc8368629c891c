//! `pairdb.v1.CoordinatorService` over a [`Coordinator`].

use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::auth::Known;
use super::changes;
use super::convergence;
use super::convert;
use super::deadline::patience;
use super::errors::{internal, to_status};
use super::gate::Gate;
use super::keys;
use super::limits::Allowance;
use super::log_pace;
use super::rights::Guarded;
use super::verify;
use crate::adapters::front::Charge;
use crate::coordinator::{
    Coordinator, CoordinatorError, FactorChanged, NodesChanged, WriteOutcome, WriteRequest,
};
use crate::placement::{ChangeRequest, NodeChange};
use crate::ports::{CoordinatorWorld, Tenant};
use crate::proto::v1;
use crate::proto::v1::coordinator_service_server::CoordinatorService;

/// The service.
pub(super) struct CoordinatorFront<W: CoordinatorWorld> {
    coordinator: Coordinator<W>,
    gate: Gate,
}

type Answer<T> = Result<Response<T>, Status>;

impl<W: CoordinatorWorld> CoordinatorFront<W> {
    pub(super) const fn new(coordinator: Coordinator<W>, gate: Gate) -> Self {
        Self { coordinator, gate }
    }

    /// The message of a request whose sender may ask for it, and not too much. Every method begins with this or with
    /// [`Self::allowed`].
    async fn admitted<T: Guarded>(&self, request: Request<T>) -> Result<T, Status> {
        Ok(self.allowed(request).await?.0)
    }

    /// The same where the answer has bytes that count.
    async fn allowed<T: Guarded>(&self, request: Request<T>) -> Result<(T, Allowance), Status> {
        let (metadata, mut extensions, mut message) = request.into_parts();
        if let Some(charge) = extensions.remove::<Charge>() {
            message.charged_to(&charge);
        }
        let sender = (metadata.as_ref(), extensions.remove::<Known>());
        let bytes = message.bytes();
        let admitted = self.gate.admit(sender, T::RIGHT, message.tenant(), bytes);
        let allowance = admitted.await.map_err(|refused| refused.to_status())?;
        Ok((message, allowance))
    }

    fn replicas_now(&self, tenant: &Tenant) -> i32 {
        i32::try_from(self.coordinator.admin().replicas_now(tenant)).unwrap_or(i32::MAX)
    }

    async fn change(&self, request: ChangeRequest) -> Result<NodesChanged, Status> {
        let changed = self.coordinator.admin().change_nodes(request).await;
        changed.map_err(failed)
    }

    /// When a migration will be done, Unix seconds; 0: that can't be told, or there is none.
    async fn estimated_completion(&self, id: &str) -> i64 {
        if id.is_empty() {
            return 0;
        }
        let view = self.coordinator.admin().migration(id).await;
        let estimated = view.ok().and_then(|view| view.estimated_completion);
        estimated.unwrap_or_default()
    }

    async fn migration(&self, id: &str) -> Answer<v1::GetMigrationStatusResponse> {
        let view = self.coordinator.admin().migration(id).await;
        Ok(Response::new(changes::status(view.map_err(failed)?)))
    }

    /// Carries a write through whether or not the client stays to hear of it.
    async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, Status> {
        let tenant = request.tenant.clone();
        let coordinator = self.coordinator.clone();
        let write = async move { coordinator.write(request).await };
        let write = tokio::spawn(write.in_current_span());
        match write.await {
            Ok(outcome) => outcome.map_err(|error| to_status(&error, &tenant)),
            Err(error) => {
                if let Some(left_out) = log_pace::FAULT.tell() {
                    tracing::error!(%error, left_out, "a write panicked");
                }
                Err(internal())
            }
        }
    }
}

/// The status of an error that belongs to no tenant, or names it itself.
fn failed(error: CoordinatorError) -> Status {
    to_status(&error, "")
}

#[tonic::async_trait]
impl<W: CoordinatorWorld> CoordinatorService for CoordinatorFront<W> {
    async fn write_key_value(
        &self,
        request: Request<v1::WriteKeyValueRequest>,
    ) -> Answer<v1::WriteKeyValueResponse> {
        let timeout = patience(request.metadata());
        let (request, allowance) = self.allowed(request).await?;
        let request = convert::write_request(request, timeout).map_err(failed)?;
        let key = request.key.clone();
        let outcome = self.write(request).await?;
        let bytes = outcome.rewritten_bytes;
        Ok(allowance.answer(bytes, convert::write_response(key, outcome)))
    }

    async fn read_key_value(
        &self,
        request: Request<v1::ReadKeyValueRequest>,
    ) -> Answer<v1::ReadKeyValueResponse> {
        let timeout = patience(request.metadata());
        let (request, allowance) = self.allowed(request).await?;
        let request = convert::read_request(request, timeout).map_err(failed)?;
        let (tenant, key) = (request.tenant.clone(), request.key.clone());
        let outcome = self
            .coordinator
            .read(request)
            .await
            .map_err(|error| to_status(&error, &tenant))?;
        let bytes = outcome.values.iter().map(|found| found.value.len()).sum();
        Ok(allowance.answer(bytes, convert::read_response(key, outcome)))
    }

    async fn delete_key_value(
        &self,
        request: Request<v1::DeleteKeyValueRequest>,
    ) -> Answer<v1::DeleteKeyValueResponse> {
        let timeout = patience(request.metadata());
        let (request, allowance) = self.allowed(request).await?;
        let request = convert::delete_request(request, timeout).map_err(failed)?;
        let key = request.key.clone();
        let outcome = self.write(request).await?;
        let bytes = outcome.rewritten_bytes;
        Ok(allowance.answer(bytes, convert::delete_response(key, outcome)))
    }

    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Answer<v1::CreateTenantResponse> {
        let request = self.admitted(request).await?;
        let factor = convert::replication_factor(request.replication_factor).map_err(failed)?;
        let policy = convert::conflict_policy(&request.conflict_policy).map_err(failed)?;
        let tenant = self
            .coordinator
            .admin()
            .create_tenant(&request.tenant_id, factor, policy)
            .await
            .map_err(failed)?;
        Ok(Response::new(v1::CreateTenantResponse {
            success: true,
            tenant_id: tenant.id.as_str().into(),
            replication_factor: tenant.replication_factor.into(),
            created_at: tenant.created_at,
            error_message: String::new(),
            conflict_policy: tenant.conflict_policy.as_str().into(),
            replicas_now: self.replicas_now(&tenant),
        }))
    }

    async fn update_replication_factor(
        &self,
        request: Request<v1::UpdateReplicationFactorRequest>,
    ) -> Answer<v1::UpdateReplicationFactorResponse> {
        let request = self.admitted(request).await?;
        let factor = convert::replication_factor(request.new_replication_factor).map_err(failed)?;
        let changed = self
            .coordinator
            .admin()
            .update_replication_factor(&request.tenant_id, factor)
            .await
            .map_err(failed)?;
        let FactorChanged { tenant, migration } = changed;
        let asked_at = migration.as_ref().map(|migration| migration.created_at);
        Ok(Response::new(v1::UpdateReplicationFactorResponse {
            success: true,
            tenant_id: tenant.id.as_str().into(),
            old_replication_factor: tenant.replication_factor.into(),
            new_replication_factor: request.new_replication_factor,
            migration_id: migration
                .map(|migration| migration.id.to_string())
                .unwrap_or_default(),
            updated_at: asked_at.unwrap_or(tenant.updated_at),
            error_message: String::new(),
        }))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Answer<v1::GetTenantResponse> {
        let tenant = self
            .coordinator
            .admin()
            .tenant(&self.admitted(request).await?.tenant_id)
            .await
            .map_err(failed)?;
        let replicas_now = self.replicas_now(&tenant);
        Ok(Response::new(convert::tenant_response(
            &tenant,
            replicas_now,
        )))
    }

    async fn set_sibling_limits(
        &self,
        request: Request<v1::SetSiblingLimitsRequest>,
    ) -> Answer<v1::GetTenantResponse> {
        let request = self.admitted(request).await?;
        let limits =
            convert::sibling_limits(request.siblings_warn, request.siblings_max).map_err(failed)?;
        let tenant = self
            .coordinator
            .admin()
            .set_sibling_limits(&request.tenant_id, limits)
            .await
            .map_err(failed)?;
        let replicas_now = self.replicas_now(&tenant);
        Ok(Response::new(convert::tenant_response(
            &tenant,
            replicas_now,
        )))
    }

    async fn add_storage_node(
        &self,
        request: Request<v1::AddStorageNodeRequest>,
    ) -> Answer<v1::AddStorageNodeResponse> {
        let node = convert::node(self.admitted(request).await?).map_err(failed)?;
        let node_id = node.id.as_str().to_owned();
        let added = self.change(changes::only(NodeChange::Add(node))).await?;
        let (migration_id, message) = changes::outcome(&added);
        Ok(Response::new(v1::AddStorageNodeResponse {
            success: true,
            message,
            node_id,
            estimated_completion: self.estimated_completion(&migration_id).await,
            migration_id,
            ..Default::default()
        }))
    }

    async fn remove_storage_node(
        &self,
        request: Request<v1::RemoveStorageNodeRequest>,
    ) -> Answer<v1::RemoveStorageNodeResponse> {
        let v1::RemoveStorageNodeRequest { node_id, force } = self.admitted(request).await?;
        let id = convert::node_id(node_id.clone()).map_err(failed)?;
        let removal = changes::only(NodeChange::Remove { id, force });
        let (migration_id, message) = changes::outcome(&self.change(removal).await?);
        Ok(Response::new(v1::RemoveStorageNodeResponse {
            success: true,
            message,
            node_id,
            estimated_completion: self.estimated_completion(&migration_id).await,
            migration_id,
            ..Default::default()
        }))
    }

    async fn change_nodes(
        &self,
        request: Request<v1::ChangeNodesRequest>,
    ) -> Answer<v1::ChangeNodesResponse> {
        let request = changes::request(self.admitted(request).await?).map_err(failed)?;
        let (migration_id, message) = changes::outcome(&self.change(request).await?);
        Ok(Response::new(v1::ChangeNodesResponse {
            estimated_completion: self.estimated_completion(&migration_id).await,
            migration_id,
            message,
        }))
    }

    async fn plan_nodes(
        &self,
        request: Request<v1::PlanNodesRequest>,
    ) -> Answer<v1::PlanNodesResponse> {
        let asked = self.admitted(request).await?.change.unwrap_or_default();
        let asked = changes::request(asked).map_err(failed)?;
        let forecast = self.coordinator.admin().plan_nodes(&asked).await;
        Ok(Response::new(changes::plan(forecast.map_err(failed)?)))
    }

    async fn get_migration_status(
        &self,
        request: Request<v1::GetMigrationStatusRequest>,
    ) -> Answer<v1::GetMigrationStatusResponse> {
        let id = self.admitted(request).await?.migration_id;
        self.migration(&id).await
    }

    async fn list_migrations(
        &self,
        request: Request<v1::ListMigrationsRequest>,
    ) -> Answer<v1::ListMigrationsResponse> {
        let limit = changes::limit(self.admitted(request).await?.limit).map_err(failed)?;
        let found = self.coordinator.admin().migrations(limit).await;
        let found = found.map_err(failed)?.into_iter();
        Ok(Response::new(v1::ListMigrationsResponse {
            migrations: found.map(changes::status).collect(),
        }))
    }

    async fn cancel_migration(
        &self,
        request: Request<v1::CancelMigrationRequest>,
    ) -> Answer<v1::GetMigrationStatusResponse> {
        let id = self.admitted(request).await?.migration_id;
        let cancelled = self.coordinator.admin().cancel_migration(&id).await;
        cancelled.map_err(failed)?;
        self.migration(&id).await
    }

    async fn pace_migration(
        &self,
        request: Request<v1::PaceMigrationRequest>,
    ) -> Answer<v1::GetMigrationStatusResponse> {
        let v1::PaceMigrationRequest {
            migration_id,
            bytes_per_second_max,
        } = self.admitted(request).await?;
        let admin = self.coordinator.admin();
        let paced = admin.pace_migration(&migration_id, bytes_per_second_max);
        paced.await.map_err(failed)?;
        self.migration(&migration_id).await
    }

    async fn list_storage_nodes(
        &self,
        request: Request<v1::ListStorageNodesRequest>,
    ) -> Answer<v1::ListStorageNodesResponse> {
        let v1::ListStorageNodesRequest {} = self.admitted(request).await?;
        let nodes = self
            .coordinator
            .admin()
            .nodes()
            .into_iter()
            .map(convert::node_info)
            .collect();
        Ok(Response::new(v1::ListStorageNodesResponse {
            success: true,
            nodes,
            error_message: String::new(),
        }))
    }
    async fn get_convergence(
        &self,
        request: Request<v1::GetConvergenceRequest>,
    ) -> Answer<v1::GetConvergenceResponse> {
        let asked = match self.admitted(request).await?.ask_nodes {
            true => Some(self.coordinator.status().ask_nodes().await),
            false => None,
        };
        let convergence = self.coordinator.status().convergence_report();
        Ok(Response::new(convergence::response(convergence, asked)))
    }
    async fn verify_page(
        &self,
        request: Request<v1::VerifyPageRequest>,
    ) -> Answer<v1::VerifyPageResponse> {
        let v1::VerifyPageRequest { tenant_id, after } = self.admitted(request).await?;
        let found = self.coordinator.verify(&tenant_id, after).await;
        let found = found.map_err(|error| to_status(&error, &tenant_id))?;
        Ok(Response::new(verify::response(found)))
    }
    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Answer<v1::CreateApiKeyResponse> {
        let request = self.admitted(request).await?;
        Ok(Response::new(
            keys::create(&self.coordinator, request).await?,
        ))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Answer<v1::ListApiKeysResponse> {
        let request = self.admitted(request).await?;
        Ok(Response::new(keys::list(&self.coordinator, request).await?))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Answer<v1::RevokeApiKeyResponse> {
        let request = self.admitted(request).await?;
        Ok(Response::new(
            keys::revoke(&self.coordinator, request).await?,
        ))
    }
}
