//! Quorum: how many answers an operation needs, the tally of those it has, and what a client is shown of a record.
//!
//! What it is: values and decisions (Gifford 1979; DeCandia et al. 2007, section 4.5). A coordinator adds each
//! owner's answer to a [`Tally`] and asks for the verdict.
//! What it is not: it sends nothing, waits for nothing, and never merges records; that is `join`'s alone.
//!
//! Invariants:
//! - A read and a write quorum of the same owners meet: each is more than half of them.
//! - A tally's verdict is a function of the set of answers, not of their order or number.
//! - A verdict of [`Verdict::Reached`] is never taken back.

mod conflict_policy;
mod consistency;
mod resolve;
mod tally;

pub use conflict_policy::{ConflictPolicy, UnknownConflictPolicy};
pub use consistency::{Consistency, UnknownConsistency};
pub use resolve::{Resolution, resolve};
pub use tally::{MAX_POSITIONS, Quorum, Quorums, Tally, Verdict};
