//! What a process of the release before is asked and answered: in its own words, and nothing that it does not know.
//!
//! What this is not: bytes. Adapters write what is decided here.

use super::{JoinSource, Maintenance, Operation, Refusal, Release, Reply};

impl Release {
    /// A question as it is asked in this release; `None`: it knows nothing of the kind.
    #[must_use]
    pub fn question(self, operation: Operation) -> Option<Operation> {
        match (self, operation) {
            (Self::Current, operation) => Some(operation),
            (Self::BeforeChangesOfOwners, Operation::Maintenance(task)) => match *task {
                Maintenance::RootsOf { .. }
                | Maintenance::Fence { .. }
                | Maintenance::DropTree { .. } => None,
                Maintenance::ForgetHints { partitions, .. } if !partitions.is_empty() => None,
                task => Some(Operation::Maintenance(Box::new(task))),
            },
            (
                Self::BeforeChangesOfOwners,
                Operation::Join {
                    key,
                    record,
                    judged,
                    source: JoinSource::Handoff,
                },
            ) => Some(Operation::Join {
                key,
                record,
                judged,
                source: JoinSource::Client,
            }),
            (Self::BeforeChangesOfOwners, operation) => Some(operation),
        }
    }

    /// What is answered to somebody of this release.
    ///
    /// # Errors
    /// The refusal, in words that it knows.
    pub fn answer(self, answer: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
        match (self, answer) {
            (Self::BeforeChangesOfOwners, Err(refusal @ Refusal::HandedOver)) => {
                Err(Refusal::Unavailable(refusal.to_string()))
            }
            (_, answer) => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Release::{BeforeChangesOfOwners as Before, Current};
    use super::*;
    use crate::placement::{NodeId, PartitionId};
    use crate::ports::{RecordKey, TenantId};
    use crate::version::Stamp;

    fn maintenance(task: Maintenance) -> Operation {
        Operation::Maintenance(Box::new(task))
    }

    #[test]
    fn what_the_older_one_does_not_know_is_not_asked() {
        let key = RecordKey::new(PartitionId(3), &TenantId::new("t").unwrap(), "k");
        let target = NodeId::new("n").unwrap();
        let (partition, after) = (PartitionId(1), None);
        let forget = |partitions| {
            let target = target.clone();
            maintenance(Maintenance::ForgetHints { target, partitions })
        };
        let fence = |partitions| {
            let (leaving, horizon) = (false, Stamp::ZERO);
            maintenance(Maintenance::Fence {
                partitions,
                leaving,
                horizon,
            })
        };
        let tree = key.tree();
        let unknown = [
            maintenance(Maintenance::RootsOf { partition, after }),
            fence(None),
            fence(Some(vec![partition])),
            maintenance(Maintenance::DropTree { tree }),
            forget(vec![partition]),
        ];
        for operation in unknown {
            assert_eq!(Before.question(operation.clone()), None, "{operation:?}");
            assert_eq!(Current.question(operation.clone()), Some(operation));
        }
        let join = |source| Operation::Join {
            key: key.clone(),
            record: Bytes::from_static(b"record"),
            judged: None,
            source,
        };
        let known = [
            Operation::Probe,
            Operation::Read { key: key.clone() },
            forget(Vec::new()),
            maintenance(Maintenance::Damaged),
            join(JoinSource::Client),
            join(JoinSource::Exchange),
        ];
        for operation in known {
            assert_eq!(Before.question(operation.clone()), Some(operation));
        }
        let handoff = Before.question(join(JoinSource::Handoff));
        assert_eq!(handoff, Some(join(JoinSource::Client)));
    }

    #[test]
    fn the_older_one_is_refused_in_words_that_it_knows() {
        let refused = Err(Refusal::HandedOver);
        assert_eq!(Current.answer(refused.clone()), refused);
        let known = Before.answer(refused);
        assert!(matches!(known, Err(Refusal::Unavailable(_))), "{known:?}");
        assert_eq!(
            Before.answer(Err(Refusal::Overloaded)),
            Err(Refusal::Overloaded)
        );
    }
}
