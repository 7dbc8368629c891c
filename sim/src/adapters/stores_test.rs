//! The stores' conformance suites, at the other end of the simulated network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use pairdb::placement::{Epoch, Topology};
use pairdb::ports::conformance;

use super::{
    ClaimsHome, MetadataHome, SimClock, SimIdempotency, SimMetadata, StoreLink, WallClock,
};
use crate::endpoint::Endpoint;
use crate::faults::Faults;
use crate::history::History;
use crate::network::Network;
use crate::rng::Rng;
use crate::world::NetworkPlan;

/// Every third message of the store's network overtakes others.
fn link(to: Endpoint, name: &'static str) -> StoreLink {
    let plan = NetworkPlan {
        straggler_permille: 333,
        ..NetworkPlan::default()
    };
    let faults = Faults::new(plan);
    let wire = Handle::current().create_node().name("wire").build();
    StoreLink {
        from: Endpoint::Coordinator(1),
        to,
        name,
        network: Network::new(1, faults.clone(), wire, History::new().recorder().clone()),
        faults,
        rng: Arc::new(Mutex::new(Rng::new(1, name))),
    }
}

fn clock() -> SimClock {
    SimClock::new(WallClock::new(0, 0), 0)
}

#[test]
fn metadata_conforms() {
    Runtime::new().block_on(async {
        let link = link(Endpoint::Metadata, "metadata store");
        let empty = Topology::new(Epoch(0), 64, Vec::new()).expect("an empty topology");
        let fresh = async || {
            let home = MetadataHome::new(Vec::new(), empty.clone(), clock()).await;
            SimMetadata::new(home, link.clone())
        };
        conformance::metadata_store(fresh, &clock()).await;
    });
}

#[test]
fn idempotency_conforms() {
    Runtime::new().block_on(async {
        let link = link(Endpoint::Idempotency, "idempotency store");
        let fresh = async || SimIdempotency::new(ClaimsHome::new(clock()), link.clone());
        let pass = |duration: Duration| crate::pause::pause(duration);
        conformance::idempotency_store(fresh, pass).await;
    });
}
