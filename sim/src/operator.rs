//! What a world's operator does: asks for changes of owners, and cancels them.
//!
//! They ask a coordinator as any client does, and the next one where nobody answers or a store does not; what they
//! asked and were told is written down. An answer that is lost is asked for again, so a change may be asked for twice:
//! the second one finds that everything is as it is to be, or fails and says why.

use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use pairdb::coordinator::{Coordinator, CoordinatorError, MigrationView};
use pairdb::ports::Migration;

use crate::adapters::CoordinatorSide;
use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::pause::pause;
use crate::world::{ChangePlan, Fault};

/// How often they ask.
const TRIES_MAX: usize = 30;
/// And where somebody has to be upgraded first.
const TRIES_FOR_UPGRADE_MAX: usize = 300;
/// How long they wait before they ask once more.
const PAUSE: Duration = Duration::from_millis(200);
/// How long they wait for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// More migrations than a world has.
const MIGRATIONS: usize = 1_000;

/// A coordinator at work on the answer.
type Answering = BoxFuture<'static, Result<Migration, CoordinatorError>>;

/// Asks for a change.
pub async fn ask(cluster: &Cluster, plan: &ChangePlan) {
    let request = cluster.world.request(plan);
    for who in plan.joining().filter(|_| !plan.keep_disks) {
        prepare(cluster, who);
    }
    let asked = |coordinator: Coordinator<CoordinatorSide>| {
        let request = request.clone();
        async move { coordinator.admin().request_change(request).await }.boxed()
    };
    if persist(cluster, "asks for a change", asked).await {
        for who in plan
            .given_up()
            .filter(|who| is_down_for_good(cluster, *who))
        {
            cluster.abandon(who);
        }
    }
}

/// Whether a world has a node go down and not come back while anything is wrong.
fn is_down_for_good(cluster: &Cluster, who: Endpoint) -> bool {
    let mut faults = cluster.world.faults.iter();
    faults.any(|step| {
        let is_crash = matches!(step.fault, Fault::Crash { who: crashed } if crashed == who);
        is_crash && step.until.is_none() && step.for_ms >= cluster.world.chaos_ms
    })
}

/// Cancels the oldest change that has not ended, unless it is that a lost node is given up: nobody takes that back.
pub async fn cancel(cluster: &Cluster) {
    let cancelled = |coordinator| cancel_oldest(coordinator).boxed();
    persist(cluster, "cancels the oldest change", cancelled).await;
}

async fn cancel_oldest(
    coordinator: Coordinator<CoordinatorSide>,
) -> Result<Migration, CoordinatorError> {
    let migrations = coordinator.admin().migrations(MIGRATIONS).await?;
    let open = |view: &&MigrationView| view.migration.status.is_open();
    let oldest = migrations.iter().rfind(open);
    let gives_up = |view: &&MigrationView| {
        let mut leavers = view.migration.request.leavers();
        leavers.any(|(_, force)| force)
    };
    let oldest = oldest.filter(|view| !gives_up(view));
    let nothing = || CoordinatorError::NodeInUse("there is nothing to cancel".to_owned());
    let id = oldest.ok_or_else(nothing)?.migration.id.clone();
    coordinator.admin().cancel_migration(id.as_str()).await
}

/// Gives a node that is to join, and was a member before, an empty disk. (Of a spare that never was one nothing has to
/// be taken.)
fn prepare(cluster: &Cluster, who: Endpoint) {
    let reigns = cluster.reigns();
    let is_member = cluster.reign().members().contains(&who);
    let was_member = reigns.iter().any(|reign| reign.members().contains(&who));
    if was_member && !is_member {
        cluster.begin_anew(who);
    }
}

/// Asks one coordinator after the other, until one gives an answer that is final, or all this took too long. Returns
/// whether it was granted.
async fn persist(
    cluster: &Cluster,
    what: &str,
    asked: impl Fn(Coordinator<CoordinatorSide>) -> Answering,
) -> bool {
    let coordinators = cluster.world.coordinators();
    let mut waits_for_upgrade = false;
    for turn in 0..TRIES_FOR_UPGRADE_MAX {
        if turn >= TRIES_MAX && !waits_for_upgrade {
            return false;
        }
        let who = coordinators[turn % coordinators.len()];
        if let Some((node, coordinator)) = cluster.coordinator(who) {
            let (answer, answered) = oneshot::channel();
            let question = asked(coordinator);
            drop(node.spawn(async move { drop(answer.send(question.await)) }));
            let mut patience = Box::pin(pause(PATIENCE).fuse());
            let mut answered = answered.fuse();
            let answer = futures::select_biased! {
                answer = answered => answer.ok(),
                () = patience => None,
            };
            let told = match &answer {
                Some(Ok(migration)) => format!("{} is {}", migration.id, migration.status),
                Some(Err(error)) => error.to_string(),
                None => "no answer".to_owned(),
            };
            let history = &cluster.history;
            history.note(format_args!("the operator {what} -> {who}: {told}"));
            waits_for_upgrade = matches!(answer, Some(Err(CoordinatorError::OlderVersion(_))));
            match answer {
                Some(Ok(_)) => return true,
                Some(Err(error)) if is_final(&error) => return false,
                Some(Err(_)) | None => {}
            }
        }
        if cluster.is_calm() {
            return false;
        }
        pause(PAUSE).await;
    }
    false
}

/// Whether it is of no use to ask again.
const fn is_final(error: &CoordinatorError) -> bool {
    !matches!(
        error,
        CoordinatorError::Store(_)
            | CoordinatorError::Stopping
            | CoordinatorError::Overloaded(_)
            | CoordinatorError::OlderVersion(_)
    )
}
