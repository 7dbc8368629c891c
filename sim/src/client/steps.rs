//! A client that does what its steps say, one after the other, and says where an answer was not the expected one.

use std::time::Duration;

use bytes::Bytes;

use super::{Client, Terms};
use crate::op::{Answered, Ask, Kind, OpId};
use crate::pause::pause;
use crate::value;
use crate::world::{Act, Event, Expect, Given, Place, Step};

/// Between what a step waits for and the step itself: what follows on something is also later.
const MOMENT: Duration = Duration::from_micros(1);

impl Client {
    /// Carries out the plan's steps.
    pub(super) async fn follow(mut self) {
        let steps = self.plan.steps.clone();
        for (number, step) in (1..).zip(&steps) {
            let name = step.called(self.number, number);
            let story = self.cluster.story.clone();
            let since = step.at_us.unwrap_or_default();
            if !story.reach(step.after.as_ref(), since).await {
                let why = match &step.after {
                    Some(event) => format!("'{event}' did not happen in time"),
                    None => "chaos was over".to_owned(),
                };
                story.complain(None, format!("step {name} was never sent: {why}"));
                return;
            }
            if step.after.is_some() || step.at_us.is_none() {
                pause(MOMENT).await;
            }
            self.carry_out(&name, step).await;
            story.happens(Event::Answered(name));
        }
    }

    async fn carry_out(&mut self, name: &str, step: &Step) {
        let story = self.cluster.story.clone();
        let Some(ask) = self.asked_by(name, step) else {
            return;
        };
        story.named(ask.op, ask.name.as_deref().unwrap_or(name));
        let timeout_ms = step.timeout_ms.unwrap_or(self.plan.timeout_ms);
        let timeout = Duration::from_millis(timeout_ms);
        let gives_up = step.gives_up_us.map(Duration::from_micros);
        let terms = Terms {
            to: step.via,
            timeout,
            gives_up,
            aborts: Some(step.aborts),
        };
        let began = self.cluster.history.now();
        let answer = self.request(&ask, &terms);
        story.happens(Event::Sent(name.to_owned()));
        let answer = answer.await;
        let took = Duration::from_nanos(self.cluster.history.now() - began);
        let (kind, context) = match answer {
            None => (Expect::NoAnswer, None),
            Some(answer) => {
                let context = answer.answered.context().cloned();
                (self.with_names(&ask, answer.answered, answer.kind), context)
            }
        };
        if let Some(context) = context {
            if let Some(first) = &ask.name {
                story.gave(first, ask.op, context.clone());
            }
            story.gave(name, ask.op, context);
        }
        if let Some(expect) = &step.expect
            && !expect.is_met_by(&kind)
        {
            let what = format!("step {name} should come to '{expect}' and came to '{kind}'");
            story.complain(Some(ask.op), what);
        }
        let within = step.within_ms.map(Duration::from_millis);
        if let Some(within) = within.filter(|within| took > *within) {
            let what = format!("step {name} should take {within:?} at most and took {took:?}");
            story.complain(Some(ask.op), what);
        }
    }

    fn asked_by(&mut self, name: &str, step: &Step) -> Option<Ask> {
        let (kind, place) = match &step.act {
            Act::Write(place) => (Kind::Write, place),
            Act::Read(place) => (Kind::Read, place),
            Act::Delete(place) => (Kind::Delete, place),
            Act::Retry(first) => {
                let asked = self.cluster.story.asked(first);
                if asked.is_none() {
                    let what = format!("step {name} retries {first}, which was not sent");
                    self.cluster.story.complain(None, what);
                }
                return asked;
            }
        };
        let mut tenants = self.cluster.world.tenants.iter();
        let tenant = tenants.position(|tenant| tenant.name == place.tenant)?;
        let given = self.given(name, step, tenant, place);
        let ask = self.invoke(super::Wanted {
            tenant,
            key: place.key.clone(),
            kind,
            consistency: step.consistency,
            given,
            idempotency_key: step.idempotency_key.clone().map(Some),
            padding: step.padding,
        });
        if kind == Kind::Delete {
            self.cluster.story.deletes(&place.tenant, &place.key, name);
        }
        let ask = Ask {
            name: Some(name.to_owned()),
            ..ask
        };
        self.cluster.story.remember(name, &ask);
        Some(ask)
    }

    fn given(
        &self,
        name: &str,
        step: &Step,
        tenant: usize,
        place: &Place,
    ) -> Option<(OpId, Bytes)> {
        match &step.context {
            Given::Nothing => None,
            Given::Latest => self.latest(tenant, &place.key),
            Given::Of(other) => {
                let given = self.cluster.story.context(other);
                if given.is_none() {
                    let what = format!("step {name} brings the context of {other}, which has none");
                    self.cluster.story.complain(None, what);
                }
                given
            }
        }
    }

    /// The kind of answer, with the steps whose values it shows.
    fn with_names(&self, ask: &Ask, answered: Answered, kind: Expect) -> Expect {
        let Answered::Found { values, .. } = answered else {
            return kind;
        };
        let tenant = &self.cluster.world.tenants[ask.tenant].name;
        let name = |(bytes, _): &(Bytes, _)| {
            let op = value::parse(tenant, &ask.key, bytes);
            op.and_then(|op| self.cluster.story.name(op))
                .unwrap_or_else(|| "something-else".to_owned())
        };
        Expect::Shows(values.iter().map(name).collect())
    }
}
