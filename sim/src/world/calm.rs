//! Worlds are made calm before one thing is made wrong in them: what fails then, fails for that.

use std::time::Duration;

use super::{NetworkPlan, TimePlan, World};

/// What each request gets: more than anything takes in a calm world.
const TIMEOUT: Duration = Duration::from_secs(4);

impl World {
    /// Takes away faults, changes of owners, upgrades, losses and rare behaviour, and has clients ask for quorums with
    /// room and time for the answers. Clocks stay as they are.
    pub(super) fn calm_down(&mut self) {
        let calm = NetworkPlan::default();
        self.network.lost_request_permille = calm.lost_request_permille;
        self.network.lost_reply_permille = calm.lost_reply_permille;
        self.network.duplicate_permille = calm.duplicate_permille;
        self.network.link_spread_us = calm.link_spread_us;
        self.faults.clear();
        self.spare_nodes = 0;
        self.zones.clear();
        self.older.clear();
        self.buggify.clear();
        self.time = TimePlan::default();
        self.odd.clear();
        self.replica.queue_max = self.replica.queue_max.max(8_192);
        self.replica.batch_max = self.replica.batch_max.max(1_024);
        self.coordinator.in_flight_max = self.coordinator.in_flight_max.max(10_000);
        self.coordinator.write_timeout = TIMEOUT;
        self.coordinator.read_timeout = TIMEOUT;
        for client in &mut self.clients {
            client.timeout_ms = 4_000;
            client.consistency = [0, 1, 0];
        }
    }
}
