//! Runs that tests tell in a few sentences, for the invariants to judge: one tenant `t` with one key `k`, owned by
//! three storage nodes, and clients that come one after the other.
//!
//! What nobody says went well: operations are answered after a moment, what was written is held by all owners and
//! remembered as [`Told::owners_hold`] says last, coordinators know the tenant, and nothing is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pairdb::placement::{Epoch, NodeId, PartitionId, Token};
use pairdb::ports::{AcceptRequest, Operation, Overwrites, RecordKey, Reply, Request, TenantId};
use pairdb::quorum::{ConflictPolicy, Consistency};
use pairdb::version::{
    Actor, Content, Context, Dot, Record, Stamp, Version, VersionVector, WriteId,
};

use super::check;
use crate::adapters::TenantLookup;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::hash::Fnv;
use crate::op::{Answer, Answered, Arrived, Kind, Op, OpId, Time};
use crate::readings::Reading;
use crate::recorded::{FinalRecord, Recorded};
use crate::seen::{Seen, Sighting};
use crate::value;
use crate::weather::WeatherLog;
use crate::world::{ClientPlan, TenantPlan, World};

const TENANT: &str = "t";
const KEY: &str = "k";
const COORDINATOR: Endpoint = Endpoint::Coordinator(1);

/// When the first client comes, in milliseconds: whoever has to settle first has done so.
const BEGIN_MS: u64 = 60_000;
/// The time between the beginnings of two operations, unless one takes longer.
const STEP_MS: u64 = 10;
/// How long an operation takes, unless somebody says otherwise.
const TAKES_MS: u64 = 5;

/// A run as far as it was told.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) run: Recorded,
    now_ms: u64,
    /// What each write came to at the node that stamped it.
    versions: BTreeMap<OpId, Version>,
    /// What each answer's context covers.
    contexts: BTreeMap<OpId, VersionVector>,
}

/// An operation as far as it was told.
pub(super) struct Telling<'a> {
    told: &'a mut Told,
    op: Op,
    takes_ms: u64,
}

/// The n-th storage node.
pub(super) const fn node(number: u8) -> Endpoint {
    Endpoint::Storage(number)
}

/// The name of the record.
pub(super) fn record_key() -> RecordKey {
    let tenant = TenantId::new(TENANT).expect("a tenant's name");
    RecordKey::new(PartitionId(0), &tenant, KEY)
}

const fn nanos(ms: u64) -> Time {
    ms * 1_000_000
}

impl Told {
    /// Of a tenant with this policy.
    pub(super) fn under(policy: ConflictPolicy) -> Self {
        let world = World {
            storage_nodes: 3,
            coordinators: 1,
            partitions: 1,
            tenants: vec![TenantPlan::new(TENANT, 3, policy)],
            clients: vec![ClientPlan::default()],
            ..World::default()
        };
        let told = Self {
            run: Recorded {
                world: Arc::new(world),
                ops: BTreeMap::new(),
                seen: Seen::default(),
                finals: Vec::new(),
                unrepaired: Vec::new(),
                hidden: Vec::new(),
                weather: WeatherLog::default(),
                published_epoch: Epoch(1),
                reigns: Vec::new(),
                complaints: Vec::new(),
                tenant_lookups: Vec::new(),
                late_answers: Vec::new(),
            },
            now_ms: BEGIN_MS,
            versions: BTreeMap::new(),
            contexts: BTreeMap::new(),
        };
        told.in_the_end([&[], &[], &[]])
    }

    /// Of a tenant that is shown concurrent writes side by side.
    pub(super) fn siblings() -> Self {
        Self::under(ConflictPolicy::Siblings)
    }

    /// Of a tenant that is shown the last write.
    pub(super) fn last_write_wins() -> Self {
        Self::under(ConflictPolicy::LastWriteWins)
    }

    /// In a world that differs in this.
    pub(super) fn with(mut self, differs: impl FnOnce(&mut World)) -> Self {
        differs(Arc::make_mut(&mut self.run.world));
        self
    }

    /// What time it is.
    pub(super) const fn now(&self) -> Time {
        nanos(self.now_ms)
    }

    /// A client writes.
    pub(super) fn write(&mut self) -> Telling<'_> {
        self.begin(Kind::Write)
    }

    /// A client reads.
    pub(super) fn read(&mut self) -> Telling<'_> {
        self.begin(Kind::Read)
    }

    /// A client deletes.
    pub(super) fn delete(&mut self) -> Telling<'_> {
        self.begin(Kind::Delete)
    }

    fn begin(&mut self, kind: Kind) -> Telling<'_> {
        let op = Op {
            id: OpId(self.run.ops.len() as u32 + 1),
            client: 1,
            tenant: 0,
            key: KEY.to_owned(),
            kind,
            consistency: Consistency::Quorum,
            given: None,
            context: Bytes::new(),
            idempotent: false,
            invoked: nanos(self.now_ms),
            answers: Vec::new(),
            attempts: 1,
            arrived: vec![Arrived {
                at: nanos(self.now_ms),
                told_in_use: None,
            }],
            last_to: Some(COORDINATOR),
            unknown: false,
            claim_forgotten: false,
            key_of: None,
            told_conflict: false,
        };
        Telling {
            told: self,
            op,
            takes_ms: TAKES_MS,
        }
    }

    /// An operation is tried once more, after what happened meanwhile.
    pub(super) fn again(&mut self, op: OpId, tell: impl FnOnce(&mut Op, Time)) {
        let now = nanos(self.now_ms);
        let op = self
            .run
            .ops
            .get_mut(&op)
            .expect("an operation that was told");
        op.attempts += 1;
        op.arrived.push(Arrived {
            at: now,
            told_in_use: None,
        });
        tell(op, now);
        self.now_ms += STEP_MS;
    }

    /// What an operation wrote is stamped now, as that logical write: all owners say to hold it.
    fn stamp(&mut self, op: &Op, write: u128) {
        let number = self.run.seen.versions.len() as u64 + 1;
        let content = match op.kind {
            Kind::Delete => Content::Tombstone,
            _ => Content::Value(value::make(TENANT, KEY, op.id, 0)),
        };
        let version = Version {
            dot: Dot {
                actor: Actor(number << 48),
                counter: 1,
            },
            write_id: WriteId(write),
            stamp: Stamp::new(number, 0),
            content,
        };
        let at = nanos(self.now_ms);
        let sighting = Sighting {
            key: record_key(),
            write_id: version.write_id,
            stamp: version.stamp,
            op: version.value().map(|_| op.id),
            content: version.value().map(|value| Fnv::of(value)),
            at,
        };
        self.run.seen.note(version.dot, sighting);
        let holders = (1..=3).map(|number| (node(number), at)).collect();
        self.run.seen.holders.insert(version.dot, holders);
        self.versions.insert(op.id, version);
    }

    /// A write is stamped once more, as that logical write.
    pub(super) fn stamped_again(&mut self, op: OpId, write: u128) {
        let op = self.run.ops[&op].clone();
        self.stamp(&op, write);
    }

    /// The record with the values of these writes, by somebody who has seen all there is.
    pub(super) fn record(&self, writes: &[OpId]) -> Record {
        let mut seen = VersionVector::default();
        let all = self.versions.values();
        all.for_each(|version| seen.advance(version.dot));
        let held = writes.iter().map(|write| self.versions[write].clone());
        Record::new(seen, held.collect()).expect("a record that can be")
    }

    /// A node answers a read with this.
    pub(super) fn says(&mut self, who: Endpoint, record: &Bytes) {
        self.says_under(Epoch(1), who, record);
    }

    /// A node answers a read under this epoch with this.
    pub(super) fn says_under(&mut self, epoch: Epoch, who: Endpoint, record: &Bytes) {
        let request = Request {
            node: NodeId::new(who.id()).expect("a node's id"),
            epoch,
            operation: Operation::Read { key: record_key() },
        };
        let reply = Reply::Found {
            record: Some(record.clone()),
        };
        let seen = &mut self.run.seen;
        let said = seen.arrived(COORDINATOR, who, &request);
        seen.answered(who, &request, (&reply, true), said, nanos(self.now_ms));
        self.now_ms += STEP_MS;
    }

    /// A coordinator asks a node to accept a write.
    pub(super) fn is_asked_to_accept(&mut self, epoch: Epoch, who: Endpoint) {
        let stamp = AcceptRequest {
            key: record_key(),
            write_id: WriteId(1),
            stamp: Stamp::new(1, 0),
            overwrites: Overwrites::Covered(Context::default()),
            content: Content::Tombstone,
            siblings_max: 10,
        };
        let request = Request {
            node: NodeId::new(who.id()).expect("a node's id"),
            epoch,
            operation: Operation::Accept(Box::new(stamp)),
        };
        let _ = self.run.seen.arrived(COORDINATOR, who, &request);
    }

    /// Before all else a node answered a read with this.
    pub(super) fn said_before(&mut self, who: Endpoint, record: &Bytes) {
        let now = std::mem::replace(&mut self.now_ms, BEGIN_MS);
        self.says(who, record);
        self.now_ms = now;
    }

    /// The coordinator asks by this epoch all the time.
    pub(super) fn asked_by(&mut self, epoch: Epoch) {
        let request = Request {
            node: NodeId::new(node(1).id()).expect("a node's id"),
            epoch,
            operation: Operation::Read { key: record_key() },
        };
        for at in [0, Time::MAX] {
            let attempts = &mut self.run.seen.attempts;
            let _ = attempts.asks(COORDINATOR, &request, at);
        }
    }

    /// The coordinator hears what a node has of the record, by this epoch.
    pub(super) fn hears(&mut self, epoch: Epoch, who: Endpoint) {
        let request = Request {
            node: NodeId::new(who.id()).expect("a node's id"),
            epoch,
            operation: Operation::Read { key: record_key() },
        };
        let reading = Reading::of(COORDINATOR, who, &request).expect("it is one");
        let reply = Reply::Found { record: None };
        let readings = &mut self.run.seen.readings;
        readings.heard(reading, &reply, nanos(self.now_ms));
    }

    /// A node loses what it held of the record.
    pub(super) fn loses(&mut self, who: Endpoint, key: &RecordKey) {
        self.run.seen.damaged(who, nanos(self.now_ms), key);
        self.now_ms += STEP_MS;
    }

    /// In the end all owners hold these writes, and nothing else.
    pub(super) fn owners_hold(self, writes: &[OpId]) -> Self {
        self.in_the_end([writes, writes, writes])
    }

    /// In the end each owner holds these writes.
    pub(super) fn in_the_end(mut self, owners: [&[OpId]; 3]) -> Self {
        let held = (1..).zip(owners);
        let records = held.map(|(number, writes)| (node(number), Ok(self.record(writes).encode())));
        self.run.finals = vec![FinalRecord {
            tenant: 0,
            key: KEY.to_owned(),
            records: records.collect(),
        }];
        self
    }

    /// Nothing at all was broken.
    #[track_caller]
    pub(super) fn keeps_all(self) {
        let (found, _) = check(&Evidence::of(self.run));
        assert!(found.is_empty(), "{found:#?}");
    }

    /// Nothing was broken, and this excused something.
    #[track_caller]
    pub(super) fn needs(self, excuse: Excuse) {
        let (found, excuses) = check(&Evidence::of(self.run));
        assert!(found.is_empty(), "{found:#?}");
        assert!(excuses.times(excuse) > 0, "{excuses:?}");
    }

    /// This promise was broken, and that is all that is said of it.
    #[track_caller]
    pub(super) fn breaks(self, invariant: &str, what: &[&str]) {
        assert_eq!(self.found(invariant), what);
    }

    /// How a promise was broken.
    pub(super) fn found(self, invariant: &str) -> Vec<String> {
        let (mut found, _) = check(&Evidence::of(self.run));
        found.retain(|violation| violation.invariant == invariant);
        found.into_iter().map(|violation| violation.what).collect()
    }
}

impl Telling<'_> {
    /// With the context of that answer.
    pub(super) fn knowing(mut self, given: OpId) -> Self {
        let context = Context {
            shown: self.told.contexts[&given].clone(),
            written: None,
        };
        self.op.given = Some(given);
        self.op.context = context.encode(Token::of_key(TENANT, KEY).0);
        self
    }

    /// At this consistency.
    pub(super) fn at(mut self, consistency: Consistency) -> Self {
        self.op.consistency = consistency;
        self
    }

    /// With an idempotency key.
    pub(super) fn idempotent(mut self) -> Self {
        self.op.idempotent = true;
        self
    }

    /// For so long.
    pub(super) fn takes(mut self, ms: u64) -> Self {
        self.takes_ms = ms;
        self
    }

    /// It takes effect, and the client is told.
    pub(super) fn acknowledged(self) -> OpId {
        let id = self.op.id;
        self.told.stamp(&self.op, u128::from(id.0));
        let known = self
            .op
            .given
            .and_then(|given| self.told.contexts.get(&given));
        let mut covers = known.cloned().unwrap_or_default();
        covers.advance(self.told.versions[&id].dot);
        let context = Context {
            shown: covers.clone(),
            written: None,
        };
        let context = context.encode(Token::of_key(TENANT, KEY).0);
        let told = self.end(|op, at| {
            let result = Answered::Written {
                context,
                is_duplicate: false,
                without_idempotency: false,
            };
            op.answers.push(Answer { at, result });
        });
        told.contexts.insert(id, covers);
        id
    }

    /// It fails, without any effect.
    pub(super) fn refused(self) -> OpId {
        let id = self.op.id;
        self.end(|op, at| {
            let result = Answered::Refused;
            op.answers.push(Answer { at, result });
        });
        id
    }

    /// It is shown what these wrote.
    pub(super) fn shows(self, writes: &[OpId]) -> OpId {
        let versions = writes.iter().map(|write| &self.told.versions[write]);
        let values = versions.filter_map(|version| Some((version.value()?.clone(), version.stamp)));
        let values = values.collect();
        let mut covers = VersionVector::default();
        let versions = writes.iter().map(|write| &self.told.versions[write]);
        versions.for_each(|version| covers.advance(version.dot));
        self.found(values, covers)
    }

    /// It is shown these bytes.
    pub(super) fn shows_bytes(self, value: &[u8]) -> OpId {
        let values = vec![(Bytes::copy_from_slice(value), Stamp::ZERO)];
        self.found(values, VersionVector::default())
    }

    fn found(self, values: Vec<(Bytes, Stamp)>, covers: VersionVector) -> OpId {
        let id = self.op.id;
        let context = Context {
            shown: covers.clone(),
            written: None,
        };
        let context = context.encode(Token::of_key(TENANT, KEY).0);
        let told = self.end(|op, at| {
            let result = match values.is_empty() {
                true => Answered::NotFound { context },
                false => Answered::Found { values, context },
            };
            op.answers.push(Answer { at, result });
        });
        told.contexts.insert(id, covers);
        id
    }
}

impl<'a> Telling<'a> {
    /// The operation is over; `answer` is told when.
    fn end(mut self, answer: impl FnOnce(&mut Op, Time)) -> &'a mut Told {
        let told = self.told;
        let ends_ms = told.now_ms + self.takes_ms;
        answer(&mut self.op, nanos(ends_ms));
        told.run.tenant_lookups.push(TenantLookup {
            from: COORDINATOR,
            tenant: TENANT.to_owned(),
            at: Duration::from_millis(told.now_ms),
        });
        told.now_ms = ends_ms.max(told.now_ms + STEP_MS);
        told.run.ops.insert(self.op.id, self.op);
        told
    }
}
