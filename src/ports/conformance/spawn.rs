//! What every [`Spawn`] does: run tasks side by side, whether or not anybody waits for them.

use futures::channel::oneshot;

use super::within;
use crate::ports::{Clock, Spawn};

/// Panics unless `spawn` keeps to [`Spawn`].
pub async fn spawn(spawn: &impl Spawn, clock: &impl Clock) {
    runs_without_being_waited_for(spawn, clock).await;
    tasks_do_not_wait_for_each_other(spawn, clock).await;
    outlives_the_spawner(spawn, clock).await;
    what_is_kept_runs_as_well(spawn, clock).await;
}

async fn runs_without_being_waited_for(spawn: &impl Spawn, clock: &impl Clock) {
    let (done, answer) = oneshot::channel();
    spawn.spawn("conformance: answers", async move {
        let _ = done.send(7);
    });
    assert_eq!(within(clock, "a task's answer", answer).await, Ok(7));
}

async fn tasks_do_not_wait_for_each_other(spawn: &impl Spawn, clock: &impl Clock) {
    let (to_second, from_first) = oneshot::channel();
    let (to_first, from_second) = oneshot::channel();
    let (done, answer) = oneshot::channel();
    let (_keep, never) = oneshot::channel::<()>();
    spawn.spawn("conformance: waits until the suite ends", async move {
        let _ = never.await;
    });
    spawn.spawn("conformance: first", async move {
        let _ = to_second.send(());
        let _ = done.send(from_second.await);
    });
    spawn.spawn("conformance: second", async move {
        if from_first.await.is_ok() {
            let _ = to_first.send(());
        }
    });
    assert_eq!(
        within(clock, "two tasks that wait for each other", answer).await,
        Ok(Ok(()))
    );
}

async fn outlives_the_spawner(spawn: &impl Spawn, clock: &impl Clock) {
    let (go, gone) = oneshot::channel::<()>();
    let (done, answer) = oneshot::channel();
    let copy = spawn.clone();
    copy.spawn("conformance: outlives", async move {
        let _ = done.send(gone.await);
    });
    drop(copy);
    let _ = go.send(());
    assert_eq!(
        within(clock, "a task whose spawner is gone", answer).await,
        Ok(Ok(()))
    );
}

async fn what_is_kept_runs_as_well(spawn: &impl Spawn, clock: &impl Clock) {
    let (go, gone) = oneshot::channel::<()>();
    let (done, answer) = oneshot::channel();
    spawn.keep("conformance: kept until told", async move {
        let _ = gone.await;
        let _ = done.send(7);
    });
    let _ = go.send(());
    assert_eq!(within(clock, "a kept task's answer", answer).await, Ok(7));
}
