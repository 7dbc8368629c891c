//! How much each tenant may ask for: reads, writes and bytes in a second.
//!
//! What it is: one bucket of each kind a tenant, filled at the configured rate and holding one second's worth (GCRA). A
//! request beyond that is refused at once and told when to come again. What it is not: protection of the coordinator as
//! a whole, which bounds what is at work (`coordinator/admission`), and no limit of all coordinators together: each one
//! has its own buckets.
//!
//! Invariants: what is not limited costs nothing; every byte is paid for, if need be by the requests after it; a
//! bounded number of tenants is kept in mind, and one that was forgotten begins with full buckets.

mod buckets;
mod settings;

use std::sync::Arc;

use quick_cache::sync::Cache;
use tonic::Response;

pub use buckets::Exceeded;
use buckets::{Buckets, Standing};
pub use settings::{LimitSettings, TenantLimits};

use super::log_pace;
use super::right::Right;

/// The limits of all tenants. Copies share the buckets.
#[derive(Clone)]
pub struct Limits(Option<Arc<Inner>>);

struct Inner {
    settings: LimitSettings,
    tenants: Cache<Arc<str>, Arc<Buckets>>,
}

/// A request was let in; what it answers is still to be paid for.
#[must_use = "what is answered has to be paid for"]
pub struct Allowance {
    buckets: Option<Arc<Buckets>>,
    standing: Option<Standing>,
}

impl Limits {
    /// As the settings say.
    #[must_use]
    pub fn new(settings: &LimitSettings) -> Self {
        let limited = || Inner {
            settings: settings.clone(),
            tenants: Cache::new(settings.tenants_max),
        };
        Self(settings.limits_anything().then(|| Arc::new(limited())))
    }

    /// Lets a request of so many bytes in, or says when to come again.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn admit(
        &self,
        right: Right,
        tenant: Option<&str>,
        bytes: usize,
    ) -> Result<Allowance, Exceeded> {
        let (Some(inner), Some(tenant), Right::Read | Right::Write) = (&self.0, tenant, right)
        else {
            return Ok(Allowance::UNLIMITED);
        };
        let Some(buckets) = inner.buckets(tenant) else {
            return Ok(Allowance::UNLIMITED);
        };
        let standing = buckets.take(right, bytes).inspect_err(|exceeded| {
            if buckets.is_to_be_told()
                && let Some(left_out) = log_pace::LIMIT.tell()
            {
                tracing::warn!(tenant, %exceeded, left_out, "a tenant asks for more than it may");
            }
        })?;
        Ok(Allowance {
            buckets: Some(buckets),
            standing,
        })
    }
}

/// No tenant's name is longer.
const TENANT_BYTES_MAX: usize = 255;

impl Inner {
    /// A tenant's buckets; `None` when nothing of it is limited.
    fn buckets(&self, tenant: &str) -> Option<Arc<Buckets>> {
        if tenant.len() > TENANT_BYTES_MAX {
            return None; // the request fails for that
        }
        if let Some(buckets) = self.tenants.get(tenant) {
            return Some(buckets);
        }
        let limits = self.settings.of(tenant);
        limits.limits_anything().then(|| {
            let name: Arc<str> = tenant.into();
            let made = || Ok::<_, std::convert::Infallible>(Arc::new(Buckets::new(limits)));
            match self.tenants.get_or_insert_with(&name, made) {
                Ok(buckets) => buckets,
                Err(never) => match never {},
            }
        })
    }
}

impl Allowance {
    const UNLIMITED: Self = Self {
        buckets: None,
        standing: None,
    };

    /// The answer, with what is left of the limit. So many bytes of it are charged to the tenant's next requests.
    pub fn answer<T>(self, bytes: usize, message: T) -> Response<T> {
        if let Some(buckets) = &self.buckets {
            buckets.owe(bytes);
        }
        let mut answer = Response::new(message);
        if let Some(standing) = self.standing {
            standing.write(answer.metadata_mut());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(reads: u32, overrides: Vec<TenantLimits>) -> Limits {
        Limits::new(&LimitSettings {
            reads_per_second: reads,
            tenants_max: 10,
            overrides,
            ..LimitSettings::default()
        })
    }

    fn admitted(limits: &Limits, right: Right, tenant: &str) -> u32 {
        let admitted = (0..100).filter(|_| limits.admit(right, Some(tenant), 1).is_ok());
        admitted.count() as u32
    }

    #[test]
    fn nothing_is_limited_unless_configured() {
        let limits = limits(0, Vec::new());
        assert!(limits.0.is_none());
        assert_eq!(admitted(&limits, Right::Read, "t"), 100);
        let allowance = limits.admit(Right::Write, Some("t"), 1 << 30).unwrap();
        assert!(allowance.answer(1 << 30, ()).metadata().is_empty());
    }

    #[test]
    fn each_tenant_has_its_own_buckets() {
        let overrides = vec![
            TenantLimits {
                tenant: "small".into(),
                reads_per_second: Some(2),
                writes_per_second: Some(3),
                bytes_per_second: None,
            },
            TenantLimits {
                tenant: "free".into(),
                reads_per_second: Some(0),
                ..TenantLimits::default()
            },
        ];
        let limits = limits(5, overrides);
        assert_eq!(admitted(&limits, Right::Read, "a"), 5);
        assert_eq!(admitted(&limits, Right::Read, "b"), 5);
        assert_eq!(admitted(&limits, Right::Write, "a"), 100);
        assert_eq!(admitted(&limits, Right::Read, "small"), 2);
        assert_eq!(admitted(&limits, Right::Write, "small"), 3);
        assert_eq!(admitted(&limits, Right::Read, "free"), 100);
        assert_eq!(admitted(&limits, Right::Admin, "a"), 100);
    }

    #[test]
    fn a_bounded_number_of_tenants_is_kept_in_mind() {
        let limits = limits(5, Vec::new());
        let no_name = "n".repeat(TENANT_BYTES_MAX + 1);
        assert_eq!(admitted(&limits, Right::Read, &no_name), 100);
        assert_eq!(limits.0.as_ref().unwrap().tenants.len(), 0);
        for n in 0..1000 {
            let _ = limits.admit(Right::Read, Some(&n.to_string()), 0).unwrap();
        }
        assert!(limits.0.unwrap().tenants.len() <= 20);
    }
}
