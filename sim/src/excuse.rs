//! What excuses a finding: every condition under which something that a check would tell of is no fault of the product.
//!
//! Each is stated exactly, with why nobody could do better, and counted where it excuses something: a check that finds
//! a promise broken asks last whether there is an excuse. So a sweep tells how much of what it looked at it did not
//! judge, and an excuse that excuses more than it did stands out.
//!
//! What this is not: what a promise does not say. Which operations one is about (those that were answered, those whose
//! owners meet) belongs to the promise, and each check says it in its header. Nor is it a list of worlds in which
//! something is not looked at at all.

macro_rules! excuses {
    ($($variant:ident $name:literal $what:literal $why:literal)*) => {
        /// Why something that was found is no fault.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Excuse {
            $(#[doc = $what] #[doc = ""] #[doc = $why] $variant,)*
        }

        impl Excuse {
            /// Every excuse, in the order of the enum.
            pub const ALL: &[Excuse] = &[$(Excuse::$variant),*];

            /// The name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Excuse::$variant => $name,)*
                }
            }

            /// The condition.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Excuse::$variant => $what,)*
                }
            }

            /// Why nobody could do better.
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self {
                    $(Excuse::$variant => $why,)*
                }
            }
        }
    };
}

excuses! {
    // Losses.
    HoldersLost "holders-lost"
        "every node that said to hold a write has lost it since, with its disk or by damage"
        "nobody has it"
    DeleteHoldersUnknown "delete-holders-unknown"
        "as many owners as a write or delete without known versions needed have lost something since it began"
        "a tombstone does not say whose it is, so who held it can't be told"
    SoleOwnerLost "sole-owner-lost"
        "a key's only owner lost something while the key was copied from it"
        "what the new owner has of it is not read before it is copied back"
    SecondLoss "second-loss"
        "a second one of a key's owners has lost something, or the only one"
        "what one owner lost another one gives back, and what two lost perhaps nobody"
    OldDisk "old-disk"
        "who said to hold a write had its disk put back to an earlier state since"
        "the older disk looks whole, so its node is counted until it hears of what it forgot"
    LostSinceLookedAt "lost-since-looked-at"
        "a node lost something, or ended, after whoever relied on it had looked and before that was stored"
        "between a look and what is done by it anything may happen"
    Damaged "damaged"
        "a record that can't be read any more is compared with others"
        "what it held can't be told, nor handed on; it is replaced by what the others have"
    GivenUp "given-up"
        "a node that was given up still has records or hints"
        "it is down, and nobody asks it for anything again"
    // Attempts that nobody holds together.
    UnclaimedAttempt "unclaimed-attempt"
        "an attempt was made without a claim, since the idempotency store was down or has lost its data"
        "nothing tells such an attempt from a write of its own"
    ForgottenAttempt "forgotten-attempt"
        "a write was tried at several owners, and the names of overwritten writes of its age are forgotten"
        "an attempt that comes up only then can't be told from a new write"
    RaisedUnheard "raised-unheard"
        "a write took a greater stamp while an owner that was asked under a smaller one was silent"
        "whether it was seen there before, nobody can know"
    DoubtfulDelete "doubtful-delete"
        "a delete was not acknowledged, or stamped twice, and something was read as absent after it began"
        "which absence is whose can't be told from what was read"
    UndecidedDelete "undecided-delete"
        "a write is gone that a delete without an answer may have overwritten"
        "a delete that timed out may have happened"
    PurgedEverywhere "purged-everywhere"
        "a delete that owners are asked about was purged everywhere"
        "what is purged leaves no record to hold"
    EndedUnheard "ended-unheard"
        "a node takes an old write for new, and a process of it ended before"
        "it may have had the write before, and have ended before it said so"
    // Requests that may be refused.
    FloorNotHeld "floor-not-held"
        "a read's floor, or a context, is not known to be held by a quorum"
        "only an owner far away may have it"
    NoRoom "no-room"
        "with all that was ever written to a key there may be no room for one more sibling"
        "such a write is to be refused"
    MayBeOver "may-be-over"
        "an owner said of a write beside siblings that it can't be told from an overwritten and forgotten one"
        "made again at this owner it might be there twice"
    MisusedKey "misused-key"
        "an idempotency key was brought with more than one request"
        "which of them came first is the store's to say"
    AnswerNotKept "answer-not-kept"
        "an idempotency key came with another request before the answer to the first one was kept"
        "until then the claim may have been given back"
    ClaimsForgotten "claims-forgotten"
        "the idempotency store has lost what it held of a key"
        "nobody else knows of the first request"
    TinyQueues "tiny-queues"
        "a queue or a number of requests at work is so short that a few clients fill it"
        "what finds it full is to be refused"
    RareMadeCommon "rare-made-common"
        "a full queue, or standing still on the way of a request, is made common"
        "the request is refused, or its time runs out, by what the world does to it"
    LooksLost "looks-lost"
        "a request is delivered twice around a step of its partition"
        "what is refused the second time looks as if it had failed the first time"
    StandingClock "standing-clock"
        "a monotonic clock has stood still"
        "by that clock no time has passed"
    // A search that has to end.
    WindowCut "window-cut"
        "more operations overlap than one search is about"
        "the search is exponential at worst"
    SearchGivenUp "search-given-up"
        "a search took more steps than it may"
        "the search is exponential at worst"
}

/// How often each excused something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Excuses([u64; Excuse::ALL.len()]);

impl Default for Excuses {
    fn default() -> Self {
        Self::new()
    }
}

impl Excuses {
    /// Nothing was excused yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; Excuse::ALL.len()])
    }

    /// This one excused something.
    pub const fn note(&mut self, excuse: Excuse) {
        self.0[excuse as usize] += 1;
    }

    /// What the others excused, too.
    pub fn add(&mut self, others: &Self) {
        for (times, more) in self.0.iter_mut().zip(others.0) {
            *times += more;
        }
    }

    /// How often one excused something.
    #[must_use]
    pub const fn times(&self, excuse: Excuse) -> u64 {
        self.0[excuse as usize]
    }

    /// All of them, and how often each excused something.
    pub fn all(&self) -> impl Iterator<Item = (Excuse, u64)> + '_ {
        Excuse::ALL
            .iter()
            .map(|excuse| (*excuse, self.times(*excuse)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_each() {
        let page = include_str!("../../docs/simulation.md");
        let section = page.split("## What is excused").nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let all = Excuse::ALL.iter();
        let all = all.map(|it| format!("| `{}` | {} | {} |", it.name(), it.what(), it.why()));
        assert_eq!(rows, all.collect::<Vec<_>>());
    }

    #[test]
    fn each_is_counted_by_itself() {
        let mut excuses = Excuses::default();
        excuses.note(Excuse::NoRoom);
        let mut both = excuses;
        both.add(&excuses);
        assert_eq!(both.times(Excuse::NoRoom), 2);
        assert_eq!(both.all().map(|(_, times)| times).sum::<u64>(), 2);
    }
}
