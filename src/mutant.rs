//! Bugs that can be put back on purpose, so that the simulation can prove that it would find them.
//!
//! Without the feature `mutants` [`on`] is the constant `false` and the compiler removes every switch. With it, at most
//! one mutant is active per thread. Only `sim/core` has the feature; the package of the program has none.

macro_rules! mutants {
    ($($variant:ident $name:literal $what:literal)*) => {
        /// One known bug, named after what it does.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $(#[doc = $what] $variant,)*
        }

        impl Mutant {
            /// Every mutant, in the order of the enum.
            pub const ALL: &[Mutant] = &[$(Mutant::$variant),*];

            /// The name on command lines and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)*
                }
            }

            /// What goes wrong, in one line.
            pub fn what(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $what,)*
                }
            }
        }
    };
}

mutants! {
    JoinIgnoresSeen "join-ignores-seen" "join keeps siblings that the other side has seen and overwritten"
    JoinDropsConcurrent "join-drops-concurrent" "join keeps only the sibling with the greatest stamp"
    QuorumShort "quorum-short" "one answer fewer than required is enough"
    ResolveOldest "resolve-oldest" "last_write_wins shows the version with the least stamp"
    CounterReusedAfterRestart "counter-reused-after-restart" "a replica that restarts counts its dots from 1 again"
    IncarnationKeptAfterLoss "incarnation-kept-after-loss" "a replica that lost stamped writes keeps its incarnation"
    GoneBackUnnoticed "gone-back-unnoticed" "a node that hears of dots it does not know to have given keeps its incarnation"
    UncleanCounts "unclean-counts" "a replica that lost power, with writes that were answered before they were durable, counts at once"
    DoubtsIgnored "doubts-ignored" "a replica whose engine has lost acknowledged commits goes on as if nothing were missing"
    ViewKeptAfterFailure "view-kept-after-failure" "a replica whose commit failed goes on with what it knew before, whatever became of the commit"
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
    JoinDropsTombstones "join-drops-tombstones" "join forgets deletes"
    FailureCountsAsSuccess "failure-counts-as-success" "an owner that failed is counted among those that succeeded"
    ContextForgetsActors "context-forgets-actors" "a context is cut to two actors"
    OwnWriteNotInContext "own-write-not-in-context" "a write beside siblings gives out a context without itself"
    UnseenOverwritten "unseen-overwritten" "a write with siblings overwrites what its context does not cover"
    RaiseNotAbove "raise-not-above" "a stamp that is raised follows the clock and not what an owner holds"
    ClaimStampFromClock "claim-stamp-from-clock" "a claim fixes a stamp without a look at what is held"
    ReservationNotStored "reservation-not-stored" "counters are given out before their reservation is stored"
    EpochForgotten "epoch-forgotten" "a replica that restarts has forgotten the epoch it took on"
    BatchLosesEffect "batch-loses-effect" "of a batch that changes several records the last one is not stored"
    BatchSwapsAnswers "batch-swaps-answers" "the first two answers of a batch go to each other's callers"
    HedgeCancelsFirst "hedge-cancels-first" "a read that is hedged no longer waits for whom it asked first"
    TenantCacheMixedUp "tenant-cache-mixed-up" "a coordinator takes the first cached tenant for any"
    RecordKeyMixedUp "record-key-mixed-up" "a record key does not say where the tenant's name ends"
    NotFoundWithoutContext "not-found-without-context" "the answer that there is no value gives out an empty context"
    FullDiskAnswered "full-disk-answered" "a replica whose disk is full answers as if it had stored the batch"
    DeadlineIgnored "deadline-ignored" "a coordinator takes five times as long as it was given"
    PatienceEndless "patience-endless" "no other owner is asked to stamp while the first one may still answer"
    StampFailoverSkipped "stamp-failover-skipped" "a write fails as soon as one owner does not stamp it"
    ReadAsksNoMore "read-asks-no-more" "no other owner is read in place of one that is slow or failed"
    StaleEpochIsFinal "stale-epoch-is-final" "a write that was routed by an old topology fails"
    BehindIgnored "behind-ignored" "an owner stamps though it has not seen the client's own last write"
    LeaversTogether "leavers-together" "all who give up trees of a partition refuse what owners exchange at the same time, and are owners of each other's"
    LeaverFencedAlone "leaver-fenced-alone" "who gives up a tree and owns others leaves without its owners refusing older epochs"
    GatheredNotGiven "gathered-not-given" "what the pivot gathers from one owner is not given to those that it exchanged with before"
    BehindIsFatal "behind-is-fatal" "a write fails when the owner that is asked first is behind and can't be brought up"
    SupersededIsSuccess "superseded-is-success" "a write that an owner refused for its stamp is acknowledged"
    PendingClaimIgnored "pending-claim-ignored" "a retry does not wait for the attempt that holds the claim"
    StoredAnswerIgnored "stored-answer-ignored" "a retry does the write again although its answer is stored"
    AnswerStoredFirst "answer-stored-first" "the answer is stored before the write is acknowledged"
    TakeoverNewWrite "takeover-new-write" "who takes over a claim does not take over its write id and stamp"
    ClaimedStampRaised "claimed-stamp-raised" "a write under a claim raises its stamp like any other"
    ClaimAlwaysReleased "claim-always-released" "a claim is given back although the write may have had its effect"
    StoredAnswerDiffers "stored-answer-differs" "a repeated answer comes without its context"
    StampedWithoutSiblings "stamped-without-siblings" "a stamped write travels without the siblings that stand beside it"
    TombstoneShowsOlder "tombstone-shows-older" "last_write_wins shows the latest value although it was deleted"
    RetriedShownTwice "retried-shown-twice" "a write that two owners stamped is shown twice"
    AbsentIsEqual "absent-is-equal" "an owner without the record counts as having what a read answers"
    FloorWithoutOwnWrite "floor-without-own-write" "a read's floor leaves out the client's own write beside siblings"
    StragglersAwaited "stragglers-awaited" "a write is answered when all owners have it, or have failed"
    HealthIgnored "health-ignored" "owners are asked in the order of the preference list, however slow they are"
    EqualStampsByDot "equal-stamps-by-dot" "of two writes with one stamp the one with the greater dot wins"
    DigestOmitsSeen "digest-omits-seen" "a record's digest says nothing of what it has seen"
    DigestKeepsOld "digest-keeps-old" "a record that is replaced stays in the digest of its leaf"
    HintNotStored "hint-not-stored" "a hint is answered for and not stored"
    HintSkipped "hint-skipped" "who missed a write is noted nowhere"
    PurgeBeforeHints "purge-before-hints" "a tombstone is purged though it is noted that somebody lacks it"
    PurgeUnproved "purge-unproved" "tombstones are purged while owners differ in other keys of the tree"
    PurgeWithOwnerMissing "purge-with-owner-missing" "tombstones are purged while an owner does not answer"
    HintNotDelivered "hint-not-delivered" "a hint is dropped without a delivery"
    VerifyPagesUncut "verify-pages-uncut" "whoever verifies takes what one node lists beyond another one's page for all there is"
    AwayStopsExchange "away-stops-exchange" "a tree's owners exchange nothing while one of them is away"
    SyncOneWay "sync-one-way" "an exchange gets what is lacking and gives nothing"
    HintDroppedThoughNewer "hint-dropped-though-newer" "a hint is dropped though the record changed after it was delivered"
    PurgedForgotten "purged-forgotten" "a node takes a late message for a new write after a purge"
    ClaimIgnoresPurge "claim-ignores-purge" "a claim's stamp may be below what was purged"
    RefillingCounts "refilling-counts" "a node that lost its disk counts for quorums at once"
    RefilledUnproved "refilled-unproved" "a node that lost its disk counts again before all owners were asked for what it lost"
    RefilledUnfenced "refilled-unfenced" "a node that lost its disk counts again while writes may still be completed that count on what it lost"
    FloorsStayBehind "floors-stay-behind" "a node that lost its disk gets records back, and not what was purged"
    ExchangeOutlivesFence "exchange-outlives-fence" "an exchange that began before its node was told that it leaves goes on to join records there"
    DamagedTakenForNothing "damaged-taken-for-nothing" "an exchange takes a record that the peer can't read for none where there is none on this side"
    HealedByNewcomers "healed-by-newcomers" "the only owner's damaged record is replaced by what those hold that it is being copied to"
    HealedFromSome "healed-from-some" "a damaged record is replaced by what some of the other owners hold"
    DamageBlocksRefill "damage-blocks-refill" "a damaged record keeps a node that lost its disk from counting again"
    ChecksumIgnored "checksum-ignored" "a record whose checksum does not fit is read all the same"
    DamagedServed "damaged-served" "a storage node answers reads with damaged records"
    FingerprintIgnored "fingerprint-ignored" "an idempotency key used for another request gets the first one's answer"
    TenantNeverExpires "tenant-never-expires" "a cached tenant is used for ever"
    UnhealthyForEver "unhealthy-for-ever" "a node that failed a few times never counts as healthy again"
    SilentRepairAwaited "silent-repair-awaited" "a read's repair asks no other owner while one is silent"
    HiddenValuesKept "hidden-values-kept" "older values beneath a delete are kept for ever under last_write_wins"
    HiddenSiblingsCounted "hidden-siblings-counted" "tombstones that no reader is shown count as siblings and pile up"
    SiblingBytesUnbounded "sibling-bytes-unbounded" "unresolved siblings may have any number of bytes"
    AnyEpochBelieved "any-epoch-believed" "a storage node takes on whatever epoch a request names"
    StaleEpochVetoes "stale-epoch-vetoes" "one owner that names an epoch that nobody can have keeps all requests to its keys from being served"
    PurgedValueKept "purged-value-kept" "a node that lost its disk keeps a value that all others have purged"
    StandingOfAnother "standing-of-another" "an owner that is asked how a write stands says it of the greatest one of the record"
    AttemptLeavesNoName "attempt-leaves-no-name" "a further attempt of an overwritten write is dropped without a trace of its own"
    RefillingTakesPurged "refilling-takes-purged" "a node that is being refilled takes a late message for a new write after a purge"
    LedWhileRefilled "led-while-refilled" "a write that was the greatest at a node that is being refilled is taken to have led there"
    KnownFromMemoryAlone "known-from-memory-alone" "a node answers from memory for a write that its record lost when it was replaced"
    HealWaitsForRefill "heal-waits-for-refill" "a damaged record is not replaced while one of the other owners is being refilled"
    OverwrittenWrittenAgain "overwritten-written-again" "a repeated write that may have been overwritten is made again"
    AttemptOverwrittenAlone "attempt-overwritten-alone" "a write with siblings overwrites the attempts that it was shown and no others"
    SeenWriteRestamped "seen-write-restamped" "a write is stamped again above what overwrote it, though a quorum had held it before"
    OvertakenReadAnswered "overtaken-read-answered" "a read gives out a write that was outranked at an owner before that had it"
    OwnerForgotten "owner-forgotten" "a key's last owner is never asked"
    ClaimLeftToItsLease "claim-left-to-its-lease" "a claim whose attempt is over is left to its lease, however long that is"
    OwnClaimUnknown "own-claim-unknown" "whoever asks for a claim again, because the answer was lost, is told to wait for itself"
    CopyingWritesOldOnly "copying-writes-old-only" "a write to a partition that is copied needs its old owners alone"
    HandingOverReadsNewOnly "handing-over-reads-new-only" "reads use the new owners alone while a partition is handed over"
    QuorumOfTheUnion "quorum-of-the-union" "a quorum of the old and new owners together is enough while a partition moves"
    NewOwnerStamps "new-owner-stamps" "a new owner accepts writes while it is copied to"
    StandingOfNewOwner "standing-of-new-owner" "how a write stands at a new owner counts while it is copied to"
    RepairIntoOldOnly "repair-into-old-only" "a read's repair brings up the old owners alone while a partition is handed over"
    NewTenantByOldTopology "new-tenant-by-old-topology" "a tenant that is met for the first time is used with a topology from before it"
    CachedFactorKept "cached-factor-kept" "a replication factor that was cached before an epoch is used with it"
    FactorSetEarly "factor-set-early" "a tenant's replication factor is stored before its partitions have been moved"
    CopyBeforeFence "copy-before-fence" "a partition is copied before its old owners refuse older epochs"
    OneOwnerUnfenced "one-owner-unfenced" "a partition is copied though one of its old owners does not refuse older epochs"
    HandOverBeforeProof "hand-over-before-proof" "a partition is handed over before all new owners hold what any old one holds"
    MovedUnfenced "moved-unfenced" "a partition is moved while its old owners still answer who has not heard that it is handed over"
    MovedUnproved "moved-unproved" "a partition is moved without a look at what came to its old owners while it was handed over"
    ProofOutlivesDisk "proof-outlives-disk" "a partition is moved to an owner that lost its disk since it was copied to"
    FloorTakenEarly "floor-taken-early" "a new owner takes over what was purged before it has the records"
    PurgeWhileMoving "purge-while-moving" "tombstones of a partition that moves are purged"
    CopyDroppedUnproved "copy-dropped-unproved" "an old copy is dropped without a look at whether its owners lack any of it"
    DropIgnoresFence "drop-ignores-fence" "a node drops a tree though it owns it again"
    FenceForgotten "fence-forgotten" "a replica that restarts has forgotten which partitions it refuses older epochs for"
    MovedOnUncopied "moved-on-uncopied" "a partition that was moved to a node that is then given up has other owners at once, with no copy made"
    WayBackForgotten "way-back-forgotten" "a cancelled change whose node is then given up forgets partitions that lead back to owners the table does not know"
    LeftCopiesForgotten "left-copies-forgotten" "when a node is given up during a change, who had copies by then is forgotten"
    CancelForgetsPartition "cancel-forgets-partition" "a change that is cancelled leaves a partition that had been moved with its new owners"
    StepsUnguarded "steps-unguarded" "who leads a change steps partitions whatever somebody else has made of them"
    LeaverCounts "leaver-counts" "who has handed over a partition still counts among its owners"
    ReturnedNodeTaken "returned-node-taken" "a node joins with what it held before it was removed"
    HorizonNotMoved "horizon-not-moved" "a new owner takes repeated writes from before it was one for new ones"
    DataRaisedEarly "data-raised-early" "a storage node marks its data as that of the new version at its start, before anything in it is"
    SilentTakenForCurrent "silent-taken-for-current" "a process that tells no version is taken for one of the newest"
    WindowTooNarrow "window-too-narrow" "processes of two releases that follow each other refuse each other"
    ChangeBesideOlder "change-beside-older" "a change of owners begins while a process runs that knows nothing of it"
    StaleCountsAsMoved "stale-counts-as-moved" "an exchange that met nothing but older records counts as one that moved some, and so never comes to its end"
    ServedUnkept "served-unkept" "a write is acknowledged without idempotency though such writes are to be refused"
}

/// Whether this bug is put back on this thread. Always false in production.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is put back on this thread.
#[cfg(feature = "mutants")]
pub fn on(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Puts one bug back on this thread, or takes all of them away.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
