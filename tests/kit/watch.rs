//! The end of a test program that hangs: it fails within minutes, with what its servers wrote.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::log::Log;

/// A test program that takes longer hangs, unless it said before that it takes longer.
const LIMIT: Duration = Duration::from_secs(8 * 60);

struct Watch {
    began: Instant,
    limit: Duration,
    /// Living servers, by process id: what they are, and what they wrote.
    servers: BTreeMap<i32, (String, Arc<Log>)>,
}

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Watches this process from now on. Every [`Server`](super::Server) sees to it; a test without one calls it.
pub fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        watched(|_| ());
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                end_if_over();
            }
        });
    });
}

/// Says that what comes takes that long by itself, as tests do that a person asked to be long.
pub fn may_take(time: Duration) {
    begin();
    watched(|watch| watch.limit = LIMIT + time);
}

/// Gives this process so little, to see it end.
pub fn may_not_take(time: Duration) {
    begin();
    watched(|watch| watch.limit = time);
}

/// Shows this server's log if the test program hangs, and kills it, stopped or not.
pub fn add(process: Pid, what: &str, log: Arc<Log>) {
    begin();
    watched(|watch| {
        let server = (what.to_owned(), log);
        watch.servers.insert(process.as_raw_pid(), server)
    });
}

/// It has ended.
pub fn remove(process: Pid) {
    watched(|watch| watch.servers.remove(&process.as_raw_pid()));
}

fn watched<T>(act: impl FnOnce(&mut Watch) -> T) -> T {
    let mut watch: MutexGuard<Option<Watch>> = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    act(watch.get_or_insert_with(|| Watch {
        began: Instant::now(),
        limit: LIMIT,
        servers: BTreeMap::new(),
    }))
}

fn end_if_over() {
    watched(|watch| {
        if watch.began.elapsed() < watch.limit {
            return;
        }
        // Not `eprintln`: that is kept for a test that fails, and this one never will.
        let mut out = std::io::stderr();
        let _ = writeln!(out, "this test program hangs: {:?} are over", watch.limit);
        for (process, (what, log)) in &watch.servers {
            let _ = writeln!(
                out,
                "--- {what}, which is still there, wrote:\n{}",
                log.end()
            );
            if let Some(process) = Pid::from_raw(*process) {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        std::process::exit(101);
    });
}
