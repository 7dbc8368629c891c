//! The tokens of tenants: `pdb_`, the key's id, `_`, and a secret of 256 random bits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ports::ApiKeyId;

/// What every such token begins with.
pub(super) const PREFIX: &str = "pdb_";

/// A key that was just made.
pub(in crate::api) struct NewKey {
    /// Its public name.
    pub(in crate::api) id: ApiKeyId,
    /// What is stored of its secret.
    pub(in crate::api) secret_hash: [u8; 32],
    /// What its holder sends. It is shown once and kept nowhere.
    pub(in crate::api) token: String,
}

impl NewKey {
    /// Makes a key of the operating system's randomness.
    pub(in crate::api) fn random() -> Result<Self, SysError> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret)?;
        let id = ApiKeyId::from_bits(SysRng.try_next_u64()?);
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Ok(Self {
            secret_hash: hash(secret.as_bytes()),
            token: format!("{PREFIX}{id}_{secret}"),
            id,
        })
    }
}

/// The id and the secret of a token, if it has the form of an API key.
pub(super) fn parse(token: &str) -> Option<(ApiKeyId, &str)> {
    let (id, secret) = token
        .strip_prefix(PREFIX)?
        .split_at_checked(ApiKeyId::DIGITS)?;
    Some((id.parse().ok()?, secret.strip_prefix('_')?))
}

/// SHA-256.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Whether a secret is the one that was hashed. Takes the same time wherever they differ.
pub(super) fn is_secret(secret: &str, hashed: &[u8; 32]) -> bool {
    hash(secret.as_bytes()).ct_eq(hashed).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_the_id_and_the_secret() {
        let key = NewKey::random().unwrap();
        let (id, secret) = parse(&key.token).unwrap();
        assert_eq!(id, key.id);
        assert!(is_secret(secret, &key.secret_hash));
        assert!(!is_secret(&secret[1..], &key.secret_hash));
        let other = NewKey::random().unwrap();
        assert!(other.id != key.id && other.token != key.token);
        assert!(!is_secret(parse(&other.token).unwrap().1, &key.secret_hash));
    }

    #[test]
    fn what_has_another_form_is_no_key() {
        for text in [
            "",
            "pdb_",
            "pdb_0123456789abcdef",
            "pdb_0123456789abcdef-secret",
            "pdb_0123456789abcdeX_secret",
            "0123456789abcdef_secret",
            "pdb_0123456789abcdé_secret",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
