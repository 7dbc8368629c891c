//! The gate that every request passes, over gRPC and HTTP alike: who may do it, and whether that is not too much.

use http::HeaderMap;

use super::auth::{AuthSettings, Authority, Known, Refused, Right};
use super::limits::{Allowance, LimitSettings, Limits};
use crate::adapters::front::Budget;
use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;

/// Lets requests in. Copies share what they know.
#[derive(Clone)]
pub struct Gate {
    authority: Authority,
    limits: Limits,
    budget: Budget,
}

impl Gate {
    /// As the settings say, with the bytes that requests may take.
    ///
    /// # Errors
    /// When a file that the settings name can't be used.
    pub fn new<W: CoordinatorWorld>(
        auth: &AuthSettings,
        limits: &LimitSettings,
        coordinator: &Coordinator<W>,
        budget: Budget,
    ) -> Result<Self, String> {
        Ok(Self {
            authority: Authority::new(auth, coordinator)?,
            limits: Limits::new(limits),
            budget,
        })
    }

    /// Whether tokens are needed at all.
    #[must_use]
    pub const fn needs_tokens(&self) -> bool {
        self.authority.is_required()
    }

    /// What requests' bytes are taken from.
    pub(super) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Who asks for what needs `right`, by the headers alone: before anything else is read of the request. It is still
    /// to be admitted.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) async fn recognise(
        &self,
        headers: &HeaderMap,
        right: Right,
    ) -> Result<Known, Refused> {
        self.authority.recognise(headers, right).await
    }

    /// Lets a request in that needs `right`, to `tenant` if it is about one, and brings so many bytes of keys and
    /// values. Who sent it may have been recognised by its headers before. Tell the allowance how many bytes the answer
    /// has.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn admit(
        &self,
        (headers, known): (&HeaderMap, Option<Known>),
        right: Right,
        tenant: Option<&str>,
        bytes: usize,
    ) -> Result<Allowance, Refused> {
        self.authority
            .authorize((headers, known), right, tenant)
            .await?;
        Ok(self.limits.admit(right, tenant, bytes)?)
    }
}
