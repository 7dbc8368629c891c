//! What has to come about while a storage node, or two, are still away: what the other owners hold becomes equal, they
//! owe each other nothing, and each key of which a majority of the owners is there is read at QUORUM.
//!
//! Looked at on disks, by owners that are told from the topology as it is stored. Not looked at is a record that is
//! damaged at one of the others: it is replaced by what *all* other owners hold, and by nothing less. Nor are worlds in
//! which owners are not compared: there a hint may lie with who is away.
//!
//! What this is not: that all owners become equal. They do when everybody is back: [`crate::settle`].

use std::collections::BTreeSet;

use bytes::Bytes;
use pairdb::ports::{RecordKey, Space};
use pairdb::quorum::Consistency;
use pairdb::version::Record;

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::excuse::Excuse;
use crate::settle::{Reader, owned, wait_until};
use crate::unaided::is_unaided;

/// Waits for that. Returns complaints.
pub async fn judged(cluster: &Cluster) -> Vec<String> {
    if cluster.world.away.is_empty() || is_unaided(&cluster.world) {
        return Vec::new();
    }
    let away: BTreeSet<Endpoint> = cluster.world.away.iter().copied().collect();
    let mut complaints = Vec::new();
    if !wait_until(|| differing(cluster, &away).0.is_none()).await {
        let differing = differing(cluster, &away).0.unwrap_or_default();
        complaints.push(format!("with {} away {differing}", named(&away)));
    }
    for _ in 0..differing(cluster, &away).1 {
        cluster.tap.excused(Excuse::Damaged);
    }
    complaints.extend(unread(cluster, &away).await);
    complaints
}

/// What is not as it should be, if anything is; and how many keys are left out because a record of them is damaged.
fn differing(cluster: &Cluster, away: &BTreeSet<Endpoint>) -> (Option<String>, usize) {
    let records = cluster.contents(Space::Records);
    let held = |who: &Endpoint, key: &RecordKey| records.get(who)?.get(key.as_bytes()).cloned();
    let is_damaged = |held: &Option<Bytes>| {
        let held = held.clone().map(Record::decode);
        held.is_some_and(|record| record.is_err())
    };
    let mut damaged = 0;
    for (key, owners) in owned(cluster) {
        let there = owners.iter().filter(|who| !away.contains(who));
        let held: Vec<Option<Bytes>> = there.map(|who| held(who, &key)).collect();
        if held.iter().any(is_damaged) {
            damaged += 1;
        } else if held.windows(2).any(|pair| pair[0] != pair[1]) {
            let what = format!("the other owners of {}/{} differ", key.tenant(), key.key());
            return (Some(what), damaged);
        }
    }
    // One that lost its disk takes nothing that would count before it has everything, so it may be owed something; and
    // whose record is damaged takes nothing of that key, and has nothing of it to give.
    let has_it_damaged = |who: &Endpoint, key: &Bytes| {
        let held = records.get(who).and_then(|held| held.get(key)).cloned();
        is_damaged(&held)
    };
    let takes = |to: &Endpoint, key: &Bytes| !cluster.is_refilling(*to) && !has_it_damaged(to, key);
    let hints = cluster.contents(Space::Hints).into_iter();
    for (who, hints) in hints.filter(|(who, _)| !away.contains(who)) {
        let owed = hints.keys().filter_map(owed_to);
        let owed = owed.filter(|(_, key)| !has_it_damaged(&who, key));
        let mut owed = owed.filter(|(id, key)| {
            let of = |to: &Endpoint| to.id() == *id;
            let mut there = cluster.world.storage().into_iter();
            there.any(|to| of(&to) && !away.contains(&to) && takes(&to, key))
        });
        if let Some((to, _)) = owed.next() {
            return (Some(format!("{who} still owes {to} something")), damaged);
        }
    }
    (None, damaged)
}

/// Whom a hint is for, by its name, and the record's key. (What is noted of a node as a whole names no key.)
fn owed_to(hint: &Bytes) -> Option<(String, Bytes)> {
    let length = usize::from(*hint.first()?);
    let id = hint.get(1..=length)?;
    let key = hint.slice(1 + length..);
    (!key.is_empty()).then(|| (String::from_utf8_lossy(id).into_owned(), key))
}

/// Reads every key at QUORUM of which a majority of the owners is there and counts. Returns complaints.
async fn unread(cluster: &Cluster, away: &BTreeSet<Endpoint>) -> Vec<String> {
    let mut reader = Reader::new(cluster);
    let mut complaints = Vec::new();
    let records = cluster.contents(Space::Records);
    // Who has it damaged answers nothing of it.
    let is_sound = |who: &Endpoint, key: &RecordKey| {
        let held = records.get(who).and_then(|held| held.get(key.as_bytes()));
        held.is_none_or(|held| Record::decode(held.clone()).is_ok())
    };
    for (key, owners) in owned(cluster) {
        let there = owners.iter().filter(|who| !away.contains(who));
        let counts = |who: &&Endpoint| !cluster.is_refilling(**who) && is_sound(who, &key);
        let counting = there.filter(counts).count();
        let mut tenants = cluster.world.tenants.iter();
        let tenant = tenants.position(|tenant| tenant.name == key.tenant());
        let Some(tenant) = tenant.filter(|_| counting > owners.len() / 2) else {
            continue;
        };
        let place = (tenant, key.key());
        if !reader.is_answered(place, Consistency::Quorum, 1).await {
            let (tenant, key) = (key.tenant(), key.key());
            complaints.push(format!(
                "with {} away {tenant}/{key} can't be read",
                named(away)
            ));
        }
    }
    complaints
}

fn named(away: &BTreeSet<Endpoint>) -> String {
    let names: Vec<String> = away.iter().map(ToString::to_string).collect();
    names.join(" and ")
}
