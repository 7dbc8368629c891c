//! A tenant's API key as the metadata store keeps it: who may do what, and what tells whether a secret is the right
//! one.
//!
//! The secret itself is shown once, when the key is made, and is kept nowhere.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::TenantId;

/// A key's public name: 16 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ApiKeyId(Arc<str>);

impl ApiKeyId {
    /// As many hexadecimal digits as an id has.
    pub const DIGITS: usize = 16;

    /// The id of these bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(format!("{bits:016x}").into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text is no key's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is no key's id; ids are 16 lower-case hexadecimal digits")]
pub struct ApiKeyIdError;

impl FromStr for ApiKeyId {
    type Err = ApiKeyIdError;

    fn from_str(text: &str) -> Result<Self, ApiKeyIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.len() == Self::DIGITS && text.bytes().all(is_digit) {
            true => Ok(Self(text.into())),
            false => Err(ApiKeyIdError),
        }
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the holder of a tenant's key may do there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TenantRole {
    /// Read.
    Read,
    /// Read, write and delete.
    Write,
}

impl TenantRole {
    /// Its name on the wire and in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "tenant-read",
            Self::Write => "tenant-write",
        }
    }
}

/// A text is no role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be tenant-read or tenant-write")]
pub struct TenantRoleError;

impl FromStr for TenantRole {
    type Err = TenantRoleError;

    fn from_str(text: &str) -> Result<Self, TenantRoleError> {
        match text {
            "tenant-read" => Ok(Self::Read),
            "tenant-write" => Ok(Self::Write),
            _ => Err(TenantRoleError),
        }
    }
}

/// A key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// Its public name.
    pub id: ApiKeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What its holder may do.
    pub role: TenantRole,
    /// SHA-256 of the secret, which has 256 random bits: nothing to guess, so no slow hash is needed.
    pub secret_hash: [u8; 32],
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds; since then it is worth nothing.
    pub revoked_at: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_digits() {
        let id = ApiKeyId::from_bits(0xbeef);
        assert_eq!(id.as_str(), "000000000000beef");
        assert_eq!(id.as_str().parse(), Ok(id));
        for wrong in [
            "",
            "beef",
            "000000000000BEEF",
            "000000000000beeg",
            "000000000000beef0",
            "ééééabcd",
        ] {
            assert_eq!(wrong.parse::<ApiKeyId>(), Err(ApiKeyIdError), "{wrong}");
        }
    }

    #[test]
    fn roles_have_names() {
        for role in [TenantRole::Read, TenantRole::Write] {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("admin".parse::<TenantRole>(), Err(TenantRoleError));
    }
}
