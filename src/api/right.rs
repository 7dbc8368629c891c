//! What a request needs to be let in, and which role gives it.

use crate::ports::TenantRole;

/// What a request needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Right {
    /// To see a tenant and its keys' values.
    Read,
    /// To change its keys.
    Write,
    /// To change tenants, API keys and nodes, and to see what concerns all of them.
    Admin,
}

impl Right {
    /// The least role that gives it.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Read => TenantRole::Read.as_str(),
            Self::Write => TenantRole::Write.as_str(),
            Self::Admin => ADMIN,
        }
    }
}

impl From<TenantRole> for Right {
    fn from(role: TenantRole) -> Self {
        match role {
            TenantRole::Read => Self::Read,
            TenantRole::Write => Self::Write,
        }
    }
}

/// The name of the role that may do everything.
pub(super) const ADMIN: &str = "admin";
