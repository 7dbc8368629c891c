//! Faults that take more than one step: what goes on between a fault's beginning and its end.
//!
//! Each is a task of its own that looks, after every pause, whether its fault still goes on.

use std::time::Duration;

use crate::adapters::pause;
use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::world::Fault;

/// Looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The fault of step `index` has begun: does what goes on until it ends.
pub fn goes_on(cluster: &Cluster, index: usize, fault: &Fault) {
    let cluster = cluster.clone();
    match fault.clone() {
        Fault::CrashLoop { who, every_ms } => {
            drop(madsim::task::spawn(crash_loop(
                cluster, index, who, every_ms,
            )));
        }
        Fault::RollingRestart { pause_ms } => {
            drop(madsim::task::spawn(rolling_restart(
                cluster, index, pause_ms,
            )));
        }
        Fault::CrashOn { who, peer, count } => {
            let trap = cluster.faults.trap(index, who, peer, count);
            drop(madsim::task::spawn(async move {
                if trap.await.is_ok() {
                    cluster.crash(who);
                }
            }));
        }
        _ => {}
    }
}

async fn crash_loop(cluster: Cluster, index: usize, who: Endpoint, every_ms: u64) {
    while cluster.faults.goes_on(index) {
        cluster.crash(who);
        pause(LOOK_AGAIN).await;
        cluster.start(who);
        pause(Duration::from_millis(every_ms)).await;
    }
}

async fn rolling_restart(cluster: Cluster, index: usize, pause_ms: u64) {
    for who in cluster.processes() {
        if !cluster.faults.goes_on(index) {
            return;
        }
        cluster.stop(who).await;
        cluster.start(who);
        while cluster.faults.goes_on(index) && !cluster.serves(who) {
            pause(LOOK_AGAIN).await;
        }
        pause(Duration::from_millis(pause_ms)).await;
    }
}
