//! The ports, carried out by the simulation: what goes wrong in the world goes wrong here.

mod clock;
mod disk;
mod idempotency;
mod link;
mod metadata;
mod older;
mod process;
mod room;
mod transport;

pub use clock::{SimClock, SteadyClock, WallClock};
pub use disk::{Disk, Loss, Removal, SimDisk};
pub use idempotency::{ClaimsHome, SimIdempotency};
pub use link::StoreLink;
pub use metadata::{MetadataHome, SimMetadata, TenantLookup};
pub use process::{SimRandom, SimSpawn};
pub use room::TransportRoom;
pub use transport::{CoordinatorSide, Services, SimTransport, StorageSide};

#[cfg(test)]
mod stores_test;
