//! Bugs that can be put back on purpose, so that the simulation can prove that it would find them.
//!
//! Without the feature `mutants` [`on`] is the constant `false` and the compiler removes every switch. With it, at most
//! one sabotage is active per thread. Production never turns the feature on.

macro_rules! sabotages {
    ($($variant:ident $name:literal $what:literal)*) => {
        /// One known bug, named after what it does.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Sabotage {
            $(#[doc = $what] $variant,)*
        }

        impl Sabotage {
            /// Every sabotage, in the order of the enum.
            pub const ALL: &[Sabotage] = &[$(Sabotage::$variant),*];

            /// The name on command lines and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Sabotage::$variant => $name,)*
                }
            }

            /// What goes wrong, in one line.
            pub fn what(self) -> &'static str {
                match self {
                    $(Sabotage::$variant => $what,)*
                }
            }
        }
    };
}

sabotages! {
    JoinIgnoresSeen "join-ignores-seen" "join keeps siblings that the other side has seen and overwritten"
    JoinDropsConcurrent "join-drops-concurrent" "join keeps only the sibling with the greatest stamp"
    QuorumShort "quorum-short" "one answer fewer than required is enough"
    ResolveOldest "resolve-oldest" "last_write_wins shows the version with the least stamp"
    CounterReusedAfterRestart "counter-reused-after-restart" "a replica that restarts counts its dots from 1 again"
    IncarnationKeptAfterLoss "incarnation-kept-after-loss" "a replica that lost stamped writes keeps its incarnation"
    AckBeforeSync "ack-before-sync" "a replica answers before the write is durable"
    StampNotAboveOverwritten "stamp-not-above-overwritten" "a stamped write overwrites versions with greater stamps"
    WriteIdForgotten "write-id-forgotten" "a replica applies a repeated write again"
    EpochNotChecked "epoch-not-checked" "a replica serves requests routed by an old topology"
    JoinReplacesRecord "join-replaces-record" "a replica stores the record it was sent in place of its own"
    JoinKeepsOwn "join-keeps-own" "a replica that has a record ignores the one it was sent"
    NoRestamp "no-restamp" "a write is acknowledged although an owner holds a greater stamp"
    FailoverForgetsWriteId "failover-forgets-write-id" "an attempt at the next owner carries a new write id"
    ReadRepairSkipped "read-repair-skipped" "a quorum read answers before a quorum holds what it says"
    RepairWritesOlder "repair-writes-older" "read repair writes back the first answer instead of the join"
    NotFoundIsFailure "not-found-is-failure" "an owner that has no record counts as one that failed"
    FloorIgnored "floor-ignored" "a read answers less than its context covers"
    WriteContextTooWide "write-context-too-wide" "a write beside siblings gives out a context that covers them"
}

/// Whether this bug is put back on this thread. Always false in production.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn on(_: Sabotage) -> bool {
    false
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is put back on this thread.
#[cfg(feature = "mutants")]
pub fn on(sabotage: Sabotage) -> bool {
    ACTIVE.get() == Some(sabotage)
}

/// Puts one bug back on this thread, or takes all of them away.
#[cfg(feature = "mutants")]
pub fn activate(sabotage: Option<Sabotage>) {
    ACTIVE.set(sabotage);
}
