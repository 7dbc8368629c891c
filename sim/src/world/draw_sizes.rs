//! How much the core takes at a time, drawn: little, often.

use pairdb::sizes::Size;

use super::{NEVER, SizePlan, World};
use crate::rng::Rng;

/// How many worlds of a thousand have sizes of their own.
const PERMILLE: u32 = 400;

impl World {
    /// Gives it small pages, in some cases.
    pub(super) fn perhaps_small(&mut self) {
        let rng = &mut Rng::new(self.seed, "sizes");
        if !rng.chance(PERMILLE) {
            return;
        }
        let permille = rng.pick(&[200, 500, 1_000]);
        // What gives up sooner leaves more to the comparing of owners.
        let unaided = self.coordinator.anti_entropy_pause >= NEVER;
        for size in Size::ALL {
            let is = rng.pick(few(*size));
            let may = !unaided || *size != Size::RepairAttempts;
            if rng.chance(permille) && may {
                self.sizes.push(SizePlan { size: *size, is });
            }
        }
    }
}

/// What is little of it.
const fn few(size: Size) -> &'static [usize] {
    match size {
        Size::LeavesPage => &[65, 66, 130],
        Size::SyncRecords => &[1, 3, 20],
        // Not so few that owners don't become equal in time.
        Size::SyncCalls => &[8],
        Size::OpenTrees => &[8, 16],
        Size::RecordsPage => &[1, 2, 5, 20],
        Size::ForgetPage
        | Size::DropPage
        | Size::HintsPage
        | Size::FencesPage
        | Size::ClearPage
        | Size::DeliveryPage
        | Size::FloorsPage => &[1, 2, 5],
        _ => &[1, 2],
    }
}
