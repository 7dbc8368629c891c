//! What this node owes others: for each of them, how many keys, since when, and when to try next.
//!
//! A *hint* is a pointer: "that node may lack what is held of this key". It is kept durably beside the record, once for each
//! node and key however often the key is written, and its delivery is a join of the record as it is then. So an outage costs
//! one delivery for each key that was written in it, and repeating one changes nothing.
//!
//! Stored under the target's name and the record's; the value is the wall clock's time when it was noted. Under the target's
//! name alone is where it was last known to be.
//!
//! Here is only the account, in memory, rebuilt when the node opens.
//!
//! Invariants, which [`Debts::validate`] checks:
//! - each debt is kept under the name of the node that is owed;
//! - nobody who is owed something is left alone longer than the longest pause.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::task::AtomicWaker;

use crate::placement::{Node, NodeId, NodeStatus};
use crate::ports::{HintsReport, Instant, Put, RecordKey, Space, StorageEngine, StorageError};

/// Read of the engine at a time.
const PAGE: usize = 1024;

/// All of it.
pub(super) struct Debts {
    targets: Mutex<BTreeMap<NodeId, Debt>>,
    /// Whether there is something new for who delivers.
    news: AtomicBool,
    /// Wakes who delivers.
    pub(super) waker: AtomicWaker,
}

/// What one node is owed.
#[derive(Clone, Debug)]
pub(super) struct Debt {
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

impl Debts {
    /// Reads the account from the engine. Everything is due at once.
    pub(super) async fn load(storage: &impl StorageEngine) -> Result<Self, StorageError> {
        let mut targets: BTreeMap<NodeId, Debt> = BTreeMap::new();
        let mut from = Bytes::new();
        loop {
            let page = storage.scan(Space::Hints, from.clone(), None, PAGE).await?;
            for (key, value) in &page {
                match parse(key) {
                    Some((target, None)) => {
                        if let Some(node) = address(&target, value.clone()) {
                            targets.insert(target, Debt::new(node));
                        }
                    }
                    Some((target, Some(_))) => {
                        if let Some(debt) = targets.get_mut(&target) {
                            debt.add(noted_ms(value));
                        }
                    }
                    None => {}
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = after(last),
                _ => break,
            }
        }
        Ok(Self {
            targets: Mutex::new(targets),
            news: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// Takes over another account of the same engine's.
    pub(super) fn replace(&self, other: Self) {
        let targets = other.targets.into_inner();
        *self.lock() = targets.unwrap_or_else(PoisonError::into_inner);
        self.wake();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Debt>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the invariants, where no pause is longer than `pause_max`.
    ///
    /// # Errors
    /// Says which one is broken.
    pub(super) fn validate(&self, now: Instant, pause_max: Duration) -> Result<(), &'static str> {
        let targets = self.lock();
        for (target, debt) in targets.iter() {
            match () {
                () if debt.node.id != *target => return Err("a debt is kept under another name"),
                () if debt.pause > pause_max => return Err("a pause is longer than the longest"),
                () if debt.outstanding > 0 && debt.due > now + pause_max => {
                    return Err("who is owed something is left alone too long");
                }
                () => {}
            }
        }
        Ok(())
    }

    /// A pointer became durable.
    pub(super) fn noted(&self, target: &Node, at_ms: u64, first_try: Instant) {
        let mut targets = self.lock();
        let debt = targets
            .entry(target.id.clone())
            .or_insert_with(|| Debt::new(target.clone()));
        debt.node = target.clone();
        if debt.outstanding == 0 {
            debt.due = debt.due.max(first_try);
        }
        let first = debt.outstanding == 0;
        debt.add(at_ms);
        drop(targets);
        if first {
            self.wake();
        }
    }

    /// A pointer was removed.
    pub(super) fn settled(&self, target: &NodeId) {
        if let Some(debt) = self.lock().get_mut(target) {
            debt.outstanding = debt.outstanding.saturating_sub(1);
        }
    }

    /// The target is there, and there: try at once.
    pub(super) fn is_back(&self, node: &Node, now: Instant) {
        if let Some(debt) = self.lock().get_mut(&node.id) {
            debt.node = node.clone();
            debt.due = now;
            debt.pause = Duration::ZERO;
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

    /// Who is owed something.
    pub(super) fn targets(&self) -> Vec<NodeId> {
        let targets = self.lock();
        let owed = targets.iter().filter(|(_, debt)| debt.outstanding > 0);
        owed.map(|(target, _)| target.clone()).collect()
    }

    pub(super) fn report(&self) -> Vec<HintsReport> {
        let targets = self.lock();
        let owed = targets.iter().filter(|(_, debt)| debt.outstanding > 0);
        owed.map(|(target, debt)| HintsReport {
            target: target.clone(),
            outstanding: debt.outstanding,
            oldest_ms: debt.oldest_ms,
            rounds: debt.rounds,
        })
        .collect()
    }
}

impl Debt {
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

/// Where a pointer is kept.
pub(super) fn pointer(target: &NodeId, key: &RecordKey) -> Bytes {
    let mut bytes = prefix(target);
    bytes.put_slice(key.as_bytes());
    bytes.freeze()
}

/// All pointers to a target begin so; this alone is where its address is kept.
pub(super) fn prefix(target: &NodeId) -> BytesMut {
    let name = target.as_str().as_bytes();
    let mut bytes = BytesMut::with_capacity(1 + name.len());
    bytes.put_u8(name.len() as u8); // a NodeId has at most 255 bytes
    bytes.put_slice(name);
    bytes
}

/// What is kept there: whom it is about, and which key, if it is a pointer.
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

/// When a pointer was noted.
pub(super) fn noted_ms(value: &Bytes) -> u64 {
    value.as_ref().try_get_u64().unwrap_or(0)
}

/// What notes a pointer.
pub(super) fn note(target: &NodeId, key: &RecordKey, at_ms: u64) -> Put {
    Put {
        space: Space::Hints,
        key: pointer(target, key),
        value: Some(Bytes::copy_from_slice(&at_ms.to_be_bytes())),
    }
}

/// What removes one.
pub(super) fn settle(target: &NodeId, key: &RecordKey) -> Put {
    Put {
        space: Space::Hints,
        key: pointer(target, key),
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::PartitionId;
    use crate::ports::TenantId;

    #[test]
    fn a_broken_account_is_told_from_a_sound_one() {
        let node = Node {
            id: NodeId::new("node-1").unwrap(),
            host: "h".into(),
            port: 7,
            virtual_nodes: 1,
            status: NodeStatus::Active,
        };
        let (now, second) = (Instant(5_000_000_000), Duration::from_secs(1));
        let check = |breaks: fn(&mut Debt)| {
            let mut debt = Debt::new(node.clone());
            debt.add(3);
            debt.due = now + second;
            debt.pause = second;
            breaks(&mut debt);
            let debts = Debts {
                targets: Mutex::new([(node.id.clone(), debt)].into()),
                news: AtomicBool::new(false),
                waker: AtomicWaker::new(),
            };
            debts.validate(now, second)
        };
        assert_eq!(check(|_| {}), Ok(()));
        let breaks: [(fn(&mut Debt), &str); 3] = [
            (
                |debt| debt.node.id = NodeId::new("node-2").unwrap(),
                "a debt is kept under another name",
            ),
            (
                |debt| debt.pause += Duration::from_nanos(1),
                "a pause is longer than the longest",
            ),
            (
                |debt| debt.due = Instant(6_000_000_001),
                "who is owed something is left alone too long",
            ),
        ];
        for (broken_by, why) in breaks {
            assert_eq!(check(broken_by), Err(why));
        }
        let owed_nothing = check(|debt| {
            debt.due = Instant(6_000_000_001);
            debt.outstanding = 0;
        });
        assert_eq!(owed_nothing, Ok(()), "there is nothing to try");
    }

    #[test]
    fn pointers_and_addresses_are_told_apart() {
        let target = NodeId::new("node-1").unwrap();
        let key = RecordKey::new(PartitionId(3), &TenantId::new("t").unwrap(), "k");
        let pointer = pointer(&target, &key);
        assert_eq!(parse(&pointer), Some((target.clone(), Some(key.clone()))));
        let node = Node {
            id: target.clone(),
            host: "h".into(),
            port: 7,
            virtual_nodes: 1,
            status: NodeStatus::Active,
        };
        let put = locate(&node);
        assert_eq!(parse(&put.key), Some((target.clone(), None)));
        assert_eq!(address(&target, put.value.unwrap()), Some(node));
        assert!(put.key < pointer && pointer < after(&pointer));
        for bad in [&b""[..], b"\x05ab", b"\x01ab"] {
            assert_eq!(parse(&Bytes::copy_from_slice(bad)), None);
        }
    }
}
