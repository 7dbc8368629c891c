//! Records and messages for people.

use pairdb::ports::{Operation, Overwrites, RecordKey, Refusal, Reply, Request};
use pairdb::version::{Content, Context, Dot, Record, Version, VersionVector};

use crate::endpoint::Endpoint;
use crate::value;

/// A version vector.
#[must_use]
pub fn seen(seen: &VersionVector) -> String {
    let entry =
        |(actor, counter): (pairdb::version::Actor, u64)| format!("{}:{counter}", actor.short());
    let entries: Vec<String> = seen.iter().map(entry).collect();
    format!("[{}]", entries.join(" "))
}

/// A dot.
#[must_use]
pub fn dot(dot: Dot) -> String {
    format!("{}:{}", dot.actor.short(), dot.counter)
}

/// An encoded record.
#[must_use]
pub fn record(key: &RecordKey, bytes: &bytes::Bytes) -> String {
    match Record::decode(bytes.clone()) {
        Ok(record) => {
            let siblings = record.siblings().iter();
            let siblings: Vec<String> = siblings.map(|sibling| version(key, sibling)).collect();
            format!("{{{}}} of {}", siblings.join(", "), seen(record.seen()))
        }
        Err(error) => error.to_string(),
    }
}

fn version(key: &RecordKey, version: &Version) -> String {
    let Version { stamp, .. } = version;
    format!(
        "{} at {} stamp {stamp}",
        content(key, &version.content),
        dot(version.dot)
    )
}

fn content(key: &RecordKey, content: &Content) -> String {
    match content {
        Content::Tombstone => "tombstone".to_owned(),
        Content::Value(bytes) => match value::parse(key.tenant(), key.key(), bytes) {
            Some(op) => format!("#{}", op.0),
            None => format!("{bytes:?}"),
        },
    }
}

fn context(context: &Context) -> String {
    let written = context.written.map(|written| format!("+{}", dot(written)));
    format!("{}{}", seen(&context.shown), written.unwrap_or_default())
}

/// A request that arrives.
#[must_use]
pub fn request(who: Endpoint, request: &Request) -> String {
    let epoch = request.epoch;
    match &request.operation {
        Operation::Stamp(stamp) => {
            let key = &stamp.key;
            let place = format!("{}/{}", key.tenant(), key.key());
            let overwrites = match &stamp.overwrites {
                Overwrites::All(seen) => format!("all, knowing {}", context(seen)),
                Overwrites::Covered(seen) => context(seen),
            };
            let what = content(key, &stamp.content);
            let (id, stamp) = (stamp.write_id.0 >> 112, stamp.stamp);
            format!(
                "> {who} stamp {place} {what} id {id:04x} stamp {stamp} over {overwrites} epoch {epoch}"
            )
        }
        Operation::Join { key, record: bytes } => {
            let place = format!("{}/{}", key.tenant(), key.key());
            format!("> {who} join {place} {} epoch {epoch}", record(key, bytes))
        }
        Operation::Read { key } => {
            format!("> {who} read {}/{} epoch {epoch}", key.tenant(), key.key())
        }
        other => format!("> {who} {other:?}"),
    }
}

/// A node's answer.
#[must_use]
pub fn answer(who: Endpoint, key: &RecordKey, result: &Result<Reply, Refusal>) -> String {
    let place = format!("{}/{}", key.tenant(), key.key());
    let what = match result {
        Ok(Reply::Stamped {
            dot: given,
            record: bytes,
        }) => {
            format!("stamped {}: {}", dot(*given), record(key, bytes))
        }
        Ok(Reply::Superseded {
            greatest,
            record: bytes,
        }) => {
            format!("superseded by {greatest}: {}", record(key, bytes))
        }
        Ok(Reply::Joined { greatest }) => format!("joined, greatest {greatest}"),
        Ok(Reply::Found {
            record: Some(bytes),
        }) => format!("found {}", record(key, bytes)),
        Ok(Reply::Found { record: None }) => "found nothing".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    };
    format!("< {who} {place} {what}")
}
