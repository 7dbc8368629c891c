//! JSON Web Tokens: HS256 with a secret, RS256 with the keys of a JWKS file. Nothing else, and never the one for the
//! other.
//!
//! Claims: `tenant_id`, `roles` (a list), `exp` (must be there), `nbf`; `iss` and `aud` when they are configured.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use quick_cache::sync::Cache;
use serde::Deserialize;

use super::api_keys::hash;
use super::caller::{Caller, greatest_right};
use super::{AuthSettings, Refused, jwt_signatures};
use crate::ports::TenantId;

/// Longer ones are not looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Verifies tokens. What was verified is kept in mind, by the token's hash, until it expires.
pub(super) struct Verifier {
    secrets: Vec<DecodingKey>,
    public_keys: Vec<(Option<String>, DecodingKey)>,
    settings: AuthSettings,
    verified: Cache<[u8; 32], Verified>,
}

#[derive(Clone)]
struct Verified {
    caller: Caller,
    expires: f64,
}

#[derive(Deserialize)]
struct Claims {
    tenant_id: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    exp: f64,
}

impl Verifier {
    /// As the settings say.
    ///
    /// # Errors
    /// When the JWKS file can't be read or holds no key for RS256.
    pub(super) fn new(settings: &AuthSettings) -> Result<Self, String> {
        let verifier = Self::again(settings)?;
        match jwks_file(settings) {
            Some(path) if verifier.public_keys.is_empty() => {
                Err(format!("{}: has no RSA key for signatures", path.display()))
            }
            _ => Ok(verifier),
        }
    }

    /// The same while it runs: a file from which the last key was taken out is no mistake, but the way to be rid of
    /// that key.
    ///
    /// # Errors
    /// When the JWKS file can't be read.
    pub(super) fn again(settings: &AuthSettings) -> Result<Self, String> {
        let secrets = [&settings.jwt_secret, &settings.jwt_secret_previous];
        let public_keys = match jwks_file(settings) {
            None => Vec::new(),
            Some(path) => {
                let shown = path.display();
                let text =
                    std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
                public_keys(&text).map_err(|problem| format!("{shown}: {problem}"))?
            }
        };
        jwt_signatures::install();
        Ok(Self {
            secrets: secrets
                .into_iter()
                .filter(|secret| !secret.is_empty())
                .map(|secret| DecodingKey::from_secret(secret.expose().as_bytes()))
                .collect(),
            public_keys,
            settings: settings.clone(),
            verified: Cache::new(settings.keys_max),
        })
    }

    /// Whoever holds the token.
    pub(super) fn verify(&self, token: &str) -> Result<Caller, Refused> {
        self.verify_at(token, now())
    }

    /// The same, with `now` in seconds since 1970 for what was verified before.
    fn verify_at(&self, token: &str, now: f64) -> Result<Caller, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(INVALID);
        }
        let hash = hash(token.as_bytes());
        if let Some(verified) = self.verified.get(&hash) {
            return match now > verified.expires + self.settings.jwt_leeway.as_secs_f64() {
                true => Err(EXPIRED),
                false => Ok(verified.caller),
            };
        }
        let claims = self.claims(token)?;
        let tenant = claims.tenant_id.map(TenantId::new).transpose();
        let caller = Caller {
            tenant: tenant
                .map_err(|_| Refused::Unauthorized("the token's tenant_id is no tenant's name"))?,
            right: greatest_right(claims.roles.iter().map(String::as_str)),
        };
        let verified = Verified {
            caller: caller.clone(),
            expires: claims.exp,
        };
        self.verified.insert(hash, verified);
        Ok(caller)
    }

    fn claims(&self, token: &str) -> Result<Claims, Refused> {
        let header = decode_header(token).map_err(|_| INVALID)?;
        let validation = self.validation(header.alg);
        let mut why = INVALID;
        for key in self.keys(header.alg, header.kid.as_deref()) {
            match decode::<Claims>(token, key, &validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => {
                    let told = refusal(error.kind());
                    if told != INVALID {
                        why = told; // the signature was right
                    }
                }
            }
        }
        Err(why)
    }

    fn keys<'k>(
        &'k self,
        algorithm: Algorithm,
        kid: Option<&'k str>,
    ) -> Box<dyn Iterator<Item = &'k DecodingKey> + Send + 'k> {
        let is_meant = move |name: &Option<String>| {
            kid.is_none_or(|kid| name.as_deref().is_none_or(|name| name == kid))
        };
        match algorithm {
            Algorithm::HS256 => Box::new(self.secrets.iter()),
            Algorithm::RS256 => {
                let keys = self
                    .public_keys
                    .iter()
                    .filter(move |(name, _)| is_meant(name));
                Box::new(keys.map(|(_, key)| key))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.settings.jwt_leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if !self.settings.jwt_issuer.is_empty() {
            validation.set_issuer(&[&self.settings.jwt_issuer]);
            required.push("iss");
        }
        if !self.settings.jwt_audience.is_empty() {
            validation.set_audience(&[&self.settings.jwt_audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// The file that keys come from, if one is configured.
pub(super) fn jwks_file(settings: &AuthSettings) -> Option<PathBuf> {
    (!settings.jwt_jwks_file.is_empty()).then(|| settings.jwt_jwks_file.clone().into())
}

/// The keys for RS256 of a JWKS, by their names.
fn public_keys(text: &str) -> Result<Vec<(Option<String>, DecodingKey)>, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("is no JWKS: {error}"))?;
    let is_for_rs256 = |key: &&Jwk| {
        matches!(key.algorithm, AlgorithmParameters::RSA(_))
            && matches!(key.common.key_algorithm, None | Some(KeyAlgorithm::RS256))
            && matches!(
                key.common.public_key_use,
                None | Some(PublicKeyUse::Signature)
            )
    };
    set.keys
        .iter()
        .filter(is_for_rs256)
        .map(|key| {
            let decoding =
                DecodingKey::from_jwk(key).map_err(|error| format!("has a bad key: {error}"))?;
            if jwt_signatures::is_too_short(&decoding) {
                return Err(
                    "has an RSA key of less than 2048 bits, which RS256 may not use".into(),
                );
            }
            Ok((key.common.key_id.clone(), decoding))
        })
        .collect()
}

const INVALID: Refused = Refused::Unauthorized("the token is not valid");
const EXPIRED: Refused = Refused::Unauthorized("the token has expired");

/// What a token's holder is told. Everything but [`INVALID`] is said of tokens with a right signature only.
const fn refusal(kind: &ErrorKind) -> Refused {
    match kind {
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => Refused::Unauthorized("the token is not valid yet"),
        ErrorKind::InvalidIssuer => Refused::Unauthorized("the token is of another issuer"),
        ErrorKind::InvalidAudience => Refused::Unauthorized("the token is for another audience"),
        ErrorKind::MissingRequiredClaim(_) => {
            Refused::Unauthorized("the token lacks exp, or iss or aud where they are asked for")
        }
        _ => INVALID,
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
#[path = "jwt_test.rs"]
mod tests;
