//! Who missed a write is noted by an owner that has it, durably, and gets it when it is back.
//!
//! The coordinator only says so; it keeps nothing. If it dies between the answer and the hint, or no owner takes the hint,
//! the difference is found when owners are compared.

use super::owners::{Answer, Owners};
use super::service::Coordinator;
use crate::marks::{self, Mark};
use crate::ports::{Clock, CoordinatorWorld, Operation, RecordKey, Reply, Upkeep, Upkept};
use crate::sabotage::{self, Sabotage};

impl<W: CoordinatorWorld> Coordinator<W> {
    /// Has one of `holders`, who have the record of `key`, note that those in `missed` may lack it.
    pub(super) async fn hint(
        &self,
        owners: &Owners<W>,
        key: &RecordKey,
        replication_factor: u8,
        holders: &[usize],
        missed: &[usize],
    ) {
        if missed.is_empty() || sabotage::on(Sabotage::HintSkipped) {
            return;
        }
        let targets: Vec<_> = missed.iter().map(|p| owners.node(*p).clone()).collect();
        for holder in holders {
            let hint = Upkeep::Hint {
                key: key.clone(),
                targets: targets.clone(),
            };
            let deadline = self.clock().now() + self.settings().write_timeout;
            let hint = Operation::Upkeep(Box::new(hint));
            let Answer { result, .. } = owners.call(*holder, hint, deadline).await;
            if matches!(result, Ok(Reply::Upkept(Upkept::Done))) {
                return;
            }
        }
        marks::reached(Mark::HintNotTaken);
        self.queue_repair(key, replication_factor);
    }
}
