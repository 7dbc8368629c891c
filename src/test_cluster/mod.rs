//! Storage nodes for the tests of coordinators and of the front: the real replica, on engines in memory, behind the
//! transport in memory.
//!
//! What a test decides is what goes wrong ([`Mood`]), and for tests without a runtime also when time goes on and which
//! tasks are lost ([`ManualTasks`]). What a node answers it decides itself, so a test can't expect what no node would
//! say.
//!
//! What this is not: the simulation. Nothing here is drawn by chance, and every fault is one line of the test that has
//! it.

mod door;
mod nodes;
mod tasks;

pub(crate) use door::{Mood, TestTransport};
pub(crate) use nodes::{TestNodes, TestRandom};
pub(crate) use tasks::ManualTasks;
