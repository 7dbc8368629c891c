//! The section `limits` of the configuration.

use serde::{Deserialize, Serialize};

/// Time is counted in nanoseconds, and ten of them are the least that a rate is counted in.
pub(super) const REQUESTS_MAX: u32 = 100_000_000;

/// Bytes are counted in so many at once, for the same reason.
pub(super) const UNIT: u64 = 64;
/// More than this in a second can't be counted.
pub(super) const BYTES_MAX: u64 = REQUESTS_MAX as u64 * UNIT;

/// What each tenant may ask of one coordinator. 0 is unlimited.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Reads in a second.
    pub reads_per_second: u32,
    /// Writes and deletes in a second.
    pub writes_per_second: u32,
    /// Bytes of keys and values, written and read, in a second. A write beside unresolved siblings writes them again:
    /// they count.
    pub bytes_per_second: u64,
    /// How many tenants are kept in mind.
    pub tenants_max: usize,
    /// Tenants with limits of their own; in a file only.
    pub overrides: Vec<TenantLimits>,
}

/// What one tenant may ask for. What is absent is as for all; 0 is unlimited.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantLimits {
    /// The tenant's name.
    pub tenant: String,
    /// Reads in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_per_second: Option<u32>,
    /// Writes and deletes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_second: Option<u32>,
    /// Bytes of keys and values, written and read, in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            reads_per_second: 0,
            writes_per_second: 0,
            bytes_per_second: 0,
            tenants_max: 10_000,
            overrides: Vec::new(),
        }
    }
}

/// The rates of one tenant; 0 is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rates {
    pub(super) reads: u32,
    pub(super) writes: u32,
    pub(super) bytes: u64,
}

impl Rates {
    pub(super) const fn limits_anything(self) -> bool {
        self.reads > 0 || self.writes > 0 || self.bytes > 0
    }
}

impl LimitSettings {
    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// Names the first key that is wrong.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let too_much = |rates: Rates| {
            rates.reads > REQUESTS_MAX || rates.writes > REQUESTS_MAX || rates.bytes > BYTES_MAX
        };
        let names = self.overrides.iter().map(|own| own.tenant.as_str());
        for name in names.clone() {
            if names.clone().filter(|other| *other == name).count() > 1 {
                return Err((
                    "limits.overrides",
                    format!("names the tenant '{name}' twice"),
                ));
            }
            if too_much(self.of(name)) {
                return Err((
                    "limits.overrides",
                    format!("tenant '{name}': {}", too_much_in_words()),
                ));
            }
        }
        Ok(())
    }

    const fn general(&self) -> Rates {
        Rates {
            reads: self.reads_per_second,
            writes: self.writes_per_second,
            bytes: self.bytes_per_second,
        }
    }

    pub(super) fn of(&self, tenant: &str) -> Rates {
        let general = self.general();
        match self.overrides.iter().find(|own| own.tenant == tenant) {
            None => general,
            Some(own) => Rates {
                reads: own.reads_per_second.unwrap_or(general.reads),
                writes: own.writes_per_second.unwrap_or(general.writes),
                bytes: own.bytes_per_second.unwrap_or(general.bytes),
            },
        }
    }

    pub(super) fn limits_anything(&self) -> bool {
        self.general().limits_anything()
            || self
                .overrides
                .iter()
                .any(|own| self.of(&own.tenant).limits_anything())
    }
}

fn too_much_in_words() -> String {
    format!(
        "at most {REQUESTS_MAX} requests and {BYTES_MAX} bytes in a second can be counted; 0 is unlimited"
    )
}
