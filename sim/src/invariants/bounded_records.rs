//! A record can't outgrow what can be read: no node's writes of a key leave more beside the last of them than a write
//! may leave, in values that readers are shown and in bytes; and none leaves tombstones, which readers are not shown,
//! to pile up.
//!
//! A node holds all that it ever stamped and that was not overwritten, so what of that stands in any record stood
//! beside its last write. Owners that stamp at the same time may each leave as much.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    let replica = &evidence.run.world.replica;
    for (key, left) in &evidence.run.seen.left {
        let too_much = [
            ("values", left.shown, replica.siblings_max.saturating_sub(1)),
            ("bytes", left.bytes, replica.siblings_bytes_max),
            ("tombstones", left.tombstones, 0),
        ];
        for (what, left, most) in too_much {
            if left > most {
                let (tenant, key) = (key.tenant(), key.key());
                findings.broken_for_all(format!(
                    "{tenant}/{key}: one node left {left} {what} beside its last write, and at most {most} may be left"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pairdb::version::{Actor, Content, Record, Stamp, Version, VersionVector, WriteId};

    use super::super::told::{Told, node};
    use crate::world::World;

    /// A node says to hold two values that it stamped itself.
    fn two_values_of_one_node() -> Told {
        let mut told = Told::siblings();
        let mut seen = VersionVector::default();
        let mut value = |text: &'static str| Version {
            dot: seen.increment(Actor(9 << 48)),
            write_id: WriteId(text.len() as u128),
            stamp: Stamp::new(1, 0),
            content: Content::Value(text.into()),
        };
        let values = vec![value("one"), value("another")];
        let record = Record::new(seen, values).expect("a record that can be");
        told.says(node(1), &record.encode());
        told
    }

    #[test]
    fn a_node_may_leave_a_value_beside_its_last_write() {
        let room_for_two = |world: &mut World| world.replica.siblings_max = 2;
        two_values_of_one_node().with(room_for_two).keeps_all();
    }

    #[test]
    fn a_node_may_not_leave_more_values_than_there_is_room_for() {
        let room_for_one = |world: &mut World| world.replica.siblings_max = 1;
        let what = "t/k: one node left 1 values beside its last write, and at most 0 may be left";
        let told = two_values_of_one_node().with(room_for_one);
        told.breaks("bounded records", &[what]);
    }
}
