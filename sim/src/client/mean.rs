//! What clients do with idempotency keys that they should not, or that few do.

use bytes::Bytes;
use pairdb::coordinator::IdempotencyOutage;
use pairdb::placement::Token;
use pairdb::quorum::Consistency;
use pairdb::version::Context;

use super::{ANSWERED_MAX, Client};
use crate::op::{Answered, Ask, Kind};
use crate::value;
use crate::world::{Fault, FaultStep};

impl Client {
    /// Sends an answered write once more, perhaps long after it was answered. Returns whether there was one.
    pub(super) async fn repeats_late(&mut self) -> bool {
        if self.answered.is_empty() {
            return false;
        }
        let index = self.rng.below(self.answered.len() as u64) as usize;
        let ask = self.answered[index].clone();
        self.attempt(&ask).await;
        true
    }

    /// `ask` as it is retried: perhaps at another consistency, which is no other request.
    pub(super) fn perhaps_otherwise(&mut self, ask: &Ask) -> Ask {
        let consistency = match self.sometimes(self.plan.mean_permille) {
            true => self.any_consistency(),
            false => ask.consistency,
        };
        Ask {
            consistency,
            ..ask.clone()
        }
    }

    fn any_consistency(&mut self) -> Consistency {
        let levels = [Consistency::One, Consistency::Quorum, Consistency::All];
        self.rng.pick(&levels)
    }

    /// `ask`, which has an idempotency key, was answered: it is remembered, and perhaps sent again as something else.
    pub(super) async fn may_be_mean(&mut self, ask: Ask) {
        if self.plan.late_repeat_permille > 0 {
            self.answered.push(ask.clone());
            if self.answered.len() > ANSWERED_MAX {
                self.answered.remove(0);
            }
        }
        if !self.sometimes(self.plan.mean_permille) || !self.is_kept(&ask) {
            return;
        }
        match self.rng.below(5) {
            0 => self.asks_otherwise(&ask).await,
            1 => self.deletes_instead(ask).await,
            2 => self.knows_something_else(ask).await,
            3 => self.writes_something_else(ask).await,
            _ => self.names_another_key(ask).await,
        }
    }

    /// Whether the answer is known to be kept for its idempotency key.
    fn is_kept(&self, ask: &Ask) -> bool {
        let ops = self.cluster.history.op(ask.op);
        ops.is_some_and(|op| {
            let kept = |answer: &crate::op::Answer| {
                matches!(
                    answer.result,
                    Answered::Written {
                        without_idempotency: false,
                        ..
                    }
                )
            };
            // By mistake it may have another one's.
            op.key_of.is_none() && op.answers.iter().any(kept)
        })
    }

    /// The same with another consistency, which is no other request.
    async fn asks_otherwise(&mut self, ask: &Ask) {
        let other = Ask {
            consistency: self.any_consistency(),
            ..ask.clone()
        };
        self.attempt(&other).await;
    }

    /// A delete under the same idempotency key.
    async fn deletes_instead(&mut self, ask: Ask) {
        if ask.kind == Kind::Write {
            let other = self.another(&ask, Kind::Delete, ask.key.clone());
            self.attempt(&other).await;
        }
    }

    /// The same value with another context.
    async fn knows_something_else(&mut self, ask: Ask) {
        let context = match self.latest(ask.tenant, &ask.key) {
            Some((_, context)) => context,
            None => Default::default(),
        };
        if self.covers_the_same(&ask, &context) || self.may_go_without_claims() {
            return;
        }
        let other = self.another(&ask, ask.kind, ask.key.clone());
        // Under the name of the first: were it made after all, nobody could tell it from the first made once more.
        let other = Ask {
            value: ask.value,
            context,
            ..other
        };
        self.attempt(&other).await;
    }

    /// Whether this context says no more and no less than that of `ask`.
    fn covers_the_same(&self, ask: &Ask, context: &Bytes) -> bool {
        let tenant = &self.cluster.world.tenants[ask.tenant].name;
        let token = Token::of_key(tenant, &ask.key).0;
        let known = |context: &Bytes| Context::decode(context, token).unwrap_or_default();
        known(&ask.context) == known(context)
    }

    /// Whether a request may be served whatever was claimed before, or claims may be forgotten.
    fn may_go_without_claims(&self) -> bool {
        let world = &self.cluster.world;
        let forgets = |step: &FaultStep| matches!(step.fault, Fault::ForgetClaims);
        let degrades = world.coordinator.idempotency_outage == IdempotencyOutage::Degrade;
        degrades || world.faults.iter().any(forgets)
    }

    /// Another value.
    async fn writes_something_else(&mut self, ask: Ask) {
        let other = self.another(&ask, Kind::Write, ask.key.clone());
        self.attempt(&other).await;
    }

    /// The same idempotency key for another key: a write of its own.
    async fn names_another_key(&mut self, ask: Ask) {
        let keys = self.cluster.world.tenants[ask.tenant].keys;
        let key = value::key_name(self.rng.below(u64::from(keys)) as u8);
        if key != ask.key {
            let mut other = self.another(&ask, Kind::Write, key);
            other.context = Default::default();
            self.attempt(&other).await;
        }
    }

    /// Another operation under the idempotency key of `ask`.
    fn another(&mut self, ask: &Ask, kind: Kind, key: String) -> Ask {
        let is_same_key = key == ask.key;
        let padding = self.padding();
        let other = self.invoke(super::Wanted {
            tenant: ask.tenant,
            key,
            kind,
            consistency: ask.consistency,
            given: None,
            idempotency_key: ask.idempotency_key.clone().map(Some),
            padding,
        });
        if is_same_key {
            self.cluster.history.has_key_of(other.op, ask.op);
        }
        other
    }
}
