//! What goes wrong, step by step: a world's faults begin and end at their times, or with what happens.
//!
//! What goes on between a fault's beginning and its end is a task of its own that looks, after every pause, whether its
//! fault still goes on.

use std::time::Duration;

use futures::FutureExt;
use madsim::task::JoinHandle;
use pairdb::ports::Release;

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::operator;
use crate::pause::pause;
use crate::world::Fault;

/// Looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Lets the world's faults begin and end. All have ended when it returns.
pub async fn let_loose(cluster: Cluster) {
    let steps = cluster.world.faults.iter().cloned().enumerate();
    let tasks: Vec<JoinHandle<()>> = steps
        .map(|(index, step)| {
            let cluster = cluster.clone();
            madsim::task::spawn(async move {
                if !cluster.story.reach(step.after.as_ref(), 0).await {
                    let what = format!("fault {index} never began: {:?}", step.fault);
                    return cluster.story.complain(None, what);
                }
                calm_or(&cluster, step.at_ms).await;
                if cluster.is_calm() {
                    return;
                }
                let fault = &step.fault;
                cluster
                    .history
                    .note(format_args!("fault {index} begins: {fault:?}"));
                cluster.history.recorder().fault_begins(index, fault);
                cluster.weather.begins(index);
                begin(&cluster, index, fault).await;
                let lasts = calm_or(&cluster, step.for_ms);
                match step
                    .until
                    .as_ref()
                    .map(|until| cluster.story.wait_for(until))
                {
                    None => lasts.await,
                    Some(None) => {}
                    Some(Some(ends)) => {
                        let ends = ends.map(drop);
                        futures::future::select(ends, Box::pin(lasts)).await;
                    }
                }
                end(&cluster, index, fault);
                cluster.history.recorder().fault_ends(index);
                if !matches!(fault, Fault::CorruptRecord { .. }) {
                    cluster.weather.ends(index); // what is damaged stays so until it is replaced
                }
                cluster.history.note(format_args!("fault {index} ends"));
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
}

async fn calm_or(cluster: &Cluster, after_ms: u64) {
    let until = cluster.history.now() + after_ms * 1_000_000;
    while cluster.history.now() < until && !cluster.is_calm() {
        let left = Duration::from_nanos(until - cluster.history.now());
        pause(left.min(LOOK_AGAIN)).await;
    }
}

async fn begin(cluster: &Cluster, index: usize, fault: &Fault) {
    match fault {
        Fault::Crash { who } => cluster.crash(*who),
        Fault::PowerFailure => {
            for who in cluster.world.storage() {
                cluster.crash(who);
            }
        }
        Fault::Restart { who } => cluster.stop(*who).await,
        Fault::Upgrade { who } => cluster.install(*who, Release::Current).await,
        Fault::GoBack { who } => {
            let before = Release::BeforeChangesOfOwners;
            cluster.install(*who, before).await;
        }
        Fault::LoseDisk { who } => cluster.lose_disk(*who),
        Fault::DamagedJournal { who, commits } => cluster.damage_journal(*who, *commits),
        Fault::OldDisk { who } => cluster.copy_disk(*who),
        Fault::LoseDigests { who } => cluster.lose_digests(*who),
        Fault::Pause { who } => cluster.set_paused(*who, true),
        Fault::StandingClock { who, .. } => cluster.stop_clock(*who),
        Fault::ClockJump { who, by_ms } => cluster.jump_clock(*who, *by_ms),
        Fault::ClockDrift { who, ppm } => cluster.drift_clock(*who, *ppm),
        Fault::NewEpoch => cluster.next_epoch().await,
        Fault::MadeUpEpoch { who } => cluster.ask_under_no_epoch(*who),
        Fault::WrongEpoch { who } => cluster.take_on_no_epoch(*who),
        Fault::CorruptRecord { who } => cluster.corrupt_record(*who, index),
        Fault::Change(plan) => operator::ask(cluster, plan).await,
        Fault::CancelChange => operator::cancel(cluster).await,
        Fault::CrashLeader => cluster.crash_leader(index),
        Fault::ForgetClaims => cluster.forget_claims(),
        Fault::MetadataFailover { lost_ms } => {
            cluster
                .fail_over_metadata(Duration::from_millis(*lost_ms))
                .await;
        }
        lasting => {
            if let Fault::FailingDisk { who } = lasting {
                cluster.weather.is_gone(*who); // until it says that it is back
            }
            cluster.faults.begin(index, lasting.clone());
            goes_on(cluster, index, lasting);
        }
    }
}

fn end(cluster: &Cluster, index: usize, fault: &Fault) {
    match fault {
        Fault::Crash { who }
        | Fault::Restart { who }
        | Fault::Upgrade { who }
        | Fault::GoBack { who }
        | Fault::LoseDisk { who }
        | Fault::DamagedJournal { who, .. }
        | Fault::LoseDigests { who } => {
            cluster.start(*who);
        }
        Fault::PowerFailure => {
            for who in cluster.world.storage() {
                cluster.start(who);
            }
        }
        Fault::OldDisk { who } => cluster.put_old_disk(*who),
        Fault::Pause { who } => cluster.set_paused(*who, false),
        Fault::StandingClock { who, jumps } => cluster.let_clock_go_on(*who, *jumps),
        Fault::ClockJump { who, by_ms } => cluster.jump_clock(*who, -by_ms),
        Fault::ClockDrift { who, ppm } => cluster.drift_clock(*who, -ppm),
        Fault::CorruptRecord { .. } | Fault::Change(_) | Fault::CancelChange => {}
        Fault::CrashLeader => cluster.start_leader(index),
        Fault::CrashOn { who, .. } => {
            cluster.faults.end(index);
            cluster.start(*who);
        }
        Fault::WrongEpoch { who } => {
            drop(madsim::task::spawn(cluster.clone().set_epoch_back(*who)));
        }
        _ => cluster.faults.end(index),
    }
}

/// The fault of step `index` has begun: does what goes on until it ends.
fn goes_on(cluster: &Cluster, index: usize, fault: &Fault) {
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
