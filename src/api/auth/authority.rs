//! The one who decides.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{FutureExt, StreamExt};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use super::api_keys::{self, hash};
use super::caller::Caller;
use super::jwt::{Verifier, jwks_file};
use super::known_keys::KnownKeys;
use super::{AuthMode, AuthSettings, Refused, Right};
use crate::adapters::files;
use crate::adapters::vitals::{Vitals, keep};
use crate::coordinator::Coordinator;
use crate::ports::{CoordinatorWorld, MetadataEvent};

/// How often the JWKS file is looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

const INVALID: Refused = Refused::Unauthorized("the token is not valid");

/// Decides who may do what. Copies share what it knows.
#[derive(Clone)]
pub struct Authority(Option<Arc<Required>>);

/// Who sent a request, known by its headers.
#[derive(Clone, Debug)]
pub struct Known(Option<Caller>);

struct Required {
    admin: Option<[u8; 32]>,
    keys: KnownKeys,
    jwt: ArcSwap<Verifier>,
}

impl Authority {
    /// Everybody may do everything.
    #[must_use]
    pub const fn open() -> Self {
        Self(None)
    }

    /// As the settings say, with the API keys that the coordinator's metadata store knows. Hears of changes while any
    /// copy is there.
    ///
    /// # Errors
    /// When a file that the settings name can't be used.
    pub fn new<W: CoordinatorWorld>(
        settings: &AuthSettings,
        coordinator: &Coordinator<W>,
    ) -> Result<Self, String> {
        if settings.mode == AuthMode::Off {
            return Ok(Self::open());
        }
        let source = coordinator.clone();
        let source = move |id| {
            let coordinator = source.clone();
            async move { coordinator.admin().api_key(&id).await }.boxed()
        };
        // Looked at before it is read, so no change is missed.
        let jwks_file = jwks_file(settings);
        let changes = jwks_file.map(|file| files::changes(vec![file], FILE_INTERVAL));
        let admin = &settings.admin_key;
        let required = Arc::new(Required {
            admin: (!admin.is_empty()).then(|| hash(admin.expose().as_bytes())),
            keys: KnownKeys::new(settings, Box::new(source)),
            jwt: ArcSwap::from_pointee(Verifier::new(settings)?),
        });
        // Watched from before the first key is asked for, so no change is missed.
        let mut events = coordinator.admin().metadata_events();
        let weak = Arc::downgrade(&required);
        let forgetting = async move {
            while let Some(event) = events.next().await {
                let Some(required) = weak.upgrade() else {
                    return;
                };
                match event {
                    MetadataEvent::ApiKey(id) => required.keys.forget(&id),
                    MetadataEvent::Missed => required.keys.forget_all(),
                    MetadataEvent::Topology(_) | MetadataEvent::Tenant(_) => {}
                }
            }
        };
        let vitals = Vitals::process();
        tokio::spawn(keep(vitals.clone(), "watch of API keys", forgetting));
        if let Some(changes) = changes {
            let weak = Arc::downgrade(&required);
            let settings = settings.clone();
            let reading = async move {
                let mut changes = pin!(changes);
                while let Some(()) = changes.next().await {
                    let Some(required) = weak.upgrade() else {
                        return;
                    };
                    match Verifier::again(&settings) {
                        Ok(verifier) => {
                            tracing::info!("the keys of JWTs were read again");
                            required.jwt.store(Arc::new(verifier));
                        }
                        Err(error) => tracing::error!(error, "the keys of JWTs stay as they were"),
                    }
                }
            };
            tokio::spawn(keep(vitals, "watch of the keys of JWTs", reading));
        }
        Ok(Self(Some(required)))
    }

    /// Whether tokens are needed at all.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.0.is_some()
    }

    /// Who sent these headers, if that may do what needs `right` to anything at all.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn recognise(&self, headers: &HeaderMap, right: Right) -> Result<Known, Refused> {
        let Some(required) = &self.0 else {
            return Ok(Known(None));
        };
        let caller = required.sender(headers).await;
        let caller = caller.and_then(|caller| caller.has(right).map(|()| caller));
        caller.map(|caller| Known(Some(caller))).inspect_err(count)
    }

    /// Whether whoever sent these headers, and may have been recognised by them, may do what needs `right`, to `tenant`
    /// if it is about one.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn authorize(
        &self,
        (headers, known): (&HeaderMap, Option<Known>),
        right: Right,
        tenant: Option<&str>,
    ) -> Result<(), Refused> {
        let Some(required) = &self.0 else {
            return Ok(());
        };
        let caller = match known {
            Some(Known(Some(caller))) => Ok(caller),
            _ => required.sender(headers).await,
        };
        let outcome = caller.and_then(|caller| caller.may(right, tenant));
        outcome.inspect_err(count)
    }
}

fn count(refused: &Refused) {
    let code = refused.error_code().as_str_name();
    metrics::counter!("coordinator_requests_refused_total", "code" => code).increment(1);
}

impl Required {
    async fn sender(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        self.caller(token(headers)?).await
    }

    async fn caller(&self, token: &str) -> Result<Caller, Refused> {
        if let Some((id, secret)) = api_keys::parse(token) {
            let key = self.keys.get(&id).await?;
            let key = key.filter(|key| api_keys::is_secret(secret, &key.secret_hash));
            // Whoever doesn't know the secret is not told that there was such a key.
            let key = key.ok_or(INVALID)?;
            return match key.revoked_at {
                Some(_) => Err(Refused::Unauthorized("the API key was revoked")),
                None => Ok(Caller {
                    tenant: Some(key.tenant.clone()),
                    right: Some(key.role.into()),
                }),
            };
        }
        let is_admin = |admin: &[u8; 32]| bool::from(hash(token.as_bytes()).ct_eq(admin));
        if self.admin.as_ref().is_some_and(is_admin) {
            return Ok(Caller::ADMINISTRATOR);
        }
        self.jwt.load().verify(token)
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn token(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let header = given.next().ok_or(Refused::Unauthorized(
        "a token is needed: Authorization: Bearer TOKEN",
    ))?;
    if given.any(|other| other != header) {
        return Err(Refused::Unauthorized(
            "there are two tokens; send the one that counts",
        ));
    }
    let (scheme, token) = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(INVALID)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(token.trim()),
        false => Err(Refused::Unauthorized(
            "the token must be sent as: Authorization: Bearer TOKEN",
        )),
    }
}
