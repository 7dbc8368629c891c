//! What each request needs once it is read, and whose keys it is about. Before, its method tells (`methods.rs`).
//!
//! A request that is not listed here can't be taken by the service (`CoordinatorFront::admitted`), and a test calls
//! every method of the service's descriptor without a token.

use super::auth::Right;
use crate::adapters::front::Charge;
use crate::proto::v1;

/// A request that says what it needs.
pub(super) trait Guarded {
    /// The right its sender must have.
    const RIGHT: Right;

    /// The tenant it is about; `None` when it is about none, or about all.
    fn tenant(&self) -> Option<&str>;

    /// What it keeps longest is paid for by what its message took, until that is gone.
    fn charged_to(&mut self, _charge: &Charge) {}

    /// How many bytes of keys and values it brings.
    fn bytes(&self) -> usize {
        0
    }
}

macro_rules! guarded {
    ($($right:ident: $($message:ident $(($($field:ident)+))? $([$kept:ident])?)+;)+) => {
        $($(impl Guarded for v1::$message {
            const RIGHT: Right = Right::$right;

            fn tenant(&self) -> Option<&str> {
                Some(&self.tenant_id)
            }

            $(fn bytes(&self) -> usize {
                0 $(+ self.$field.len())+
            })?

            $(fn charged_to(&mut self, charge: &Charge) {
                self.$kept = charge.over(std::mem::take(&mut self.$kept));
            })?
        })+)+
    };
}

macro_rules! guarded_without_tenant {
    ($($right:ident: $($message:ident)+;)+) => {
        $($(impl Guarded for v1::$message {
            const RIGHT: Right = Right::$right;

            fn tenant(&self) -> Option<&str> {
                None
            }
        })+)+
    };
}

guarded! {
    Read: ReadKeyValueRequest (key) GetTenantRequest;
    Write: WriteKeyValueRequest (key value) [value] DeleteKeyValueRequest (key);
    Admin: CreateTenantRequest UpdateReplicationFactorRequest SetSiblingLimitsRequest
           CreateApiKeyRequest ListApiKeysRequest RevokeApiKeyRequest;
}

guarded_without_tenant! {
    Admin: AddStorageNodeRequest RemoveStorageNodeRequest GetMigrationStatusRequest ListStorageNodesRequest
           ChangeNodesRequest PlanNodesRequest ListMigrationsRequest CancelMigrationRequest PaceMigrationRequest
           GetConvergenceRequest
           // It may name a tenant, but goes through the trees of all: what comes next can be another tenant's.
           VerifyPageRequest;
}
