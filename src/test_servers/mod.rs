//! Real servers for tests: private instances of PostgreSQL and Redis, on free ports, in temporary folders.
//!
//! The tests of one binary share one of each ([`postgres`], [`redis`]); who wants to stop, hold or kill a server starts
//! one of its own. Whatever becomes of the tests (a panic, kill -9), the servers and their folders go with their
//! process: a shell beside each waits for the end of a pipe that only this process holds.
//!
//! Between a server and who asks it there can be a [`Proxy`], which loses what is said.
//!
//! What this is not: a way to skip a test. Where a server can't be started, the test fails and says what is missing.

mod certificates;
mod guard;
mod postgres;
mod proxy;
mod redis;

pub use postgres::{Postgres, postgres};
pub use proxy::{Fate, Proxy};
pub use redis::{Redis, redis};
