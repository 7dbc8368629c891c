//! The section `auth` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Secret;

/// Shorter secrets can be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// Whether requests need a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Everybody may do everything.
    #[default]
    Off,
    /// Requests without a valid token are refused.
    Required,
}

/// Who may do what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// `off` or `required`.
    pub mode: AuthMode,
    /// A key that may do everything, to make the first API keys with; at least 32 bytes. Empty: there is none.
    pub admin_key: Secret,
    /// JWTs signed with this secret (HS256) are accepted; at least 32 bytes. Empty: none are.
    pub jwt_secret: Secret,
    /// The secret before, accepted as well while secrets are exchanged. Empty: there is none.
    pub jwt_secret_previous: Secret,
    /// JWTs signed with an RSA key of this JWKS file (RS256) are accepted; read again when it changes. Empty: none are.
    pub jwt_jwks_file: String,
    /// What a JWT's `iss` must be. Empty: anything.
    pub jwt_issuer: String,
    /// What a JWT's `aud` must be or hold. Empty: JWTs for an audience are refused.
    pub jwt_audience: String,
    /// By how much the issuer's clock may differ.
    pub jwt_leeway: Duration,
    /// How long an API key is good for without looking at the metadata store again. A revoked key is refused as soon as
    /// the store tells of it; this is the longest it can take when that message is lost.
    pub key_ttl: Duration,
    /// How long keys that are known go on being good while the metadata store does not answer.
    pub key_outage_max: Duration,
    /// How many API keys, and how many JWTs, are kept in mind.
    pub keys_max: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            mode: AuthMode::Off,
            admin_key: Secret::default(),
            jwt_secret: Secret::default(),
            jwt_secret_previous: Secret::default(),
            jwt_jwks_file: String::new(),
            jwt_issuer: String::new(),
            jwt_audience: String::new(),
            jwt_leeway: Duration::from_secs(30),
            key_ttl: Duration::from_secs(10),
            key_outage_max: Duration::from_secs(3600),
            keys_max: 10_000,
        }
    }
}

impl AuthSettings {
    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// Names the first key that is wrong, without showing a secret.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        for (key, secret) in [
            ("auth.admin_key", &self.admin_key),
            ("auth.jwt_secret", &self.jwt_secret),
            ("auth.jwt_secret_previous", &self.jwt_secret_previous),
        ] {
            let bytes = secret.expose().len();
            if bytes > 0 && bytes < SECRET_BYTES_MIN {
                let problem = format!(
                    "has {bytes} bytes; at least {SECRET_BYTES_MIN} are needed, such as `openssl rand -hex 32` makes"
                );
                return Err((key, problem));
            }
        }
        if self
            .admin_key
            .expose()
            .chars()
            .any(|c| !c.is_ascii_graphic())
        {
            let problem = "must be printable ASCII without spaces: it travels in a header";
            return Err(("auth.admin_key", problem.into()));
        }
        if self.admin_key.expose().starts_with(super::api_keys::PREFIX) {
            let problem = "begins like a tenant's API key; choose a random text";
            return Err(("auth.admin_key", problem.into()));
        }
        Ok(())
    }

    /// Whether anything but API keys that were made before would be accepted.
    #[must_use]
    pub const fn has_root(&self) -> bool {
        !(self.admin_key.is_empty() && self.jwt_secret.is_empty() && self.jwt_jwks_file.is_empty())
    }

    /// The same with secrets masked, fit to be shown.
    #[must_use]
    pub fn masked(self) -> Self {
        Self {
            admin_key: self.admin_key.masked(),
            jwt_secret: self.jwt_secret.masked(),
            jwt_secret_previous: self.jwt_secret_previous.masked(),
            ..self
        }
    }
}
