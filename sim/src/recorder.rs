//! What a run's page is made of: every call, fault, life and stored record, with its time, as values. What the page
//! looks like is `page`'s.
//!
//! It records only when told to ([`Recorder::start`]), and nothing in the world can ask it anything, so a run that is
//! recorded is the same run: neither its text nor its fingerprint differ.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use madsim::time::TimeHandle;

use crate::describe::Said;
use crate::endpoint::Endpoint;
use crate::op::{OpId, Time};
use crate::world::Fault;

/// Writes down what happens, if anybody wants a page of it. Copies write to one log.
#[derive(Clone)]
pub struct Recorder {
    time: TimeHandle,
    on: Arc<AtomicBool>,
    log: Arc<Mutex<Log>>,
}

/// All that was recorded, each list in the order of its times.
#[derive(Clone, Default, Debug)]
pub struct Log {
    /// Requests and their answers.
    pub calls: Vec<Call>,
    /// Faults: which, since when, until when.
    pub faults: Vec<(Fault, Time, Option<Time>)>,
    /// What became of processes.
    pub lives: Vec<(Endpoint, Time, Life)>,
    /// What changed on disks, as the process sees them: the record's name and its new encoding, if any.
    pub stored: Vec<(Endpoint, Time, Bytes, Option<Bytes>)>,
    /// Operations that their clients gave up on.
    pub given_up: Vec<(OpId, Time)>,
    /// Parts of the run, and when each begins.
    pub phases: Vec<(&'static str, Time)>,
    /// Which fault of the world is which of `faults`.
    open_faults: BTreeMap<usize, usize>,
    /// What each disk shows.
    shown: BTreeMap<Endpoint, BTreeMap<Bytes, Bytes>>,
}

/// A turn in a process's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// It has been started.
    Starts,
    /// It answers requests.
    Serves,
    /// It is gone.
    Ends,
}

/// A request, and what came back.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks.
    pub from: Endpoint,
    /// Who is asked.
    pub to: Endpoint,
    /// What.
    pub request: Said,
    /// When it was sent.
    pub sent: Time,
    /// Each time it arrived.
    pub arrivals: Vec<Arrival>,
    /// What became of the request, if it did not arrive; when.
    pub failed: Option<(Fate, Time)>,
    /// What became of the answer, and when.
    pub answer: Option<(Fate, Time)>,
}

/// A request at its receiver.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Time,
    /// What it was answered, and when; nothing if the receiver died over it.
    pub answered: Option<(Said, Time)>,
}

/// What became of a request or an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It got lost.
    Lost,
    /// The connection was refused.
    Refused,
    /// No process was there.
    Nobody,
    /// The receiver died over it, and the sender saw the connection break.
    Broken,
    /// The receiver died over it, and the sender was not told.
    Silent,
    /// It came back.
    Received,
    /// It came back to somebody who waited no longer.
    Unheard,
}

/// A call in the log; none while nothing is recorded.
#[derive(Clone, Copy, Default, Debug)]
pub struct CallId(Option<u32>);

/// One arrival of a call.
#[derive(Clone, Copy, Default, Debug)]
pub struct ArrivalId(CallId, usize);

impl Recorder {
    /// Records nothing yet.
    #[must_use]
    pub fn new(time: TimeHandle) -> Self {
        let (on, log) = Default::default();
        Self { time, on, log }
    }

    /// Records from now on.
    pub fn start(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// What was recorded, if it was told to.
    #[must_use]
    pub fn log(&self) -> Option<Log> {
        self.is_on().then(|| self.lock().clone())
    }

    /// A request is sent.
    pub fn call(&self, from: Endpoint, to: Endpoint, request: impl FnOnce() -> Said) -> CallId {
        if !self.is_on() {
            return CallId(None);
        }
        let (request, sent) = (request(), self.now());
        let calls = &mut self.lock().calls;
        let id = u32::try_from(calls.len()).ok();
        calls.push(Call {
            from,
            to,
            request,
            sent,
            arrivals: Vec::new(),
            failed: None,
            answer: None,
        });
        CallId(id)
    }

    /// A request arrives.
    #[must_use]
    pub fn arrived(&self, id: CallId) -> ArrivalId {
        let index = self.with(id, |call, at| {
            let answered = None;
            call.arrivals.push(Arrival { at, answered });
            call.arrivals.len() - 1
        });
        ArrivalId(id, index.unwrap_or_default())
    }

    /// A request that arrived is answered.
    pub fn answered(&self, arrival: ArrivalId, answer: impl FnOnce() -> Said) {
        let ArrivalId(id, index) = arrival;
        self.with(id, |call, now| {
            if let Some(arrival) = call.arrivals.get_mut(index) {
                arrival.answered = Some((answer(), now));
            }
        });
    }

    /// A request does not arrive.
    pub fn failed(&self, id: CallId, fate: Fate) {
        self.with(id, |call, now| call.failed = Some((fate, now)));
    }

    /// An answer has come to its end.
    pub fn returned(&self, id: CallId, fate: Fate) {
        self.with(id, |call, now| call.answer = Some((fate, now)));
    }

    /// The fault of step `index` begins.
    pub fn fault_begins(&self, index: usize, fault: &Fault) {
        if self.is_on() {
            let now = self.now();
            let log = &mut *self.lock();
            log.open_faults.insert(index, log.faults.len());
            log.faults.push((fault.clone(), now, None));
        }
    }

    /// The fault of step `index` ends.
    pub fn fault_ends(&self, index: usize) {
        let now = self.now();
        let log = &mut *self.lock();
        if let Some(place) = log.open_faults.remove(&index) {
            log.faults[place].2 = Some(now);
        }
    }

    /// A process's life takes a turn.
    pub fn life(&self, who: Endpoint, life: Life) {
        if self.is_on() {
            let now = self.now();
            self.lock().lives.push((who, now, life));
        }
    }

    /// A disk shows another value.
    pub fn stored(&self, who: Endpoint, key: &Bytes, value: Option<&Bytes>) {
        if self.is_on() {
            let now = self.now();
            self.lock().store(who, now, key, value);
        }
    }

    /// A disk shows exactly these records, after a loss.
    pub fn shows(&self, who: Endpoint, records: Option<&BTreeMap<Bytes, Bytes>>) {
        if self.is_on() {
            let now = self.now();
            let log = &mut *self.lock();
            let old = log.shown.get(&who).cloned().unwrap_or_default();
            let none = BTreeMap::new();
            let records = records.unwrap_or(&none);
            for key in old.keys().filter(|key| !records.contains_key(*key)) {
                log.store(who, now, key, None);
            }
            for (key, value) in records {
                log.store(who, now, key, Some(value));
            }
        }
    }

    /// A client waits no longer.
    pub fn gave_up(&self, op: OpId) {
        if self.is_on() {
            let now = self.now();
            self.lock().given_up.push((op, now));
        }
    }

    /// A part of the run begins.
    pub fn phase(&self, name: &'static str) {
        if self.is_on() {
            let now = self.now();
            self.lock().phases.push((name, now));
        }
    }

    fn with<T>(&self, id: CallId, change: impl FnOnce(&mut Call, Time) -> T) -> Option<T> {
        let index = id.0? as usize;
        let now = self.now();
        let log = &mut *self.lock();
        log.calls.get_mut(index).map(|call| change(call, now))
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn now(&self) -> Time {
        u64::try_from(self.time.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn store(&mut self, who: Endpoint, at: Time, key: &Bytes, value: Option<&Bytes>) {
        let shown = self.shown.entry(who).or_default();
        let old = match value {
            Some(value) => shown.insert(key.clone(), value.clone()),
            None => shown.remove(key),
        };
        if old.as_ref() != value {
            self.stored.push((who, at, key.clone(), value.cloned()));
        }
    }
}
