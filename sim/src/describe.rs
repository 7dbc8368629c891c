//! Records and messages for people.

use pairdb::ports::{Operation, Overwrites, RecordKey, Refusal, Reply, Request};
use pairdb::version::{Content, Context, Dot, Record, Version, VersionVector};

use crate::endpoint::Endpoint;
use crate::op::OpId;
use crate::value;

/// A request or an answer in parts, each to be shown in a place of its own.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Said {
    /// One word: what is wanted, or what was done.
    pub verb: String,
    /// `tenant/key`, if it is about one.
    pub key: Option<String>,
    /// The operation it belongs to, where that can be told.
    pub op: Option<OpId>,
    /// All the rest, in words.
    pub text: String,
    /// The encoded record it carries.
    pub record: Option<bytes::Bytes>,
    /// Whether the answer is that it was not done.
    pub refused: bool,
}

impl Said {
    /// A verb, and the rest in words.
    #[must_use]
    pub fn new(verb: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            verb: verb.into(),
            text: text.into(),
            ..Self::default()
        }
    }
}

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
            let overwritten = record.overwritten().iter();
            let overwritten: Vec<String> = overwritten.map(|old| dot(old.dot)).collect();
            let overwritten = match overwritten.is_empty() {
                true => String::new(),
                false => format!(", overwritten [{}]", overwritten.join(" ")),
            };
            let siblings = siblings.join(", ");
            format!("{{{siblings}}} of {}{overwritten}", seen(record.seen()))
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
        Operation::Accept(stamp) => {
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
        Operation::Join {
            key, record: bytes, ..
        } => {
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
        Ok(Reply::Accepted {
            dot: given,
            record: bytes,
        }) => {
            format!("stamped {}: {}", dot(*given), record(key, bytes))
        }
        Ok(Reply::Superseded {
            greatest,
            record: bytes,
            ..
        }) => {
            format!("superseded by {}: {}", greatest.stamp, record(key, bytes))
        }
        Ok(Reply::Joined { greatest, .. }) => format!("joined, greatest {}", greatest.stamp),
        Ok(Reply::Found {
            record: Some(bytes),
        }) => format!("found {}", record(key, bytes)),
        Ok(Reply::Found { record: None }) => "found nothing".to_owned(),
        Ok(Reply::Refilling(reply)) => {
            return format!(
                "{}, being refilled",
                answer(who, key, &Ok((**reply).clone()))
            );
        }
        Ok(other) => format!("{other:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    };
    format!("< {who} {place} {what}")
}

/// A request to a storage node, in parts.
#[must_use]
pub fn request_parts(request: &Request) -> Said {
    let epoch = request.epoch;
    match &request.operation {
        Operation::Accept(stamp) => {
            let (over, seen) = match &stamp.overwrites {
                Overwrites::All(seen) => ("all, knowing ", seen),
                Overwrites::Covered(seen) => ("", seen),
            };
            let what = content(&stamp.key, &stamp.content);
            let id = stamp.write_id.0 >> 112;
            let text = format!(
                "{what}, write id {id:04x}…, stamp {}, over {over}{}, epoch {epoch}",
                stamp.stamp,
                context(seen)
            );
            Said {
                key: Some(place(&stamp.key)),
                op: match &stamp.content {
                    Content::Value(bytes) => {
                        value::parse(stamp.key.tenant(), stamp.key.key(), bytes)
                    }
                    Content::Tombstone => None,
                },
                ..Said::new("stamp", text)
            }
        }
        Operation::Join { key, record, .. } => Said {
            key: Some(place(key)),
            record: Some(record.clone()),
            ..Said::new("join", format!("epoch {epoch}"))
        },
        Operation::Read { key } => Said {
            key: Some(place(key)),
            ..Said::new("read", format!("epoch {epoch}"))
        },
        other => {
            let text = format!("{other:?}");
            let verb = text.split([' ', '{', '(']).next().unwrap_or_default();
            Said::new(verb.to_lowercase(), format!("{text}, epoch {epoch}"))
        }
    }
}

/// A storage node's answer, in parts.
#[must_use]
pub fn answer_parts(result: &Result<Reply, Refusal>) -> Said {
    match result {
        Ok(Reply::Accepted { dot: given, record }) => Said {
            record: Some(record.clone()),
            ..Said::new("stamped", dot(*given))
        },
        Ok(Reply::Superseded {
            greatest, record, ..
        }) => Said {
            record: Some(record.clone()),
            ..Said::new("superseded", format!("holds stamp {}", greatest.stamp))
        },
        Ok(Reply::Joined { greatest, .. }) => {
            Said::new("joined", format!("greatest stamp now {}", greatest.stamp))
        }
        Ok(Reply::Found { record }) => Said {
            record: record.clone(),
            ..Said::new(record.as_ref().map_or("nothing", |_| "found"), "")
        },
        Ok(Reply::Refilling(reply)) => {
            let said = answer_parts(&Ok((**reply).clone()));
            Said {
                text: format!("{} (being refilled: counts for no quorum)", said.text),
                ..said
            }
        }
        Ok(other) => Said::new("ok", format!("{other:?}")),
        Err(refusal) => Said {
            refused: true,
            ..Said::new("refused", refusal.to_string())
        },
    }
}

/// `tenant/key`.
#[must_use]
pub fn place(key: &RecordKey) -> String {
    format!("{}/{}", key.tenant(), key.key())
}
