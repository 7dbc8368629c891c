//! Promises 1, 4 and 10: what a client is answered is held by as many owners as the consistency asks for, of each set
//! of owners while they change: what a write's answer acknowledges, and what a read's answer shows, deletes among it.
//!
//! Told from the context of the answer, and from what storage nodes had said by then, each while it counted. Left out
//! is what a client knows of and nobody can have: who held it has lost it since, or it was deleted everywhere and
//! purged, which new owners are told and don't say.

use std::collections::{BTreeMap, BTreeSet};

use pairdb::placement::Token;
use pairdb::ports::RecordKey;
use pairdb::quorum::ConflictPolicy;
use pairdb::version::{Context, Dot, WriteId};

use super::findings::Findings;
use crate::endpoint::Endpoint;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Answer, Answered, Kind, Op, Time};
use crate::reign::{OwnersOf, Reign};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for op in evidence.run.ops.values() {
        // What comes later may have been asked for at another consistency.
        let answer = op.success().filter(|answer| !is_kept(answer));
        if let Some((what, excuse)) = answer.and_then(|answer| lacking(evidence, op, answer)) {
            findings.broken_unless(excuse, op.tenant, &op.key, &[op.id], what);
        }
    }
}

/// Whether it is the answer of an attempt before, as it was kept.
const fn is_kept(answer: &Answer) -> bool {
    matches!(
        answer.result,
        Answered::Written {
            is_duplicate: true,
            ..
        }
    )
}

/// What too few owners hold of what an answer shows, and what excuses that.
fn lacking(evidence: &Evidence, op: &Op, answer: &Answer) -> Option<(String, Option<Excuse>)> {
    let name = &evidence.run.world.tenants[op.tenant].name;
    let first = evidence.run.reigns.first()?;
    let key = first.record_key(name, &op.key);
    let by = op.last_to.filter(|_| op.attempts == 1);
    let during = (op.invoked, answer.at);
    let epochs = evidence.run.seen.attempts.epochs(by, &key, during);
    let reigns = epochs.iter().flat_map(|epoch| evidence.reigns_of(*epoch));
    let reigns: Vec<&Reign> = reigns.collect();
    if reigns.is_empty() {
        return None; // it was answered without owners
    }
    let holds = |dots: &[Dot], who: Endpoint| {
        let mut dots = dots.iter();
        dots.any(|dot| knows(evidence, who, &key, *dot, during))
    };
    let is_lacking = |dots: &Vec<Dot>| {
        let is_enough = |set: &OwnersOf| {
            let holding = set.nodes.iter().filter(|who| holds(dots, **who)).count();
            holding >= set.required(op.consistency)
        };
        let by = |reign: &&Reign| needed(reign, op.kind, &key).iter().all(is_enough);
        !reigns.iter().any(by)
    };
    let shown = shown(evidence, op, answer, &key)?;
    let lacking = shown.into_iter().filter(is_lacking);
    let lacking = lacking.map(|dots| (excuse(evidence, &key, &dots, answer.at), dots));
    let (excuse, lacking) = lacking.min_by_key(|(excuse, _)| excuse.is_some())?;
    let version = evidence.run.seen.versions.get(lacking.first()?)?;
    let of = version.op.map_or_else(
        || "a delete".to_owned(),
        |written| format!("the value of #{}", written.0),
    );
    let owners: BTreeSet<Endpoint> = reigns
        .iter()
        .flat_map(|reign| reign.owners(&key.tree()))
        .collect();
    let holding = owners.into_iter().filter(|who| holds(&lacking, *who));
    let holding: Vec<String> = holding.map(|who| who.to_string()).collect();
    let (id, holding) = (op.id.0, holding.join(", "));
    let what = format!("#{id} shows {of}, which too few owners hold: {holding}");
    Some((what, excuse))
}

/// The attempts of each write that an answer shows: those that its context covers, and where the last write wins the
/// one that is answered.
fn shown(evidence: &Evidence, op: &Op, answer: &Answer, key: &RecordKey) -> Option<Vec<Vec<Dot>>> {
    let context = answer.result.context()?;
    let context = Context::decode(context, Token::of_key(key.tenant(), &op.key).0).ok()?;
    let seen = &evidence.run.seen;
    // A node that has another attempt of a write has the write.
    let mut attempts_of: BTreeMap<WriteId, Vec<Dot>> = BTreeMap::new();
    for dot in seen.dots_of(key) {
        let version = seen.versions.get(dot)?;
        attempts_of.entry(version.write_id).or_default().push(*dot);
    }
    let mut shown: Vec<Vec<Dot>> = attempts_of.into_values().collect();
    shown.retain(|dots| dots.iter().any(|dot| context.covers(*dot)));
    if evidence.policy(op.tenant) == ConflictPolicy::LastWriteWins {
        // What the context covers beside it is left to the stamps where an owner has not seen it.
        let read = evidence.shown(op);
        let is_answered = |dots: &Vec<Dot>| {
            let written = dots.first().and_then(|dot| seen.versions.get(dot)?.op);
            match (op.kind, written) {
                (Kind::Write, Some(written)) => written == op.id,
                (Kind::Read, Some(written)) => read.contains(&written),
                (Kind::Write, None) => false,
                (Kind::Delete, written) => written.is_none(),
                (Kind::Read, None) => read.is_empty(),
            }
        };
        shown.retain(is_answered);
        let stamp = |dot: &Dot| {
            let version = seen.versions.get(dot)?;
            context.covers(*dot).then_some(version.stamp)
        };
        let rank = |dots: &Vec<Dot>| dots.iter().filter_map(stamp).max();
        shown = shown.into_iter().max_by_key(rank).into_iter().collect();
    }
    Some(shown)
}

/// What excuses that too few owners hold a write with these attempts: it was purged, or whoever held it has lost it.
fn excuse(evidence: &Evidence, key: &RecordKey, dots: &[Dot], until: Time) -> Option<Excuse> {
    let seen = &evidence.run.seen;
    let purged = seen.purged.get(key);
    let purged = |dot: &Dot| purged.is_some_and(|purged| purged.seen().covers(*dot));
    let lost = |dot: &Dot| seen.may_be_lost(*dot, until);
    let gone = dots.iter().all(|dot| purged(dot) || lost(dot));
    gone.then(|| match dots.iter().any(purged) {
        true => Excuse::PurgedEverywhere,
        false => Excuse::HoldersLost,
    })
}

/// The owners that have to hold what is answered. What a quorum of the old owners holds while a partition is copied is
/// copied, so reads need them alone; who is read then may have been written before the copying began.
fn needed(reign: &Reign, kind: Kind, key: &RecordKey) -> Vec<OwnersOf> {
    match kind {
        Kind::Read => reign.read_sets(&key.tree()),
        Kind::Write | Kind::Delete => reign.sets(&key.tree()),
    }
}

/// Whether a node had said to have a version, or what overwrote it, and has not lost it before the operation began.
fn knows(
    evidence: &Evidence,
    who: Endpoint,
    key: &RecordKey,
    dot: Dot,
    (from, until): (u64, u64),
) -> bool {
    let seen = &evidence.run.seen;
    let knowers = seen.knowers.get(&dot).into_iter().flatten();
    let mut said = knowers.filter(|(node, at)| *node == who && *at <= until);
    let lost = |since: u64| {
        let mut losses = seen.losses.iter();
        losses.any(|it| it.who == who && it.at >= since && it.at < from && it.concerns(key))
    };
    said.any(|(_, at)| !lost(*at))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pairdb::placement::Epoch;

    use super::super::told::{Told, node, record_key};
    use crate::excuse::Excuse;
    use crate::op::OpId;
    use crate::reign::tests::{founded, world};

    /// A coordinator asks by the first topology, and so many nodes say to hold a write.
    fn known_by(mut told: Told, write: OpId, nodes: u8) -> Told {
        told.run.reigns = vec![Arc::new(founded(&world()))];
        told.asked_by(Epoch(1));
        let record = told.record(&[write]).encode();
        for number in 1..=nodes {
            told.said_before(node(number), &record);
        }
        told
    }

    #[test]
    fn what_is_acknowledged_a_quorum_holds() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        known_by(told, write, 2).owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn what_is_acknowledged_no_fewer_may_hold() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let what = "#1 shows the value of #1, which too few owners hold: n1";
        known_by(told, write, 1).breaks("held by quorums", &[what]);
    }

    #[test]
    fn what_was_purged_everywhere_nobody_holds() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let mut told = known_by(told, write, 1);
        let purged = told.record(&[write]);
        told.run.seen.purged.insert(record_key(), purged);
        let told = told.owners_hold(&[write]);
        told.needs(Excuse::PurgedEverywhere);
    }

    #[test]
    fn what_a_read_shows_no_fewer_may_hold() {
        let mut told = Told::siblings();
        let write = told
            .write()
            .at(pairdb::quorum::Consistency::One)
            .acknowledged();
        told.read().shows(&[write]);
        let what = "#2 shows the value of #1, which too few owners hold: n1";
        known_by(told, write, 1).breaks("held by quorums", &[what]);
    }

    #[test]
    fn who_lost_it_before_holds_it_no_more() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let mut told = known_by(told, write, 2);
        told.loses(node(2), &record_key());
        told.read().shows(&[write]);
        let what = "#2 shows the value of #1, which too few owners hold: n1";
        told.breaks("held by quorums", &[what]);
    }
}
