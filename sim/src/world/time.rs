//! How exactly processes keep time, and coordinators that are set otherwise than the rest.

use pairdb::coordinator::CoordinatorSettings;
use serde::{Deserialize, Serialize};

use super::{human, settings};
use crate::endpoint::Endpoint;

/// How exactly processes keep time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimePlan {
    /// By how much a timer goes off late at most, in microseconds.
    #[serde(rename = "timers_late_max", with = "human::us")]
    pub timers_late_us_max: u64,
    /// How much later than its deadline a call to a storage node ends at most, in microseconds: who waits for it is
    /// told by a sweep, and an answer that comes before is an answer.
    #[serde(rename = "calls_late_max", with = "human::us")]
    pub calls_late_us_max: u64,
}

/// A coordinator that is set otherwise than the rest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OddPlan {
    /// Which coordinator.
    pub who: Endpoint,
    /// Its settings.
    #[serde(with = "settings")]
    pub coordinator: CoordinatorSettings,
}
