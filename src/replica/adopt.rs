//! The promise of a node that holds nothing: to refuse older epochs from now on.
//!
//! It is given in one step with the look at what is held, so no write can slip in between. A node that joins may have
//! been a member before. Of that time nothing may be left: what was purged then speaks for no record now, whom it owed
//! something is somebody else's business, and which partitions it left is known. So all of it is cleared first. It goes
//! page by page; if the node stops before it has promised, whoever asks again begins anew.
//!
//! What this is not: a node whose disk holds records is never cleared.

use bytes::Bytes;

use super::batch::Applied;
use super::hints::{Hints, after};
use super::mutations::{Loop, refusal_of};
use super::{identity, tombstones};
use crate::marks::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::placement::Epoch;
use crate::ports::{Put, Refusal, ReplicaWorld, Reply, Space, StorageEngine, StorageError};
use crate::sizes::{self, Size};

impl<W: ReplicaWorld> Loop<W> {
    /// Refuses epochs before this one from now on if no record is held. Who `is_new` counts from then on.
    pub(super) async fn adopt_if_empty(
        &mut self,
        epoch: Epoch,
        is_new: bool,
    ) -> Result<Reply, Refusal> {
        let identity = &self.ledger.identity;
        let (fence, was_refilling) = (identity.epoch, identity.refilling);
        let current = self.ledger.fences.newest(fence);
        if epoch < current {
            return Err(Refusal::StaleEpoch { current });
        }
        if !is_new && was_refilling && !mutant::on(Mutant::RefillingCounts) {
            marks::reached(Mark::AnsweredRefilling);
            return Err(Refusal::Refilling);
        }
        let storage = self.shared.world.storage();
        let held = storage.approximate_count(Space::Records).await;
        let is_empty = held.map_err(|error| refusal_of(&error))? == 0;
        let adopted = is_empty || (is_new && mutant::on(Mutant::ReturnedNodeTaken));
        if !adopted {
            return Ok(Reply::Adopted { adopted });
        }
        let mut ledger = self.ledger.clone();
        // Who is asked once more has cleared it before, and may be a member by now.
        if is_new && is_empty && epoch > fence {
            let cleared = self.clear().await;
            cleared.map_err(|error| refusal_of(&error))?;
            ledger.forget_fences();
        }
        ledger.fence(epoch);
        ledger.counts();
        let mut puts: Vec<Put> = ledger.puts().collect();
        if was_refilling {
            puts.push(identity::refilled_put());
        }
        let stored = self.commit(Applied::only(ledger, puts)).await;
        stored.map_err(|error| refusal_of(&error))?;
        Ok(Reply::Adopted { adopted })
    }

    /// Clears what a node without records has left of a former life, but for its identity and its fences.
    async fn clear(&mut self) -> Result<(), StorageError> {
        for space in [Space::Digests, Space::Tombstones] {
            self.clear_all(space, Bytes::new(), None).await?;
        }
        let cleared = self.clear_all(Space::Hints, Bytes::new(), None).await;
        // However far that came.
        let left = Hints::load(self.shared.world.storage()).await?;
        self.shared.hints.replace(left);
        cleared?;
        let (floors, end) = (tombstones::purged_prefix(), tombstones::purged_end());
        self.clear_all(Space::Meta, floors, Some(end)).await?;
        self.purged = false;
        Ok(())
    }

    async fn clear_all(
        &mut self,
        space: Space,
        mut from: Bytes,
        end: Option<Bytes>,
    ) -> Result<(), StorageError> {
        let page_max = sizes::of(Size::ClearPage);
        loop {
            let storage = self.shared.world.storage();
            let page = storage.scan(space, from, end.clone(), page_max).await?;
            let removed = page.iter().map(|(key, _)| Put {
                space,
                key: key.clone(),
                value: None,
            });
            self.store(removed.collect(), false).await?;
            match page.last() {
                Some((last, _)) if page.len() == page_max => from = after(last),
                _ => return Ok(()),
            }
        }
    }
}
