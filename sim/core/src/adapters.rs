//! The adapters that the simulation's own are made of.

#[path = "../../../src/adapters/memory/mod.rs"]
pub mod memory;
#[path = "../../../src/adapters/watched.rs"]
mod watched;
