//! What all listeners have in common: gRPC and HTTP of a coordinator, gRPC of a storage node, and metrics.
//!
//! What it is: connections have [places](super::places), requests' bodies a time and a [`budget`] of bytes
//! ([`intake`]), streams pay for the message that is coming in ([`metered`]), replies leave in pieces and in time
//! ([`reply`]), and one loop serves all of it ([`serve`]). What it is not: it knows no method and no route. What it
//! can't serve is answered in the words of the front it serves for.
//!
//! Invariants: everything that whoever reaches a port can make a process hold is bounded in number, in bytes and in
//! time; whoever is honest is served beside whoever is not.

mod budget;
mod intake;
mod metered;
mod reply;
mod serve;

pub use super::places::{AtWork, Conduct, Ending, Patience, Place, PlaceBounds, Places};
pub use budget::{Arriving, Budget, Charge, Held, NoRoom, Share};
pub use intake::{BodyBounds, Framing, PROBE_BYTES_MAX, Segments, Unread, collect, whole};
pub use metered::Metered;
pub use serve::{Bounds, Http2Bounds, Manners, RequestConduct, SPARE_PLACES, serve};

#[cfg(test)]
mod serve_test;
