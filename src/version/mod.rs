//! Versions: who wrote what, what each write knew of, and how two replicas' records become one.
//!
//! Pure values: no I/O, no clock, no randomness. A replica that accepts a write gives it a [`Dot`], under the [`Stamp`]
//! that was proposed; everything else only ever [joins](Record::join). Nothing here knows of tenants, keys, consistency
//! levels or conflict policies.
//!
//! | type | what it is |
//! |---|---|
//! | [`Actor`] | one incarnation of a replica |
//! | [`Dot`] | the name of one write, for ever |
//! | [`VersionVector`] | a set of dots: for each actor all up to a counter |
//! | [`Stamp`], [`HybridClock`] | a hybrid logical timestamp and its source |
//! | [`Rank`] | a write's place among the writes of its key: stamp, then write id |
//! | [`Version`] | one write: dot, write id, stamp, content |
//! | [`Record`] | all that a replica stores for one key; a join-semilattice |
//! | [`Context`] | what a client was shown, as opaque bytes bound to one key |
//!
//! Papers: Preguiça, Baquero, Almeida, Fonte, Gonçalves: *Dotted Version Vectors* (2012). Kulkarni, Demirbas, Madappa,
//! Avva, Leone: *Logical Physical Clocks* (2014). Shapiro, Preguiça, Baquero, Zawirski: *Conflict-free Replicated Data
//! Types* (2011), for why a semilattice converges.

mod actor;
mod codec;
mod context;
mod dot;
mod framing;
mod hybrid_clock;
mod join;
mod overwritten;
mod past_write;
mod rank;
mod record;
mod sibling;
mod stamp;
mod vector;
mod write_id;

#[cfg(test)]
mod codec_test;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod history_test;
#[cfg(test)]
mod hybrid_clock_test;
#[cfg(test)]
mod join_test;
#[cfg(test)]
mod vector_test;

pub use actor::Actor;
pub use context::{Context, ContextError};
pub use dot::Dot;
pub use framing::DecodeError;
pub use hybrid_clock::HybridClock;
pub use overwritten::{BURST, REMEMBERED_FOR, REMEMBERED_MAX, REMEMBERED_MIN};
pub use past_write::Overwritten;
pub use rank::Rank;
pub use record::{MalformedRecord, Record};
pub use sibling::{Content, Version};
pub use stamp::Stamp;
pub use vector::{Causality, VersionVector};
pub use write_id::WriteId;
