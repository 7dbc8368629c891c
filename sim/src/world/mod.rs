//! A world: everything that decides a run, spelled out.
//!
//! A world is drawn from a seed ([`World::draw`]) or read from a scenario file. What it does not spell out (latencies,
//! which key comes next) is drawn from its `seed` while it runs, so one world is one history.

mod ahead;
mod away;
mod buggify;
mod calm;
mod change;
mod changes;
mod draw;
mod draw_faults;
mod draw_room;
mod draw_sizes;
mod draw_time;
mod epochs;
mod event;
mod expect;
mod fault;
mod forgotten;
mod human;
mod lone;
mod outlived;
mod plan;
mod purged;
mod race;
mod refill;
mod request;
mod settings;
mod sizes;
mod step;
mod time;
mod transport;
mod upgrade;
mod wounded;

pub use buggify::BuggifyPlan;
pub use change::{ChangePlan, Replacement, Setting};
pub use event::Event;
pub use expect::Expect;
pub use fault::{FOREVER_MS, Fault, FaultStep, endpoints};
pub use lone::NEVER;
pub use plan::{ClientPlan, ClockPlan, DiskPlan, NetworkPlan, TenantPlan, TimeoutPlan, World};
pub use sizes::SizePlan;
pub use step::{Act, Given, Place, Step};
pub use time::{OddPlan, TimePlan};
pub use transport::TransportPlan;
