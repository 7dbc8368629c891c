//! Promise 3: under `siblings` nothing stays that an acknowledged write overwrote knowingly, however often that was
//! attempted and at however many owners; and a write is shown once, however many owners stamped it. (That nothing
//! concurrent is overwritten is [`super::no_lost_write`]'s, and what a delete overwrote
//! [`super::deletes_stay_deleted`]'s.)

use pairdb::quorum::ConflictPolicy;

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::op::{Kind, OpId, Time};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        if evidence.policy(tenant) != ConflictPolicy::Siblings {
            continue;
        }
        for read in evidence
            .ops_of(tenant, key)
            .filter(|op| op.kind == Kind::Read)
        {
            let mut shown: Vec<OpId> = evidence
                .shown_with_stamps(read)
                .iter()
                .map(|(op, _)| *op)
                .collect();
            shown.sort_unstable();
            let twice = shown.windows(2).filter(|pair| pair[0] == pair[1]);
            let twice = twice.map(|pair| pair[0]);
            let twice = twice.min_by_key(|op| evidence.may_be_remade(*op).is_some());
            if let Some(twice) = twice {
                let excuse = evidence.may_be_remade(twice);
                let what = format!("#{} was shown #{} twice", read.id.0, twice.0);
                findings.broken_unless(excuse, tenant, key, &[read.id, twice], what);
            }
        }
        let last = evidence.final_record(tenant, key);
        let values = last.shown().filter_map(|version| version.value());
        for sibling in values.filter_map(|value| evidence.writer(tenant, key, value)) {
            let overwriters = evidence.overwriters(sibling, Time::MAX);
            let overwriters =
                overwriters.filter(|op| op.kind == Kind::Write && op.success().is_some());
            let overwriters = overwriters.map(|op| (op, evidence.may_be_gone(op.id)));
            let overwriter = overwriters.min_by_key(|(_, gone)| gone.is_some());
            if let Some((overwriter, gone)) = overwriter {
                let excuse = evidence.may_be_remade(sibling).or(gone);
                let what = format!(
                    "#{} is still there beside #{}, which overwrote it",
                    sibling.0, overwriter.id.0
                );
                findings.broken_unless(excuse, tenant, key, &[sibling, overwriter.id], what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pairdb::version::Stamp;

    use super::super::told::{Told, record_key};
    use crate::excuse::Excuse;

    #[test]
    fn what_was_overwritten_knowingly_goes_and_what_was_not_stays() {
        let mut told = Told::siblings();
        let first = told.write().acknowledged();
        let read = told.read().shows(&[first]);
        let second = told.write().knowing(read).acknowledged();
        let third = told.write().acknowledged();
        told.owners_hold(&[second, third]).keeps_all();
    }

    #[test]
    fn a_write_may_be_shown_twice_whose_name_is_forgotten() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        told.stamped_again(write, 1);
        let forgotten = &mut told.run.seen.forgotten;
        forgotten.insert(record_key(), Stamp::new(1_000, 0));
        told.read().shows(&[write, write]);
        told.owners_hold(&[write]).needs(Excuse::ForgottenAttempt);
    }

    #[test]
    fn what_was_overwritten_knowingly_may_not_stay() {
        let mut told = Told::siblings();
        let first = told.write().acknowledged();
        let read = told.read().shows(&[first]);
        let second = told.write().knowing(read).acknowledged();
        let what = "#1 is still there beside #3, which overwrote it";
        told.owners_hold(&[first, second])
            .breaks("exact conflicts", &[what]);
    }
}
