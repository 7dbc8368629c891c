//! Promise 6: a read with a context never returns less than the context covers, at any consistency, whatever was lost.

use pairdb::placement::Token;
use pairdb::quorum::{ConflictPolicy, Consistency};
use pairdb::version::Context;

use super::findings::Findings;
use super::quorum_reads::missed_sibling;
use crate::evidence::{Evidence, Fact};
use crate::op::Kind;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for read in evidence.run.ops.values().filter(|op| op.kind == Kind::Read) {
        let (Some(given), Some(answer)) = (read.given, read.success()) else {
            continue;
        };
        let Some(context) = answer.result.context() else {
            continue;
        };
        let tenant = &evidence.run.world.tenants[read.tenant].name;
        let token = Token::of_key(tenant, &read.key).0;
        let floor = Context::decode(&read.context, token);
        let (Ok(floor), Ok(context)) = (floor, Context::decode(context, token)) else {
            let what = format!("#{}: a context that was given out can't be read", read.id.0);
            findings.broken(read.tenant, &read.key, &[read.id, given], what);
            continue;
        };
        let written = floor.written.is_none_or(|dot| context.covers(dot));
        if !context.shown.descends(&floor.shown) || !written {
            let what = format!(
                "#{} answers less than the context of #{} covers",
                read.id.0, given.0
            );
            findings.broken(read.tenant, &read.key, &[read.id, given], what);
        }
        if evidence.policy(read.tenant) != ConflictPolicy::Siblings {
            continue;
        }
        let shown = evidence.shown_with_stamps(read);
        for write in evidence.known(given) {
            let fact = Fact {
                write,
                since: answer.at,
                owners: Consistency::One, // it is the client's knowledge that counts
                stamp: None,
                source: given,
                excuse: None,
            };
            if missed_sibling(evidence, shown, answer.at, &fact) {
                let what = format!(
                    "#{} gave the context of #{} and did not see #{}",
                    read.id.0, given.0, write.0
                );
                findings.broken(read.tenant, &read.key, &[read.id, given, write], what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pairdb::quorum::Consistency;

    use super::super::told::Told;

    #[test]
    fn a_read_answers_what_its_context_covers() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let read = told.read().shows(&[write]);
        let reading_on = told.read().at(Consistency::One).knowing(read);
        reading_on.shows(&[write]);
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn a_read_may_not_answer_less_than_its_context_covers() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let read = told.read().shows(&[write]);
        let reading_on = told.read().at(Consistency::One).knowing(read);
        reading_on.shows(&[]);
        let what = [
            "#3 answers less than the context of #2 covers",
            "#3 gave the context of #2 and did not see #1",
        ];
        told.owners_hold(&[write]).breaks("session floor", &what);
    }
}
