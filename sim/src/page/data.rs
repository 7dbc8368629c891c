//! The data of a page: rows of numbers that point into tables of strings, lanes, keys and records.
//!
//! | list | a row |
//! |---|---|
//! | `lanes` | name, kind (0 client, 1 coordinator, 2 storage node, 3 store) |
//! | `calls` | sent, from, to, verb, key, operation, text, record, fate of the request, when, fate of the answer, when; then for each arrival: when, answered, refused, verb, text, record |
//! | `ops` | number, lane, key, kind, text, invoked, ended (-1: never), status (0 ok, 1 failed, 2 unknown) |
//! | `faults` | name, text, from, to, lanes (none: everywhere) |
//! | `lives` | lane, when, what (0 starts, 1 serves, 2 ends) |
//! | `stored` | lane, when, key, record (-1: gone) |
//! | `records` | seen as actor, counter, …; for each sibling actor, counter, stamp, operation (0: none), text |
//!
//! Times are nanoseconds; in `calls` and `stored` they count from the row before, and within a call from its sending.
//! -1 stands for nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pairdb::ports::RecordKey;
use pairdb::version::{Actor, Content, Record};
use serde_json::{Value, json};

use crate::describe::{self, Said};
use crate::endpoint::Endpoint;
use crate::op::{Op, Time};
use crate::outcome::{Outcome, Recording};
use crate::recorder::{Fate, Life};
use crate::value;

/// Longer texts are cut.
const TEXT_MAX: usize = 600;

/// The data of a run's page.
pub(super) fn of(outcome: &Outcome, recording: &Recording, replay: &str) -> Value {
    let mut tables = Tables::new(recording);
    let calls = tables.calls(recording);
    let stored = tables.stored(recording);
    let ops: Vec<Value> = recording
        .ops
        .values()
        .map(|op| tables.op(recording, op))
        .collect();
    let faults: Vec<Value> = recording
        .log
        .faults
        .iter()
        .map(|(fault, from, to)| {
            let fault = serde_json::to_value(fault).unwrap_or_default();
            tables.fault(&fault, *from, *to)
        })
        .collect();
    let lives: Vec<Value> = recording
        .log
        .lives
        .iter()
        .map(|(who, at, life)| {
            let what = match life {
                Life::Starts => 0,
                Life::Serves => 1,
                Life::Ends => 2,
            };
            json!([tables.lane(*who), at, what])
        })
        .collect();
    let lanes: Vec<Value> = tables
        .lanes
        .keys()
        .map(|who| json!([who.to_string(), kind(*who)]))
        .collect();
    let tenants: Vec<&String> = recording
        .world
        .tenants
        .iter()
        .map(|plan| &plan.name)
        .collect();
    let Outcome {
        seed, violations, ..
    } = outcome;
    json!({
        "about": {
            "seed": seed,
            "replay": replay,
            "fingerprint": format!("{:016x}", outcome.fingerprint),
            "operations": outcome.operations,
            "succeeded": outcome.succeeded,
            "messages": outcome.messages,
            "simulated": outcome.simulated.as_nanos() as u64,
            "violations": violations,
        },
        "tenants": tenants,
        "lanes": lanes,
        "phases": recording.log.phases,
        "calls": calls,
        "ops": ops,
        "faults": faults,
        "lives": lives,
        "stored": stored,
        "records": tables.records.rows,
        "actors": tables.actors,
        "keys": tables.keys.rows,
        "strings": tables.strings.rows,
    })
}

/// Every value once, in the order in which they came.
struct Table<K, V> {
    places: BTreeMap<K, usize>,
    rows: Vec<V>,
}

impl<K: Ord, V> Table<K, V> {
    fn new() -> Self {
        let (places, rows) = (BTreeMap::new(), Vec::new());
        Self { places, rows }
    }
}

impl Table<String, String> {
    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        self.places.insert(text.to_owned(), self.rows.len());
        self.rows.push(text.to_owned());
        self.rows.len() - 1
    }
}

struct Tables {
    lanes: BTreeMap<Endpoint, usize>,
    strings: Table<String, String>,
    keys: Table<String, String>,
    records: Table<(String, Bytes), Value>,
    actors: Vec<String>,
    actor_places: BTreeMap<Actor, usize>,
}

impl Tables {
    fn new(recording: &Recording) -> Self {
        let mut all = BTreeSet::from([Endpoint::Metadata, Endpoint::Idempotency]);
        all.extend(recording.world.storage());
        all.extend(recording.world.coordinators());
        all.extend(
            (1..)
                .zip(&recording.world.clients)
                .map(|(n, _)| Endpoint::Client(n)),
        );
        for call in &recording.log.calls {
            all.extend([call.from, call.to]);
        }
        all.extend(recording.log.lives.iter().map(|(who, ..)| *who));
        all.extend(recording.log.stored.iter().map(|(who, ..)| *who));
        Self {
            lanes: all.into_iter().zip(0..).collect(),
            strings: Table::new(),
            keys: Table::new(),
            records: Table::new(),
            actors: Vec::new(),
            actor_places: BTreeMap::new(),
        }
    }

    fn lane(&self, who: Endpoint) -> i64 {
        self.lanes.get(&who).map_or(-1, |place| *place as i64)
    }

    fn text(&mut self, text: &str) -> usize {
        let end = (TEXT_MAX..text.len()).find(|end| text.is_char_boundary(*end));
        match end {
            Some(end) => self.strings.place(&format!("{}…", &text[..end])),
            None => self.strings.place(text),
        }
    }

    fn key(&mut self, key: Option<&String>) -> i64 {
        key.map_or(-1, |key| self.keys.place(key) as i64)
    }

    fn calls(&mut self, recording: &Recording) -> Vec<Vec<i64>> {
        let mut before = 0;
        let calls = recording.log.calls.iter().map(|call| {
            let request = &call.request;
            let mut row = vec![
                delta(call.sent, before),
                self.lane(call.from),
                self.lane(call.to),
                self.text(&request.verb) as i64,
                self.key(request.key.as_ref()),
                request.op.map_or(0, |op| i64::from(op.0)),
                self.text(&request.text) as i64,
                self.record_of(request, request.key.as_deref()),
            ];
            before = call.sent;
            for end in [call.failed, call.answer] {
                let (fate, at) = end.map_or((0, call.sent), |(fate, at)| (number(fate), at));
                row.extend([fate, delta(at, call.sent)]);
            }
            for arrival in &call.arrivals {
                row.push(delta(arrival.at, call.sent));
                match &arrival.answered {
                    Some((said, at)) => row.extend([
                        delta(*at, call.sent),
                        i64::from(said.refused),
                        self.text(&said.verb) as i64,
                        self.text(&said.text) as i64,
                        self.record_of(said, request.key.as_deref()),
                    ]),
                    None => row.extend([-1; 5]),
                }
            }
            row
        });
        calls.collect()
    }

    fn stored(&mut self, recording: &Recording) -> Vec<[i64; 4]> {
        let mut before = 0;
        let stored = recording.log.stored.iter().map(|(who, at, key, record)| {
            let name = RecordKey::from_bytes(key.clone()).map(|key| describe::place(&key));
            let name = name.unwrap_or_else(|error| error.to_string());
            let record = record
                .as_ref()
                .map_or(-1, |record| self.record(&name, record) as i64);
            let since = delta(*at, before);
            before = *at;
            [self.lane(*who), since, self.key(Some(&name)), record]
        });
        stored.collect()
    }

    fn op(&mut self, recording: &Recording, op: &Op) -> Value {
        let tenant = &recording.world.tenants[op.tenant].name;
        let answers = op.answers.iter().map(|answer| answer.at);
        let log = &recording.log;
        let given_up = log.given_up.iter().filter(|(id, _)| *id == op.id);
        let ended = answers.chain(given_up.map(|(_, at)| *at)).max();
        let status = match (op.success(), op.may_have_happened()) {
            (Some(_), _) => 0,
            (None, false) => 1,
            (None, true) => 2,
        };
        let mut text = op.consistency.to_string();
        if let Some(given) = op.given {
            text += &format!(", context of #{}", given.0);
        }
        if op.idempotent {
            text += ", idempotent";
        }
        if op.attempts > 1 {
            text += &format!(", {} attempts", op.attempts);
        }
        json!([
            op.id.0,
            self.lane(Endpoint::Client(op.client)),
            self.key(Some(&format!("{tenant}/{}", op.key))),
            self.text(op.kind.verb()),
            self.text(&text),
            op.invoked,
            ended.map_or(-1, |at| at as i64),
            status
        ])
    }

    /// What kinds of faults there are need not be known here: one is what its scenario file says of it, and it concerns
    /// those whom it names.
    fn fault(&mut self, fault: &Value, from: Time, to: Option<Time>) -> Value {
        let (name, fields) = match fault {
            Value::Object(object) => object
                .iter()
                .next()
                .map_or(("fault", &Value::Null), |(name, fields)| {
                    (name.as_str(), fields)
                }),
            Value::String(name) => (name.as_str(), &Value::Null),
            _ => ("fault", fault),
        };
        let mut whom = BTreeSet::new();
        self.named(fields, &mut whom);
        if name == "power_failure" {
            let storage = self.lanes.keys();
            whom.extend(
                storage
                    .filter(|who| kind(**who) == 2)
                    .map(|who| self.lane(*who)),
            );
        }
        let text = match fields {
            Value::Null => String::new(),
            fields => fields.to_string(),
        };
        json!([name, text, from, to, whom])
    }

    fn named(&self, value: &Value, whom: &mut BTreeSet<i64>) {
        match value {
            Value::String(name) => {
                let who = name.parse::<Endpoint>().ok();
                whom.extend(who.and_then(|who| self.lanes.get(&who)).map(|n| *n as i64));
            }
            Value::Array(values) => values.iter().for_each(|value| self.named(value, whom)),
            Value::Object(fields) => fields.values().for_each(|value| self.named(value, whom)),
            _ => {}
        }
    }

    fn record_of(&mut self, said: &Said, key: Option<&str>) -> i64 {
        match (&said.record, key) {
            (Some(record), Some(key)) => self.record(key, record) as i64,
            _ => -1,
        }
    }

    fn record(&mut self, key: &str, bytes: &Bytes) -> usize {
        let name = (key.to_owned(), bytes.clone());
        if let Some(place) = self.records.places.get(&name) {
            return *place;
        }
        let row = match Record::decode(bytes.clone()) {
            Ok(record) => self.record_row(key, &record),
            Err(error) => json!(error.to_string()),
        };
        let place = self.records.rows.len();
        self.records.places.insert(name, place);
        self.records.rows.push(row);
        place
    }

    fn record_row(&mut self, key: &str, record: &Record) -> Value {
        let (tenant, key) = key.split_once('/').unwrap_or_default();
        let seen: Vec<u64> = record
            .seen()
            .iter()
            .flat_map(|(actor, counter)| [self.actor(actor) as u64, counter])
            .collect();
        let siblings: Vec<Value> = record
            .siblings()
            .iter()
            .map(|version| {
                let (op, text) = match &version.content {
                    Content::Tombstone => (0, "tombstone".to_owned()),
                    Content::Value(bytes) => match value::parse(tenant, key, bytes) {
                        Some(op) => (op.0, format!("{} bytes", bytes.len())),
                        None => (0, String::from_utf8_lossy(bytes).into_owned()),
                    },
                };
                json!([
                    self.actor(version.dot.actor),
                    version.dot.counter,
                    version.stamp.to_string(),
                    op,
                    self.text(&text)
                ])
            })
            .collect();
        json!([seen, siblings])
    }

    fn actor(&mut self, actor: Actor) -> usize {
        let places = &mut self.actor_places;
        *places.entry(actor).or_insert_with(|| {
            self.actors.push(actor.short().to_string());
            self.actors.len() - 1
        })
    }
}

const fn kind(who: Endpoint) -> u8 {
    match who {
        Endpoint::Client(_) => 0,
        Endpoint::Coordinator(_) => 1,
        Endpoint::Storage(_) => 2,
        Endpoint::Metadata | Endpoint::Idempotency => 3,
    }
}

const fn number(fate: Fate) -> i64 {
    match fate {
        Fate::Lost => 1,
        Fate::Refused => 2,
        Fate::Nobody => 3,
        Fate::Broken => 4,
        Fate::Silent => 5,
        Fate::Received => 6,
        Fate::Unheard => 7,
    }
}

const fn delta(at: Time, since: Time) -> i64 {
    at as i64 - since as i64
}
