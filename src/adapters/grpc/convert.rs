//! The port's requests and replies as protobuf, and back.
//!
//! What comes from outside may be anything: nothing here panics, and what makes no sense becomes an error that says so.

use std::sync::Arc;
use std::time::Duration;

use super::maintenance;
use super::malformed::{key, malformed};
use super::waiters::Answer;
use crate::placement::{Epoch, NodeId};
use crate::ports::{
    AcceptRequest, CallError, JoinSource, Judged, NodeReport, Operation, Overwrites, Refusal,
    Release, Reply, Request, Standing,
};
use crate::proto::v1;
use crate::proto::v1::RefusalKind;
use crate::proto::v1::replica_reply::Outcome;
use crate::proto::v1::replica_request::Operation as Wire;
use crate::version::{Actor, Content, Context, Dot, Rank, Stamp, WriteId};

/// Of more callers of an older release a report tells nothing, nor of one with a longer name.
const CALLERS_MAX: usize = 64;
const CALLER_LEN_MAX: usize = 64;

/// For a batch to `batch_node`, whose name need not be repeated, as part of a trace or of none.
pub(super) fn request_to_proto(
    id: u64,
    batch_node: &NodeId,
    request: Request,
    traceparent: String,
) -> v1::ReplicaRequest {
    let node_id = if request.node == *batch_node {
        String::new()
    } else {
        request.node.as_str().into()
    };
    let operation = match request.operation {
        Operation::Accept(stamp) => Wire::Accept(stamp_to_proto(*stamp)),
        Operation::Join {
            key,
            record,
            judged,
            source,
        } => Wire::Join(v1::Join {
            key: key.as_bytes().clone(),
            record,
            judged: judged.map(|judged| v1::Judged {
                dot: Some(dot_to_proto(judged.dot)),
                rank: Some(rank_to_proto(judged.rank)),
            }),
            exchanged: source == JoinSource::Exchange,
            handoff: source == JoinSource::Handoff,
        }),
        Operation::Read { key } => Wire::Read(v1::Read {
            key: key.as_bytes().clone(),
        }),
        Operation::Probe => Wire::Probe(v1::Probe {}),
        Operation::AdoptEpochIfEmpty { epoch, is_new } => {
            Wire::AdoptEpochIfEmpty(v1::AdoptEpochIfEmpty {
                epoch: epoch.0,
                is_new,
            })
        }
        Operation::Maintenance(task) => Wire::Maintenance(maintenance::to_proto(*task)),
    };
    v1::ReplicaRequest {
        id,
        node_id,
        epoch: request.epoch.0,
        traceparent,
        operation: Some(operation),
    }
}

/// From a batch to `batch_node`; the refusal is what to answer instead.
pub(super) fn request_from_proto(
    batch_node: Option<&NodeId>,
    request: v1::ReplicaRequest,
) -> Result<Request, Refusal> {
    let node = match batch_node {
        Some(node) if request.node_id.is_empty() => node.clone(),
        _ => NodeId::new(request.node_id).map_err(malformed)?,
    };
    let operation = match request.operation {
        Some(Wire::Accept(stamp)) => Operation::Accept(Box::new(stamp_from_proto(stamp)?)),
        Some(Wire::Join(join)) => Operation::Join {
            key: key(join.key)?,
            record: join.record,
            judged: join.judged.map(judged_from_proto).transpose()?,
            source: match (join.exchanged, join.handoff) {
                (true, _) => JoinSource::Exchange,
                (false, true) => JoinSource::Handoff,
                (false, false) => JoinSource::Client,
            },
        },
        Some(Wire::Read(read)) => Operation::Read {
            key: key(read.key)?,
        },
        Some(Wire::Probe(v1::Probe {})) => Operation::Probe,
        Some(Wire::AdoptEpochIfEmpty(adopt)) => Operation::AdoptEpochIfEmpty {
            epoch: Epoch(adopt.epoch),
            is_new: adopt.is_new,
        },
        Some(Wire::Maintenance(task)) => {
            Operation::Maintenance(Box::new(maintenance::from_proto(task)?))
        }
        None => {
            return Err(Refusal::Malformed(
                "no operation, or one that this node does not know".into(),
            ));
        }
    };
    Ok(Request {
        node,
        epoch: Epoch(request.epoch),
        operation,
    })
}

/// What the replica said.
pub(super) fn reply_to_proto(id: u64, outcome: Result<Reply, Refusal>) -> v1::ReplicaReply {
    let refilling = matches!(outcome, Ok(Reply::Refilling(_)));
    let outcome = match outcome.map(Reply::even_if_refilling) {
        Ok(Reply::Accepted { dot, record }) => {
            let dot = Some(dot_to_proto(dot));
            Outcome::Accepted(v1::Accepted { dot, record })
        }
        Ok(Reply::Superseded {
            greatest,
            may_be_over,
            record,
        }) => Outcome::Superseded(v1::Superseded {
            greatest: Some(rank_to_proto(greatest)),
            may_be_over,
            record,
        }),
        Ok(Reply::Behind) => Outcome::Behind(v1::Behind {}),
        Ok(Reply::Joined { greatest, standing }) => Outcome::Joined(v1::Joined {
            greatest: Some(rank_to_proto(greatest)),
            standing: standing_to_proto(standing).into(),
        }),
        Ok(Reply::Found { record }) => Outcome::Found(v1::Found { record }),
        Ok(Reply::Report(report)) => Outcome::Report(report_to_proto(report)),
        Ok(Reply::Adopted { adopted }) => Outcome::Adopted(v1::Adopted { adopted }),
        Ok(Reply::Maintained(maintained)) => {
            Outcome::Maintained(maintenance::answer_to_proto(maintained))
        }
        // One in another, which no node says.
        Ok(Reply::Refilling(_)) => Outcome::Refusal(refusal_to_proto(Refusal::Refilling)),
        Err(refusal) => Outcome::Refusal(refusal_to_proto(refusal)),
    };
    v1::ReplicaReply {
        id,
        outcome: Some(outcome),
        refilling,
    }
}

fn rank_to_proto(rank: Rank) -> v1::Rank {
    v1::Rank {
        stamp: rank.stamp.0,
        write_id_high: (rank.write_id.0 >> 64) as u64,
        write_id_low: rank.write_id.0 as u64,
    }
}

const fn standing_to_proto(standing: Standing) -> v1::Standing {
    match standing {
        Standing::Leading => v1::Standing::Leading,
        Standing::Overwritten => v1::Standing::Overwritten,
        Standing::Outstripped => v1::Standing::Outstripped,
    }
}

const fn standing_from_proto(standing: v1::Standing) -> Standing {
    match standing {
        v1::Standing::Leading => Standing::Leading,
        v1::Standing::Overwritten => Standing::Overwritten,
        v1::Standing::Outstripped => Standing::Outstripped,
    }
}

/// Absent is the least.
fn rank_from_proto(rank: Option<v1::Rank>) -> Rank {
    rank.map_or(Rank::default(), |rank| Rank {
        stamp: Stamp(rank.stamp),
        write_id: write_id(rank.write_id_high, rank.write_id_low),
    })
}

fn write_id(high: u64, low: u64) -> WriteId {
    WriteId(u128::from(high) << 64 | u128::from(low))
}

/// What the replica said. What makes no sense is no answer: the operation may have happened.
pub(super) fn answer_from_proto(reply: v1::ReplicaReply) -> Answer {
    let no_answer =
        |what: &str| CallError::NoAnswer(format!("the node answered something unreadable: {what}"));
    let refilling = reply.refilling;
    let answer = match reply.outcome {
        Some(Outcome::Accepted(stamped)) => {
            let dot = stamped
                .dot
                .ok_or_else(|| no_answer("a stamp without a dot"))?;
            let dot = dot_from_proto(dot);
            Reply::Accepted {
                dot,
                record: stamped.record,
            }
        }
        Some(Outcome::Superseded(superseded)) => Reply::Superseded {
            greatest: rank_from_proto(superseded.greatest),
            may_be_over: superseded.may_be_over,
            record: superseded.record,
        },
        Some(Outcome::Behind(v1::Behind {})) => Reply::Behind,
        Some(Outcome::Joined(joined)) => Reply::Joined {
            standing: standing_from_proto(joined.standing()),
            greatest: rank_from_proto(joined.greatest),
        },
        Some(Outcome::Found(found)) => Reply::Found {
            record: found.record,
        },
        Some(Outcome::Report(report)) => {
            let node =
                NodeId::new(report.node_id).map_err(|_| no_answer("a report without a name"))?;
            Reply::Report(NodeReport {
                node,
                incarnations: report.incarnations.into_iter().map(Actor).collect(),
                epoch: Epoch(report.epoch),
                wall_ms: report.wall_ms,
                keys: report.keys,
                disk_used_percent: report
                    .disk_used_percent
                    .map(|percent| u8::try_from(percent.min(100)).unwrap_or(100)),
                refuses_writes: report.refuses_writes,
                tombstones: report.tombstones,
                hints: report
                    .hints
                    .into_iter()
                    .filter_map(maintenance::hints_from_proto)
                    .collect(),
                refilling: report.refilling_ms.map(Duration::from_millis),
                release: Release::of_wire_version(report.wire_version.unwrap_or_default()),
                older_callers: older_callers(report.older_callers),
            })
        }
        Some(Outcome::Adopted(adopted)) => Reply::Adopted {
            adopted: adopted.adopted,
        },
        Some(Outcome::Maintained(maintained)) => Reply::Maintained(
            maintenance::answer_from_proto(maintained)
                .ok_or_else(|| no_answer("maintenance of some other kind"))?,
        ),
        Some(Outcome::Refusal(refusal)) => {
            let refusal =
                refusal_from_proto(refusal).ok_or_else(|| no_answer("an unknown refusal"))?;
            return Err(CallError::Refused(refusal));
        }
        None => return Err(no_answer("an unknown reply")),
    };
    Ok(match refilling {
        true => Reply::Refilling(Box::new(answer)),
        false => answer,
    })
}

fn stamp_to_proto(stamp: AcceptRequest) -> v1::Accept {
    let (overwrites_all, context) = match stamp.overwrites {
        Overwrites::All(context) => (true, context),
        Overwrites::Covered(context) => (false, context),
    };
    let shown = context.shown.iter();
    let (actors, counters) = shown.map(|(actor, counter)| (actor.0, counter)).unzip();
    let written = context.written.map(dot_to_proto);
    v1::Accept {
        key: stamp.key.as_bytes().clone(),
        write_id_high: (stamp.write_id.0 >> 64) as u64,
        write_id_low: stamp.write_id.0 as u64,
        stamp: stamp.stamp.0,
        overwrites_all,
        context: Some(v1::Context {
            actors,
            counters,
            written,
        }),
        value: match stamp.content {
            Content::Value(value) => Some(value),
            Content::Tombstone => None,
        },
        siblings_max: stamp.siblings_max.into(),
    }
}

fn stamp_from_proto(stamp: v1::Accept) -> Result<AcceptRequest, Refusal> {
    let v1::Context {
        actors,
        counters,
        written,
    } = stamp.context.unwrap_or_default();
    if actors.len() != counters.len() {
        return Err(Refusal::Malformed(
            "a context with more actors than counters, or fewer".into(),
        ));
    }
    let context = Context {
        shown: actors.into_iter().map(Actor).zip(counters).collect(),
        written: written.map(dot_from_proto),
    };
    Ok(AcceptRequest {
        key: key(stamp.key)?,
        write_id: write_id(stamp.write_id_high, stamp.write_id_low),
        stamp: Stamp(stamp.stamp),
        overwrites: if stamp.overwrites_all {
            Overwrites::All(context)
        } else {
            Overwrites::Covered(context)
        },
        content: stamp.value.map_or(Content::Tombstone, Content::Value),
        siblings_max: match stamp.siblings_max {
            0 => u16::MAX, // of a coordinator that knows of no limit
            most => u16::try_from(most).unwrap_or(u16::MAX),
        },
    })
}

fn judged_from_proto(judged: v1::Judged) -> Result<Judged, Refusal> {
    match (judged.dot, judged.rank) {
        (Some(dot), Some(rank)) => Ok(Judged {
            dot: dot_from_proto(dot),
            rank: rank_from_proto(Some(rank)),
        }),
        _ => Err(malformed(
            "a write that is asked about lacks its dot or its rank",
        )),
    }
}

fn dot_to_proto(dot: Dot) -> v1::Dot {
    v1::Dot {
        actor: dot.actor.0,
        counter: dot.counter,
    }
}

fn dot_from_proto(dot: v1::Dot) -> Dot {
    Dot {
        actor: Actor(dot.actor),
        counter: dot.counter,
    }
}

/// Names as a node told them, as far as people can be shown them.
fn older_callers(names: Vec<String>) -> Vec<Arc<str>> {
    let is_name = |name: &String| {
        (1..=CALLER_LEN_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let names = names.into_iter().filter(is_name).take(CALLERS_MAX);
    names.map(Arc::from).collect()
}

fn report_to_proto(report: NodeReport) -> v1::NodeReport {
    v1::NodeReport {
        node_id: report.node.as_str().into(),
        incarnations: report
            .incarnations
            .into_iter()
            .map(|actor| actor.0)
            .collect(),
        epoch: report.epoch.0,
        wall_ms: report.wall_ms,
        keys: report.keys,
        disk_used_percent: report.disk_used_percent.map(u32::from),
        refuses_writes: report.refuses_writes,
        tombstones: report.tombstones,
        hints: report
            .hints
            .into_iter()
            .map(maintenance::hints_to_proto)
            .collect(),
        refilling_ms: report
            .refilling
            .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        wire_version: Some(report.release.wire_version()),
        older_callers: report
            .older_callers
            .iter()
            .map(|name| String::from(&**name))
            .collect(),
    }
}

fn refusal_to_proto(refusal: Refusal) -> v1::Refusal {
    let plain = |kind: RefusalKind, text: String| v1::Refusal {
        kind: kind.into(),
        epoch: 0,
        text,
    };
    match refusal {
        Refusal::StaleEpoch { current } => v1::Refusal {
            kind: RefusalKind::StaleEpoch.into(),
            epoch: current.0,
            text: String::new(),
        },
        Refusal::WrongNode { actual } => plain(RefusalKind::WrongNode, actual.as_str().into()),
        Refusal::Unavailable(why) => plain(RefusalKind::Unavailable, why),
        Refusal::Overloaded => plain(RefusalKind::Overloaded, String::new()),
        Refusal::Damaged => plain(RefusalKind::Damaged, String::new()),
        Refusal::Purged => plain(RefusalKind::Purged, String::new()),
        Refusal::HandedOver => plain(RefusalKind::HandedOver, String::new()),
        Refusal::Refilling => plain(RefusalKind::Refilling, String::new()),
        Refusal::StorageFailed(why) => plain(RefusalKind::StorageFailed, why),
        Refusal::Crowded(why) => plain(RefusalKind::Crowded, why),
        Refusal::Malformed(why) => plain(RefusalKind::Malformed, why),
    }
}

fn refusal_from_proto(refusal: v1::Refusal) -> Option<Refusal> {
    Some(match refusal.kind() {
        RefusalKind::Unspecified => return None,
        RefusalKind::StaleEpoch => Refusal::StaleEpoch {
            current: Epoch(refusal.epoch),
        },
        RefusalKind::WrongNode => Refusal::WrongNode {
            actual: NodeId::new(refusal.text).ok()?,
        },
        RefusalKind::Unavailable => Refusal::Unavailable(refusal.text),
        RefusalKind::Overloaded => Refusal::Overloaded,
        RefusalKind::Damaged => Refusal::Damaged,
        RefusalKind::Purged => Refusal::Purged,
        RefusalKind::HandedOver => Refusal::HandedOver,
        RefusalKind::Refilling => Refusal::Refilling,
        RefusalKind::StorageFailed => Refusal::StorageFailed(refusal.text),
        RefusalKind::Crowded => Refusal::Crowded(refusal.text),
        RefusalKind::Malformed => Refusal::Malformed(refusal.text),
    })
}

#[cfg(test)]
#[path = "convert_test.rs"]
mod tests;
