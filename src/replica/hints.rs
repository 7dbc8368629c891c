//! The hints that this node holds for others: for each target how many, since when, and when to try next.
//!
//! A *hint* says: "that node may lack what is held of this key". It is kept durably beside the record, once for each
//! target and key however often the key is written, and its delivery is a join of the record as it is then. So an
//! outage costs one delivery for each key that was written in it, and repeating one changes nothing.
//!
//! A hint is stored under the target's name and the record's; its value is the wall clock's time when it was left.
//! Under the target's name alone is where the target was last known to be.
//!
//! Here is only the count, in memory, rebuilt when the node opens.
//!
//! Invariants, which [`Hints::validate`] checks:
//! - the hints for a target are kept under its name;
//! - a target that has hints is tried again after the longest pause at the latest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::task::AtomicWaker;

use crate::placement::{Node, NodeId, NodeStatus};
use crate::ports::{HintsReport, Instant, Put, RecordKey, Space, StorageEngine, StorageError};
use crate::sizes::{self, Size};

/// All of it.
pub(super) struct Hints {
    targets: Mutex<BTreeMap<NodeId, TargetHints>>,
    /// Whether there is something new for who delivers.
    news: AtomicBool,
    /// Wakes who delivers.
    pub(super) waker: AtomicWaker,
}

/// The hints for one target.
#[derive(Clone, Debug)]
pub(super) struct TargetHints {
    /// Where it is.
    pub(super) node: Node,
    pub(super) outstanding: u64,
    pub(super) oldest_ms: u64,
    pub(super) rounds: u64,
    /// When to try next.
    pub(super) due: Instant,
    /// How long to wait after the next failure.
    pub(super) pause: Duration,
}

impl Hints {
    /// Counts the hints in the engine. All are due at once.
    pub(super) async fn load(storage: &impl StorageEngine) -> Result<Self, StorageError> {
        let mut targets: BTreeMap<NodeId, TargetHints> = BTreeMap::new();
        let mut from = Bytes::new();
        let page_max = sizes::of(Size::HintsPage);
        loop {
            let page = storage
                .scan(Space::Hints, from.clone(), None, page_max)
                .await?;
            for (key, value) in &page {
                match parse(key) {
                    Some((target, None)) => {
                        if let Some(node) = address(&target, value.clone()) {
                            targets.insert(target, TargetHints::new(node));
                        }
                    }
                    Some((target, Some(_))) => {
                        if let Some(hints) = targets.get_mut(&target) {
                            hints.add(left_ms(value));
                        }
                    }
                    None => {}
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == page_max => from = after(last),
                _ => break,
            }
        }
        Ok(Self {
            targets: Mutex::new(targets),
            news: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// Takes over another count of the same engine's.
    pub(super) fn replace(&self, other: Self) {
        let targets = other.targets.into_inner();
        *self.lock() = targets.unwrap_or_else(PoisonError::into_inner);
        self.wake();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, TargetHints>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the invariants, where no pause is longer than `pause_max`.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self, now: Instant, pause_max: Duration) -> Result<(), &'static str> {
        let targets = self.lock();
        for (target, hints) in targets.iter() {
            match () {
                () if hints.node.id != *target => return Err("hints are kept under another name"),
                () if hints.pause > pause_max => return Err("a pause is longer than the longest"),
                () if hints.outstanding > 0 && hints.due > now + pause_max => {
                    return Err("a target with hints is left alone too long");
                }
                () => {}
            }
        }
        Ok(())
    }

    /// A hint became durable.
    pub(super) fn left(&self, target: &Node, at_ms: u64, first_try: Instant) {
        let mut targets = self.lock();
        let hints = targets
            .entry(target.id.clone())
            .or_insert_with(|| TargetHints::new(target.clone()));
        hints.node = target.clone();
        if hints.outstanding == 0 {
            hints.due = hints.due.max(first_try);
        }
        let first = hints.outstanding == 0;
        hints.add(at_ms);
        drop(targets);
        if first {
            self.wake();
        }
    }

    /// A hint was removed.
    pub(super) fn dropped(&self, target: &NodeId) {
        if let Some(hints) = self.lock().get_mut(target) {
            hints.outstanding = hints.outstanding.saturating_sub(1);
        }
    }

    /// The target is there, and there: try at once.
    pub(super) fn is_back(&self, node: &Node, now: Instant) {
        if let Some(hints) = self.lock().get_mut(&node.id) {
            hints.node = node.clone();
            hints.due = now;
            hints.pause = Duration::ZERO;
        }
        self.wake();
    }

    fn wake(&self) {
        self.news.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether there has been something new since the last call.
    pub(super) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    /// Who has hints.
    pub(super) fn targets(&self) -> Vec<NodeId> {
        let targets = self.lock();
        let hinted = targets.iter().filter(|(_, hints)| hints.outstanding > 0);
        hinted.map(|(target, _)| target.clone()).collect()
    }

    pub(super) fn report(&self) -> Vec<HintsReport> {
        let targets = self.lock();
        let hinted = targets.iter().filter(|(_, hints)| hints.outstanding > 0);
        hinted
            .map(|(target, hints)| HintsReport {
                target: target.clone(),
                outstanding: hints.outstanding,
                oldest_ms: hints.oldest_ms,
                rounds: hints.rounds,
            })
            .collect()
    }
}

impl TargetHints {
    const fn new(node: Node) -> Self {
        Self {
            node,
            outstanding: 0,
            oldest_ms: 0,
            rounds: 0,
            due: Instant(0),
            pause: Duration::ZERO,
        }
    }

    fn add(&mut self, at_ms: u64) {
        self.oldest_ms = match self.outstanding {
            0 => at_ms,
            _ => self.oldest_ms.min(at_ms),
        };
        self.outstanding += 1;
    }
}

/// What a hint is stored under.
pub(super) fn name(target: &NodeId, key: &RecordKey) -> Bytes {
    named(target, key.as_bytes())
}

/// What the hint for a key of these bytes is stored under, or would be.
pub(super) fn named(target: &NodeId, key: &[u8]) -> Bytes {
    let mut bytes = prefix(target);
    bytes.put_slice(key);
    bytes.freeze()
}

/// The names of all hints for a target begin so; this alone is where its address is kept.
pub(super) fn prefix(target: &NodeId) -> BytesMut {
    let name = target.as_str().as_bytes();
    let mut bytes = BytesMut::with_capacity(1 + name.len());
    bytes.put_u8(name.len() as u8); // a NodeId has at most 255 bytes
    bytes.put_slice(name);
    bytes
}

/// What is kept there: whom it is about, and which key, if it is a hint.
pub(super) fn parse(bytes: &Bytes) -> Option<(NodeId, Option<RecordKey>)> {
    let len = usize::from(*bytes.first()?);
    let name = str::from_utf8(bytes.get(1..1 + len)?).ok()?;
    let target = NodeId::new(name).ok()?;
    let key = bytes.slice(1 + len..);
    match key.is_empty() {
        true => Some((target, None)),
        false => Some((target, Some(RecordKey::from_bytes(key).ok()?))),
    }
}

/// The first byte string after this one.
pub(super) fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// When a hint was left.
pub(super) fn left_ms(value: &Bytes) -> u64 {
    value.as_ref().try_get_u64().unwrap_or(0)
}

/// Leaves a hint.
pub(super) fn put(target: &NodeId, key: &RecordKey, at_ms: u64) -> Put {
    Put {
        space: Space::Hints,
        key: name(target, key),
        value: Some(Bytes::copy_from_slice(&at_ms.to_be_bytes())),
    }
}

/// What removes one.
pub(super) fn remove(target: &NodeId, key: &RecordKey) -> Put {
    Put {
        space: Space::Hints,
        key: name(target, key),
        value: None,
    }
}

/// What notes where a target is.
pub(super) fn locate(node: &Node) -> Put {
    let mut value = BytesMut::with_capacity(2 + node.host.len());
    value.put_u16(node.port);
    value.put_slice(node.host.as_bytes());
    Put {
        space: Space::Hints,
        key: prefix(&node.id).freeze(),
        value: Some(value.freeze()),
    }
}

fn address(target: &NodeId, mut value: Bytes) -> Option<Node> {
    let port = value.try_get_u16().ok()?;
    let host = str::from_utf8(&value).ok()?.to_owned();
    Some(Node {
        id: target.clone(),
        host,
        port,
        virtual_nodes: 1,
        status: NodeStatus::Active,
        zone: None,
        seat: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::TenantId;

    /// What makes a sound one unsound.
    type Break = fn(&mut TargetHints);

    #[test]
    fn a_broken_count_is_told_from_a_sound_one() {
        let node = Node {
            id: NodeId::new("node-1").unwrap(),
            host: "h".into(),
            port: 7,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        };
        let (now, second) = (Instant(5_000_000_000), Duration::from_secs(1));
        let check = |breaks: fn(&mut TargetHints)| {
            let mut hints = TargetHints::new(node.clone());
            hints.add(3);
            hints.due = now + second;
            hints.pause = second;
            breaks(&mut hints);
            let hints = Hints {
                targets: Mutex::new([(node.id.clone(), hints)].into()),
                news: AtomicBool::new(false),
                waker: AtomicWaker::new(),
            };
            hints.validate(now, second)
        };
        assert_eq!(check(|_| {}), Ok(()));
        let breaks: [(Break, &str); 3] = [
            (
                |hints| hints.node.id = NodeId::new("node-2").unwrap(),
                "hints are kept under another name",
            ),
            (
                |hints| hints.pause += Duration::from_nanos(1),
                "a pause is longer than the longest",
            ),
            (
                |hints| hints.due = Instant(6_000_000_001),
                "a target with hints is left alone too long",
            ),
        ];
        for (broken_by, why) in breaks {
            assert_eq!(check(broken_by), Err(why));
        }
        let no_hints = check(|hints| {
            hints.due = Instant(6_000_000_001);
            hints.outstanding = 0;
        });
        assert_eq!(no_hints, Ok(()), "there is nothing to try");
    }

    #[test]
    fn hints_are_counted_and_their_target_is_looked_for_where_it_was_last_told_to_be() {
        let hints = Hints {
            targets: Mutex::default(),
            news: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        let id = NodeId::new("node-1").unwrap();
        let at = |host: &str| Node {
            id: id.clone(),
            host: host.into(),
            port: 7,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        };
        let told = || {
            let targets = hints.lock();
            let told = &targets[&id];
            let (due, pause) = (told.due.0, told.pause);
            (
                told.node.host.clone(),
                told.outstanding,
                told.oldest_ms,
                due,
                pause,
            )
        };
        let none = Duration::ZERO;
        hints.left(&at("a"), 30, Instant(7));
        assert!(hints.take_news() && !hints.take_news());
        hints.left(&at("b"), 20, Instant(9));
        assert_eq!(told(), ("b".into(), 2, 20, 7, none));
        assert!(!hints.take_news(), "it is about to be tried");
        hints.lock().get_mut(&id).unwrap().pause = Duration::from_secs(1);
        hints.is_back(&at("c"), Instant(5));
        assert!(hints.take_news());
        assert_eq!(told(), ("c".into(), 2, 20, 5, none));
        assert_eq!(hints.targets(), std::slice::from_ref(&id));
        for _ in 0..3 {
            hints.dropped(&id);
        }
        assert!(hints.targets().is_empty() && hints.report().is_empty());
        hints.left(&at("c"), 40, Instant(11));
        assert_eq!(told(), ("c".into(), 1, 40, 11, none));
    }

    #[test]
    fn hints_and_addresses_are_told_apart() {
        let target = NodeId::new("node-1").unwrap();
        let key = RecordKey::new(PartitionId(3), &TenantId::new("t").unwrap(), "k");
        let hint = name(&target, &key);
        assert_eq!(parse(&hint), Some((target.clone(), Some(key.clone()))));
        let node = Node {
            id: target.clone(),
            host: "h".into(),
            port: 7,
            virtual_nodes: 1,
            status: NodeStatus::Active,
            zone: None,
            seat: None,
        };
        let put = locate(&node);
        assert_eq!(parse(&put.key), Some((target.clone(), None)));
        assert_eq!(address(&target, put.value.unwrap()), Some(node));
        assert!(put.key < hint && hint < after(&hint));
        for bad in [&b""[..], b"\x05ab", b"\x01ab"] {
            assert_eq!(parse(&Bytes::copy_from_slice(bad)), None);
        }
    }
}
