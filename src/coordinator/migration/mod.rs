//! Changes of owners: what people ask for, and what carries it out.
//!
//! - [`admin`]: asks for a change, cancels it, tells how far it has come;
//! - [`forecast`]: what a change would move, before it is begun;
//! - [`progress`]: how it goes on, in numbers;
//! - [`lead`]: one coordinator at a time carries out the change that is under way, by a lease; any other one goes on
//!   where it stopped, since all that matters is in the metadata store and at the storage nodes. What it does:
//!   [`begin`] and end a change, [`amend`] it when a node is given up half way, [`advance`] it turn by [`turn`]: decide
//!   what a partition needs for its next step ([`steps`]), [`copy`] what its owners hold, and [`clean`] what is left of
//!   old copies, of as many partitions at a time as get in nobody's way ([`window`]); keep a [`memory`] of it, and
//!   [`notes`] for who leads next and for people;
//! - [`stored`], [`refused`]: what the metadata store has of changes, and what people are told of one that can't be.

mod admin;
mod advance;
mod amend;
mod begin;
mod clean;
mod copy;
mod forecast;
mod lead;
mod memory;
mod notes;
mod progress;
mod refused;
mod steps;
mod stored;
mod turn;
mod window;

pub(super) use lead::Leader;

pub use admin::MigrationView;
pub(super) use admin::after_all;
pub use forecast::{Forecast, NodeForecast};
pub use progress::{MigrationBoard, MigrationGauges};
pub(super) use refused::refused;
pub(super) use stored::KEPT;
