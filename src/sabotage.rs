//! Bugs that can be put back on purpose, so that the simulation can prove that it would find them.
//!
//! Without the feature `mutants` [`on`] is the constant `false` and the compiler removes every switch. With it, at most
//! one sabotage is active per thread. Production never turns the feature on.

/// One known bug, named after what it does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// See [`Sabotage::what`].
    JoinIgnoresSeen,
    /// See [`Sabotage::what`].
    JoinDropsConcurrent,
    /// See [`Sabotage::what`].
    QuorumShort,
    /// See [`Sabotage::what`].
    ResolveOldest,
}

impl Sabotage {
    /// Every sabotage, in the order of the enum.
    pub const ALL: &[Sabotage] = &[
        Sabotage::JoinIgnoresSeen,
        Sabotage::JoinDropsConcurrent,
        Sabotage::QuorumShort,
        Sabotage::ResolveOldest,
    ];

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Sabotage::JoinIgnoresSeen => "join-ignores-seen",
            Sabotage::JoinDropsConcurrent => "join-drops-concurrent",
            Sabotage::QuorumShort => "quorum-short",
            Sabotage::ResolveOldest => "resolve-oldest",
        }
    }

    /// What goes wrong, in one line.
    pub fn what(self) -> &'static str {
        match self {
            Sabotage::JoinIgnoresSeen => {
                "join keeps siblings that the other side has seen and overwritten"
            }
            Sabotage::JoinDropsConcurrent => "join keeps only the sibling with the greatest stamp",
            Sabotage::QuorumShort => "one answer fewer than required is enough",
            Sabotage::ResolveOldest => "last_write_wins shows the version with the least stamp",
        }
    }
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
