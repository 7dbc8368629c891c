//! A record can't outgrow what can be read: no node's writes of a key leave more beside the last of them than a write may
//! leave, in values that readers are shown and in bytes; and none leaves tombstones, which readers are not shown, to pile up.
//!
//! A node holds all that it ever stamped and that was not overwritten, so what of that stands in any record stood beside its
//! last write. Owners that stamp at the same time may each leave as much.

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
