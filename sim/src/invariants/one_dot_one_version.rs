//! A dot names one write for ever, of one key, and what nodes send can be read (specification, section 2).

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    findings.contradictions(evidence, &["one dot, one version", "well-formed"]);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pairdb::version::{Record, WriteId};

    use super::super::told::{Told, node};
    use crate::seen::Sighting;

    #[test]
    fn a_version_is_the_same_wherever_it_is_seen() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let record = told.record(&[write]).encode();
        told.says(node(1), &record);
        told.says(node(2), &record);
        told.owners_hold(&[write]).keeps_all();
    }

    #[test]
    fn a_dot_may_not_name_two_versions() {
        let mut told = Told::siblings();
        let write = told.write().acknowledged();
        let mut other = told.record(&[write]).siblings()[0].clone();
        let first = told.run.seen.versions[&other.dot].clone();
        other.write_id = WriteId(99);
        let second = Sighting {
            write_id: other.write_id,
            at: told.now(),
            ..first.clone()
        };
        let what = format!("{} is {first:?} and {second:?}", other.dot);
        let seen = told.record(&[write]).seen().clone();
        let record = Record::new(seen, vec![other]).expect("a record that can be");
        told.says(node(1), &record.encode());
        told.owners_hold(&[write])
            .breaks("one dot, one version", &[&what]);
    }

    #[test]
    fn what_nodes_send_must_be_readable() {
        let mut told = Told::siblings();
        told.says(node(1), &Bytes::from_static(b"nothing"));
        let error = Record::decode(Bytes::from_static(b"nothing")).expect_err("no record");
        told.breaks("one dot, one version", &[&format!("n1: {error}")]);
    }
}
