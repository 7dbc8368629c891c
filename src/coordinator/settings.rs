//! How a coordinator behaves: numbers only, no handles.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quorum::Consistency;

/// What to do with a write that carries an idempotency key while the idempotency store does not take its claim, or its
/// answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdempotencyOutage {
    /// Serve it all the same and say so in the answer.
    Degrade,
    /// Acknowledge nothing that is not kept: refuse it without a claim, and call it indeterminate when the write was
    /// made and its answer could not be stored.
    Refuse,
}

/// Settings of a coordinator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorSettings {
    /// Used when neither request nor tenant names one.
    pub default_consistency: Consistency,
    /// A write's longest time.
    pub write_timeout: Duration,
    /// A read's longest time.
    pub read_timeout: Duration,
    /// The least time an owner gets to stamp before the next one is asked as well.
    pub stamp_patience_min: Duration,
    /// The least time before a read is hedged.
    pub hedge_delay_min: Duration,
    /// How far a wall clock ahead of the others is followed.
    pub clock_ahead_max: Duration,
    /// The largest value in bytes.
    pub value_bytes_max: usize,
    /// How long a cached tenant is used.
    pub tenant_ttl: Duration,
    /// How many tenants are cached.
    pub tenant_entries_max: usize,
    /// How often the topology is refreshed, notified or not.
    pub topology_refresh: Duration,
    /// How often each storage node is probed.
    pub probe_interval: Duration,
    /// How many background repairs may wait.
    pub repair_queue_max: usize,
    /// How often all owners are compared.
    pub anti_entropy_period: Duration,
    /// How soon they are compared again while something differs or somebody is missing, and how often a coordinator
    /// that does not lead asks whether it should.
    pub anti_entropy_pause: Duration,
    /// How long a coordinator that leads and falls silent is waited for.
    pub anti_entropy_lease: Duration,
    /// How many requests may be at work at once.
    pub in_flight_max: usize,
    /// How long an idempotency claim shields its request from others at most; never longer than the request's own
    /// deadline.
    pub claim_lease: Duration,
    /// How long an answer is kept for its idempotency key.
    pub idempotency_retention: Duration,
    /// What to do when the idempotency store does not take a claim or an answer.
    pub idempotency_outage: IdempotencyOutage,
}

impl Default for CoordinatorSettings {
    fn default() -> Self {
        Self {
            default_consistency: Consistency::Quorum,
            write_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(3),
            stamp_patience_min: Duration::from_millis(100),
            hedge_delay_min: Duration::from_millis(2),
            clock_ahead_max: Duration::from_secs(1),
            value_bytes_max: 1024 * 1024,
            tenant_ttl: Duration::from_secs(300),
            tenant_entries_max: 10_000,
            topology_refresh: Duration::from_secs(30),
            probe_interval: Duration::from_secs(1),
            repair_queue_max: 10_000,
            anti_entropy_period: Duration::from_secs(300),
            anti_entropy_pause: Duration::from_secs(5),
            anti_entropy_lease: Duration::from_secs(30),
            in_flight_max: 10_000,
            claim_lease: Duration::from_secs(10),
            idempotency_retention: Duration::from_secs(24 * 3600),
            idempotency_outage: IdempotencyOutage::Degrade,
        }
    }
}
