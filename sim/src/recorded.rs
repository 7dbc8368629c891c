//! A run as it was recorded: all that it is judged by, as plain values.
//!
//! It is the boundary between what lives and what judges: [`crate::run`] fills one from a cluster at the end of a run,
//! and the invariants see nothing else, so a test makes one of its own, of a few operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pairdb::placement::Epoch;

use crate::adapters::TenantLookup;
use crate::endpoint::Endpoint;
use crate::op::{Op, OpId};
use crate::reign::Reign;
use crate::seen::Seen;
use crate::weather::WeatherLog;
use crate::world::World;

/// A run.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The world.
    pub world: Arc<World>,
    /// What clients did.
    pub ops: BTreeMap<OpId, Op>,
    /// What nodes said.
    pub seen: Seen,
    /// What the owners of each key hold in the end.
    pub finals: Vec<FinalRecord>,
    /// What owners hold that background repair should have made equal and did not, before anybody read.
    pub unrepaired: Vec<FinalRecord>,
    /// What owners hold of keys of which older values hid beneath a delete for ever.
    pub hidden: Vec<FinalRecord>,
    /// Who could rely on whom.
    pub weather: WeatherLog,
    /// The newest epoch that was published.
    pub published_epoch: Epoch,
    /// Every topology that was published, the oldest first.
    pub reigns: Vec<Arc<Reign>>,
    /// What did not go as it should in the calm.
    pub complaints: Vec<String>,
    /// Which tenants coordinators asked the metadata store for.
    pub tenant_lookups: Vec<TenantLookup>,
    /// Coordinators' answers after their deadlines.
    pub late_answers: Vec<String>,
}

/// What the owners of a key hold in the end.
#[derive(Clone, Debug)]
pub struct FinalRecord {
    /// An index into the world's tenants.
    pub tenant: usize,
    /// The key.
    pub key: String,
    /// Each owner's encoded record, or why there is none.
    pub records: Vec<(Endpoint, Result<Bytes, String>)>,
}

impl FinalRecord {
    /// Whether all owners answered, and hold the same.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let mut held = self.records.iter().map(|(_, record)| record.as_ref().ok());
        let first = held.next().flatten();
        first.is_some() && held.all(|record| record == first)
    }
}
