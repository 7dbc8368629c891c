//! How much is taken at a time inside the core: pages, what is under way together, tables of fixed size.
//!
//! None of them is a promise and no operator sets one: each has one usual value, a constant of the program. The
//! simulation draws others, small ones often, since a page that holds all there is never has a second one.
//!
//! Invariant: whatever they are (from 1 on, or from the least that is said), no promise breaks.
//!
//! Without the feature `mutants` [`of`] is a constant, and the compiler puts it in place. Production never turns the
//! feature on.
//!
//! Source: FoundationDB's randomised knobs (Zhou et al., *FoundationDB: A Distributed Unbundled Transactional Key Value
//! Store*, 2021, section 4).

macro_rules! sizes {
    ($($variant:ident $name:literal $usual:literal $what:literal)*) => {
        /// Something of which the core takes so much at a time.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Size {
            $(#[doc = $what] $variant,)*
        }

        impl Size {
            /// Every size, in the order of the enum.
            pub const ALL: &[Size] = &[$(Size::$variant),*];

            /// The name in scenario files.
            pub fn name(self) -> &'static str {
                match self {
                    $(Size::$variant => $name,)*
                }
            }

            /// What it is outside the simulation.
            pub const fn usual(self) -> usize {
                match self {
                    $(Size::$variant => $usual,)*
                }
            }

            /// What there is so much of, in one line.
            pub fn what(self) -> &'static str {
                match self {
                    $(Size::$variant => $what,)*
                }
            }
        }
    };
}

sizes! {
    LeavesPage "leaves-page" 4096 "leaves that a node looks at for one answer; from 65 on, since a tree has 64"
    FloorsPage "floors-page" 256 "trees of which something was purged, that a node looks at for one answer"
    RecordsPage "records-page" 128 "records that a node looks at for one answer"
    RecordsAtOnce "records-at-once" 16 "records of a page that are in memory together: one may have some MiB"
    ForgetPage "forget-page" 1024 "hints that are forgotten in one step"
    DropPage "drop-page" 128 "records, and hints, of a dropped tree that go in one step"
    RebuildPage "rebuild-page" 16 "records read together to make digests anew"
    HintsPage "hints-page" 1024 "hints counted together when a node opens"
    DeliveryPage "delivery-page" 64 "hints that are looked at together to be delivered"
    DeliveriesAtOnce "deliveries-at-once" 16 "hinted records on their way together"
    FencesPage "fences-page" 1024 "fences read together when a node opens"
    ClearPage "clear-page" 1024 "entries of a former life that are cleared in one step"
    SyncRecords "sync-records" 4096 "records after which one call to exchange a tree ends"
    ExchangesAtOnce "exchanges-at-once" 16 "records that a node exchanges together, of all trees"
    DamagedKnown "damaged-known" 256 "damaged records that a node knows at a time"
    DamagedKept "damaged-kept" 256 "damaged records whose bytes are kept aside"
    TreesAtOnce "trees-at-once" 4 "trees that a round of comparing tends together"
    SyncCalls "sync-calls" 64 "calls after which a round leaves the rest of a tree to the next one"
    OpenTrees "open-trees" 16_384 "trees that are not proved for a node that is refilled; more than are tended together"
    RepairWorkers "repair-workers" 4 "keys that are repaired together"
    RepairAttempts "repair-attempts" 8 "attempts to repair a key in the background"
    TenantsPage "tenants-page" 1_000 "tenants read together from the metadata store"
}

/// How much that is.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn of(size: Size) -> usize {
    size.usual()
}

#[cfg(feature = "mutants")]
pub use drawn::{activate, of};

#[cfg(feature = "mutants")]
mod drawn {
    use std::cell::RefCell;

    use super::Size;

    thread_local! {
        /// In the order of [`Size::ALL`]; nothing: all are usual.
        static DRAWN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    /// Sets sizes on this thread; the others are usual.
    pub fn activate(sizes: &[(Size, usize)]) {
        let mut all: Vec<usize> = Size::ALL.iter().map(|size| size.usual()).collect();
        for (size, is) in sizes {
            all[*size as usize] = *is;
        }
        DRAWN.with(|drawn| *drawn.borrow_mut() = all);
    }

    /// How much that is.
    pub fn of(size: Size) -> usize {
        DRAWN.with(|drawn| {
            let drawn = drawn.borrow();
            drawn.get(size as usize).copied().unwrap_or(size.usual())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Size::ALL.iter().map(|size| size.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Size::ALL.len());
    }
}
