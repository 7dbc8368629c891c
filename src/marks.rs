//! Marks that the simulation looks for: "this happened at least once". A sweep that never reached one tests less than
//! it seems to, and fails.
//!
//! Without the feature `mutants` [`reached`] does nothing and the compiler removes it. With it, each thread collects
//! the marks that were reached on it. Production never turns the feature on.
//!
//! What this is not: no metric and no log. Nothing decides by it.

macro_rules! marks {
    ($($variant:ident $name:literal $what:literal)*) => {
        /// One interesting branch, named after what happens there.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Mark {
            $(#[doc = $what] $variant,)*
        }

        impl Mark {
            /// Every mark, in the order of the enum.
            pub const ALL: &[Mark] = &[$(Mark::$variant),*];

            /// The name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mark::$variant => $name,)*
                }
            }

            /// What happened, in one line.
            pub fn what(self) -> &'static str {
                match self {
                    $(Mark::$variant => $what,)*
                }
            }
        }
    };
}

marks! {
    // Maintenance.
    HiddenSettled "hidden-settled" "values that hid beneath a newer tombstone were dropped"
    HintNotTaken "hint-not-taken" "no owner noted that another one missed a write"
    RoundCutShort "round-cut-short" "the topology changed while owners were compared"
    RoundAllEqual "round-all-equal" "all owners of everything were found equal"
    RoundFoundDifferences "round-found-differences" "owners were compared and differed, or did not answer"
    FactorOutdated "factor-outdated" "a replication factor that was known before an epoch was looked up anew"
    UpgradeAwaited "upgrade-awaited" "a change of owners waited until all processes were upgraded"
    OlderServed "older-served" "a storage node served a process of the release before"
    MigrationBegun "migration-begun" "a change of owners was begun"
    PartitionsStepped "partitions-stepped" "partitions that move came one step further"
    PartitionBlocked "partition-blocked" "a partition that moves waited for a node"
    StepOvertaken "step-overtaken" "a step of a change of owners came after another change of the topology"
    CopyDropped "copy-dropped" "who owned a partition no more dropped its copy"
    MigrationCompleted "migration-completed" "a change of owners came to its end"
    MigrationCancelled "migration-cancelled" "a change of owners that was under way was turned back"
    ChangeAmended "change-amended" "a change of owners went on without a node that was given up meanwhile"
    MigrationUndone "migration-undone" "a change of owners that was turned back came to its end"
    TreeDiffered "tree-differed" "the owners of a tree differed and exchanged records"
    AnsweredRefilling "answered-refilling" "a node that lost its disk answered, and did not count"
    RefillFenced "refill-fenced" "an epoch was published because a node had lost its disk"
    Refilled "refilled" "a node that had lost its disk had got everything back, and counted again"
    HintNoted "hint-noted" "an owner noted durably that another one missed a write"
    HintCoalesced "hint-coalesced" "a hint was noted already"
    HintOutdated "hint-outdated" "a record changed while it was delivered, and its hint stayed"
    HintsDelivered "hints-delivered" "everything that a node was owed was delivered to it"
    HintTargetAway "hint-target-away" "a node that is owed something did not answer"
    LeavesDiffered "leaves-differed" "two owners compared a tree and it differed"
    SyncSent "sync-sent" "an exchange gave the peer something"
    SyncReceived "sync-received" "an exchange got something from the peer"
    DigestsRebuilt "digests-rebuilt" "a node had records without digests, and made them"
    PivotDamaged "pivot-damaged" "an owner could not pass on records because its own are damaged, and another one did"
    Healed "healed" "a damaged record was replaced by what all other owners hold"
    Purged "purged" "a record that was deleted everywhere was removed"
    FloorHandedOver "floor-handed-over" "an owner learnt from another one what was purged of a tree"
    PurgeOutdated "purge-outdated" "a record changed before it could be purged"
    PurgedRefused "purged-refused" "a record came to be joined that is older than a purge"
    PurgedLeftOut "purged-left-out" "a node that is being refilled did not take what seems to have been purged there"
    PurgedDropped "purged-dropped" "an owner held a value that another one had purged, and dropped it"
    PurgeCaughtUp "purge-caught-up" "an owner purged what another one was found to have purged"
    // Writes.
    StampFailedOver "stamp-failed-over" "another owner was asked to stamp after the first failed or was slow"
    StampedElsewhere "stamped-elsewhere" "another owner than the first one asked stamped the write"
    SupersededRaised "superseded-raised" "an owner held a greater stamp, and one above it was proposed"
    SupersededFixed "superseded-fixed" "an owner held a greater stamp than a claim had fixed: the write was over already"
    Restamped "restamped" "an owner that joined held a greater stamp, and the write was stamped once more"
    LedBefore "led-before" "an owner that holds a greater stamp remembered that the write had led before that came"
    NotRestamped "not-restamped" "a write that a quorum had held before it was overwritten kept its stamp"
    RestampAwaited "restamp-awaited" "an owner held a greater stamp, and the others were heard before the write was stamped again"
    RestampedUnheard "restamped-unheard" "a write was stamped again while an owner was silent"
    MayBeOver "may-be-over" "a repeated write may have been overwritten or deleted before, and was not made again"
    BroughtUp "brought-up" "an owner that had not seen the client's own write was brought up before it stamped"
    JoinMissed "join-missed" "an owner missed a write that was acknowledged all the same"
    JoinedLate "joined-late" "joins went on after the client was answered"
    StampDeadline "stamp-deadline" "a write's deadline passed before an owner had stamped it"
    JoinDeadline "join-deadline" "a write's deadline passed before enough owners had it"
    Indeterminate "indeterminate" "a write failed that may have had its effect"
    WriteImpossible "write-impossible" "too many owners failed a stamped write for enough to be left"
    // Reads.
    Hedged "hedged" "a read asked one more owner because an answer was late"
    HedgeWon "hedge-won" "a read was answered by enough owners thanks to the one that was asked in addition"
    ReadWentOn "read-went-on" "an owner failed a read and the next one was asked"
    FloorAskedMore "floor-asked-more" "enough owners had answered and did not cover the context: one more was asked"
    FloorPurged "floor-purged" "what the context covered was deleted everywhere and purged"
    FloorFailed "floor-failed" "no owner that could be reached covered the context"
    ReadDeadline "read-deadline" "a read's deadline passed before enough owners had answered"
    RepairedBeforeAnswer "repaired-before-answer" "a read brought a quorum up to its answer before giving it"
    ReadOvertaken "read-overtaken" "an owner held a greater stamp by the time a read brought it up, and the key was read again"
    RepairedElsewhere "repaired-elsewhere" "an owner failed such a repair and another one took its place"
    RepairedBehindAnswer "repaired-behind-answer" "a read found a stale owner beside a quorum that was not, and queued its repair"
    SiblingsShown "siblings-shown" "a read showed several values"
    DeletedBesideValue "deleted-beside-value" "a read hid a tombstone that stands beside a value"
    // Background repair.
    RepairDone "repair-done" "a background repair made all owners equal"
    RepairDropped "repair-dropped" "a repair did not fit into the queue"
    RepairRetried "repair-retried" "a repair that failed was tried again"
    RepairGivenUp "repair-given-up" "a repair was given up after its last try"
    RepairWaited "repair-waited" "a repair was put off because an owner did not answer anyway"
    // Topology and tenants.
    EpochRefused "epoch-refused" "an owner refused an older epoch"
    EpochLearned "epoch-learned" "an owner learned of a newer epoch from a read"
    EpochDoubted "epoch-doubted" "an owner named an epoch that could not be had from the metadata store, and counted as missing"
    TopologyRefreshed "topology-refreshed" "the topology was fetched anew because an owner refused"
    TopologyAlreadyFresh "topology-already-fresh" "somebody else had fetched the topology by the time a refused request asked for it"
    AdoptedPublished "adopted-published" "an epoch that owners knew and the store did not was published again"
    MetadataWatched "metadata-watched" "the metadata store told of a new topology"
    TenantStale "tenant-stale" "a cached tenant past its time was used because the metadata store did not answer"
    TenantUnknown "tenant-unknown" "a tenant was not cached and the metadata store did not answer"
    TenantNewerThanTopology "tenant-newer-than-topology" "a tenant was met by a newer topology than the one in use, which was looked up"
    TenantShared "tenant-shared" "a request waited for the fetch of its tenant that another one had begun"
    TenantEvicted "tenant-evicted" "a cached tenant made room for another one"
    AdmissionRefused "admission-refused" "a request was refused because too many were at work"
    StoppingRefused "stopping-refused" "a request was refused because the coordinator was stopping"
    ClockBounded "clock-bounded" "a coordinator's wall clock was too far ahead of the nodes' to be followed"
    StampAheadIgnored "stamp-ahead-ignored" "a stamp too far ahead was met and did not pull the clock along"
    // Idempotency.
    ClaimPending "claim-pending" "a claim was found pending, and waited for"
    ClaimStillPending "claim-still-pending" "a claim was still pending at the deadline"
    ClaimTakenOver "claim-taken-over" "a claim whose holder had died was taken over"
    ClaimReleased "claim-released" "a claim was given back because the write had no effect"
    ClaimAbandoned "claim-abandoned" "a claim was left to whoever comes next, because its attempt was over and may have had an effect"
    AnswerReplayed "answer-replayed" "a repeated request was given its first answer"
    AnswerFoundStored "answer-found-stored" "the answer was stored by somebody else by the time the write was done"
    AnswerNotStored "answer-not-stored" "the idempotency store did not take the answer"
    IdempotencyConflict "idempotency-conflict" "an idempotency key was used for two requests"
    DegradedWithoutClaim "degraded-without-claim" "a write went without its claim because the idempotency store was down"
    RefusedWithoutClaim "refused-without-claim" "a write was refused because the idempotency store was down"
    // Storage nodes.
    KnownFromRecord "known-from-record" "a repeated write was found among the siblings"
    KnownFromMemory "known-from-memory" "a repeated write was remembered though it had been overwritten"
    StampedAgain "stamped-again" "a write that was applied came back with a greater stamp and overwrote itself"
    StampRaisedLocally "stamp-raised-locally" "an owner stamped above what the write's context overwrites"
    Behind "behind" "an owner had not seen the client's own write"
    SiblingsKept "siblings-kept" "a write left siblings beside it"
    SiblingsRefused "siblings-refused" "a write was refused because its key has too many siblings"
    BatchFull "batch-full" "a batch made as many bytes of records as it may, and left the rest to the next one"
    SiblingBytesRefused "sibling-bytes-refused" "a write was refused because its key's siblings have too many bytes"
    JoinedBoth "joined-both" "a join made a record that neither side had"
    JoinKnewMore "join-knew-more" "an owner was sent a record that it had more of"
    BatchShared "batch-shared" "several operations shared a commit"
    BatchSameKey "batch-same-key" "several operations of a commit were about one key"
    BatchAborted "batch-aborted" "a commit failed, and its counters were skipped"
    QueueFull "queue-full" "a node refused a request because its queue was full"
    CountersReserved "counters-reserved" "a node reserved counters for its dots"
    IncarnationFirst "incarnation-first" "a node without data took its first incarnation"
    IncarnationUnclean "incarnation-unclean" "a node that might have lost acknowledged writes took a new incarnation"
    IncarnationDoubted "incarnation-doubted" "a node whose engine had lost acknowledged commits took a new incarnation"
    IncarnationKept "incarnation-kept" "a node started again under its incarnation"
    StoppedCleanly "stopped-cleanly" "a node was stopped, and marked that as clean"
    DiskFull "disk-full" "a commit found the disk full"
    StorageFailed "storage-failed" "a commit failed, and the node took no more writes"
    StorageBack "storage-back" "a node that could not write takes writes again, without a restart"
    EpochImpossible "epoch-impossible" "a node was asked under an epoch that can't be, and refused"
    RecordDamaged "record-damaged" "a stored record failed its checksum and was not served"
    DamagedNotOverwritten "damaged-not-overwritten" "a write or join was refused because the stored record is damaged"
}

/// This happened. Nothing in production.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn reached(_: Mark) {}

/// This happened.
#[cfg(feature = "mutants")]
pub fn reached(mark: Mark) {
    REACHED.with(|reached| {
        let mut marks = reached.get();
        marks.add(mark);
        reached.set(marks);
    });
}

#[cfg(feature = "mutants")]
thread_local! {
    static REACHED: std::cell::Cell<Marks> = const { std::cell::Cell::new(Marks(0)) };
}

/// The marks reached on this thread since the last call.
#[cfg(feature = "mutants")]
pub fn take() -> Marks {
    REACHED.take()
}

/// A set of marks.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Marks(u128);

#[cfg(feature = "mutants")]
const _: () = assert!(Mark::ALL.len() <= 128);

#[cfg(feature = "mutants")]
impl Marks {
    /// Adds one.
    pub fn add(&mut self, mark: Mark) {
        self.0 |= 1 << mark as u32;
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, mark: Mark) -> bool {
        self.0 >> mark as u32 & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Mark::ALL.iter().map(|mark| mark.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Mark::ALL.len());
    }
}
