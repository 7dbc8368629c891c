//! Tasks without a runtime: they run when they are told to, in the order in which they were woken.
//!
//! So a test sees everything that follows from what it did, before time goes on, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::door::locked;
use crate::adapters::memory::ManualClock;
use crate::ports::Spawn;

/// Where tasks wait. Copies share them; each belongs to the group of the copy that spawned it.
#[derive(Clone, Default)]
pub(crate) struct ManualTasks {
    group: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    groups: u64,
    spawned: u64,
    tasks: BTreeMap<u64, Task>,
    woken: Arc<Mutex<VecDeque<u64>>>,
}

struct Task {
    group: u64,
    future: BoxFuture<'static, ()>,
    alarm: Arc<Alarm>,
}

/// Puts a task among those to be run, once however often it is woken.
struct Alarm {
    id: u64,
    rings: AtomicBool,
    woken: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if !self.rings.swap(true, Ordering::SeqCst) {
            locked(&self.woken).push_back(self.id);
        }
    }
}

/// Whether the test itself has something to do.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Spawn for ManualTasks {
    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = locked(&self.state);
        state.spawned += 1;
        let id = state.spawned;
        let alarm = Arc::new(Alarm {
            id,
            rings: AtomicBool::new(false),
            woken: Arc::clone(&state.woken),
        });
        Arc::clone(&alarm).wake();
        let task = Task {
            group: self.group,
            future: task.boxed(),
            alarm,
        };
        state.tasks.insert(id, task);
    }

    // A panic ends the test, whatever it was in.
    fn keep(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, task);
    }
}

impl ManualTasks {
    /// The same, for tasks that are lost on their own.
    pub(crate) fn group(&self) -> Self {
        let mut state = locked(&self.state);
        state.groups += 1;
        Self {
            group: state.groups,
            state: Arc::clone(&self.state),
        }
    }

    /// The tasks of this group end here and now, as when a process dies.
    pub(crate) fn lose(&self) {
        self.lose_if(|task| task.group == self.group);
    }

    /// All tasks end here and now.
    pub(crate) fn lose_all(&self) {
        self.lose_if(|_| true);
    }

    fn lose_if(&self, is_lost: impl Fn(&Task) -> bool) {
        let mut state = locked(&self.state);
        let all = std::mem::take(&mut state.tasks);
        let (lost, kept) = all.into_iter().partition(|(_, task)| is_lost(task));
        state.tasks = kept;
        drop(state);
        drop::<BTreeMap<_, _>>(lost); // not under the lock: with a task may go what wakes another one
    }

    /// Runs `future` to its end, time going on whenever nothing else can.
    pub(crate) fn run<T>(&self, clock: &ManualClock, future: impl Future<Output = T>) -> T {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        for _ in 0..1_000_000 {
            loop {
                if flag.0.swap(false, Ordering::SeqCst)
                    && let Poll::Ready(value) = future.as_mut().poll(&mut context)
                {
                    return value;
                }
                if !self.run_one() && !flag.0.load(Ordering::SeqCst) {
                    break;
                }
            }
            clock.advance(Duration::from_millis(1));
        }
        panic!("nothing came of it in a thousand seconds");
    }

    /// Runs the task that was woken first. False: none was.
    fn run_one(&self) -> bool {
        let mut state = locked(&self.state);
        let Some(id) = locked(&state.woken).pop_front() else {
            return false;
        };
        let Some(mut task) = state.tasks.remove(&id) else {
            return true; // it was lost
        };
        drop(state);
        task.alarm.rings.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&task.alarm));
        let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            locked(&self.state).tasks.insert(id, task);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Clock;

    #[test]
    fn what_follows_happens_before_time_goes_on_and_lost_tasks_do_nothing() {
        let (clock, tasks) = (ManualClock::default(), ManualTasks::default());
        let others = tasks.group();
        let done = Arc::new(Mutex::new(Vec::new()));
        for (name, tasks) in [("kept", &tasks), ("lost", &others)] {
            let (done, sleep) = (Arc::clone(&done), clock.sleep(Duration::from_millis(5)));
            tasks.spawn("test", async move {
                locked(&done).push("begun");
                sleep.await;
                locked(&done).push(name);
            });
        }
        tasks.run(&clock, clock.sleep(Duration::from_millis(4)));
        assert_eq!(*locked(&done), ["begun", "begun"]);
        others.lose();
        tasks.run(&clock, clock.sleep(Duration::from_millis(2)));
        assert_eq!(*locked(&done), ["begun", "begun", "kept"]);
        assert_eq!(clock.now().0, 6_000_000);
    }
}
