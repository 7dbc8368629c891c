//! The gate that every request passes, over gRPC and HTTP alike: who may do it, and whether that is not too much.

use http::HeaderMap;

use super::auth::{AuthSettings, Authority, Refused, Right};
use super::limits::{Allowance, LimitSettings, Limits};
use crate::coordinator::Coordinator;
use crate::ports::CoordinatorWorld;

/// Lets requests in. Copies share what they know.
#[derive(Clone)]
pub struct Gate {
    authority: Authority,
    limits: Limits,
}

impl Gate {
    /// As the settings say.
    ///
    /// # Errors
    /// When a file that the settings name can't be used.
    pub fn new<W: CoordinatorWorld>(
        auth: &AuthSettings,
        limits: &LimitSettings,
        coordinator: &Coordinator<W>,
    ) -> Result<Self, String> {
        Ok(Self {
            authority: Authority::new(auth, coordinator)?,
            limits: Limits::new(limits),
        })
    }

    /// Whether tokens are needed at all.
    #[must_use]
    pub const fn needs_tokens(&self) -> bool {
        self.authority.is_required()
    }

    /// Lets a request in that needs `right`, to `tenant` if it is about one, and brings so many bytes of keys and values. Tell
    /// the allowance how many the answer has.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        right: Right,
        tenant: Option<&str>,
        bytes: usize,
    ) -> Result<Allowance, Refused> {
        self.authority.authorize(headers, right, tenant).await?;
        Ok(self.limits.admit(right, tenant, bytes)?)
    }
}
