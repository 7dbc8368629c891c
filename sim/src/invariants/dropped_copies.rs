//! Promise 10: who owns a record no more drops its copy only when each of its owners holds all that is dropped.
//!
//! It is no purge: nothing of it was overwritten, and nothing is forgotten. Looked at on the spot, on the owners'
//! disks.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["drop"]);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::told::{Told, node, record_key};
    use crate::endpoint::Endpoint;
    use crate::excuse::Excuse;
    use crate::op::OpId;

    /// A fourth node, which held a write, drops it while two of the owners hold `held`.
    fn dropped_over(held: impl Fn(&mut Told, OpId) -> [Option<Bytes>; 2]) -> Told {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let old = told.record(&[write]).encode();
        let [one, other] = held(&mut told, write);
        let owners: [(Endpoint, Option<Bytes>); 2] = [(node(1), one), (node(2), other)];
        let now = told.now();
        let seen = &mut told.run.seen;
        seen.dropped(node(4), &record_key(), &old, &owners, now);
        told.owners_hold(&[write])
    }

    #[test]
    fn a_copy_is_dropped_that_all_owners_have() {
        let all = |told: &mut Told, write: OpId| {
            let record = told.record(&[write]).encode();
            [Some(record.clone()), Some(record)]
        };
        dropped_over(all).keeps_all();
    }

    #[test]
    fn no_copy_is_dropped_that_an_owner_lacks() {
        let some = |told: &mut Told, write: OpId| [Some(told.record(&[write]).encode()), None];
        let what = "n4 dropped a copy that n2 lacks";
        dropped_over(some).breaks("dropped copies", &[what]);
    }

    #[test]
    fn a_copy_may_be_dropped_that_an_owner_lost_since_it_was_looked_at() {
        let lost = |told: &mut Told, write: OpId| {
            let record = told.record(&[write]).encode();
            told.says(node(2), &record);
            told.loses(node(2), &record_key());
            [Some(record), None]
        };
        dropped_over(lost).needs(Excuse::LostSinceLookedAt);
        let damaged = |told: &mut Told, write: OpId| {
            let record = told.record(&[write]).encode();
            [Some(record), Some(Bytes::from_static(b"damaged"))]
        };
        dropped_over(damaged).needs(Excuse::Damaged);
    }

    #[test]
    fn an_owner_drops_no_copy() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let old = told.record(&[write]).encode();
        let now = told.now();
        let owners = [(node(1), None)];
        let seen = &mut told.run.seen;
        seen.dropped(node(1), &record_key(), &old, &owners, now);
        told.owners_hold(&[write])
            .breaks("dropped copies", &["n1 dropped a copy that it owns"]);
    }
}
