//! Who may do what: tokens, whose they are, and what they allow.
//!
//! What it is: one function, [`Authority::authorize`], that every way into the coordinator calls with the request's
//! headers, the [`Right`] it needs and the tenant it is about. A token is a tenant's API key (`pdb_…`), the
//! administrator's key of the configuration, or a JWT (HS256 or RS256).
//! What it is not: encryption (see `adapters/tls`), and no rights below a tenant.
//!
//! Invariants:
//! - what can't be verified is refused; that a store is down is no reason to let anybody in who was not known before;
//! - a token that names a tenant is good for that tenant only;
//! - no secret and no token reaches a log, an error or a metric, and none is kept: hashes are compared, in constant
//!   time;
//! - whoever asks without a valid token learns nothing of what exists.

mod api_keys;
mod authority;
mod caller;
mod jwt;
mod jwt_signatures;
mod known_keys;
mod refused;
mod secret;
mod settings;

pub use super::right::Right;
pub(super) use api_keys::NewKey;
pub use authority::{Authority, Known};
pub use refused::Refused;
pub use secret::Secret;
pub use settings::{AuthMode, AuthSettings};

#[cfg(test)]
pub(super) mod auth_test;
