//! Promises 4 and 5 once more, by a checker that knows nothing of stamps: under `last_write_wins` a key is a
//! linearizable register for its quorum operations.
//!
//! Checked are keys of tenants with `last_write_wins`, with any number of clients, by stateright's
//! [`LinearizabilityTester`]. Time-outs are in flight for ever: such a write may take effect at any time after it
//! began, so it counts from the first read on that returned it, and not at all if there is none. Writes at ONE promise
//! no more than that, and count alike.
//!
//! Not checked, and left out together with the reads that returned them: writes that were stamped again while an owner
//! asked before had not said how they stand (that may be two effects, and between them a third write may have been
//! seen), writes that may have been made anew (no claim held an attempt back), and deletes
//! that were not acknowledged, together with all answers "not there" after them. To leave out a write and all its reads
//! never makes a linearizable history one that is not. Nor is anything after more was lost than the other owners can
//! give back.
//!
//! The search is exponential at worst, so it is bounded: histories are cut where the register's value is certain (after
//! an operation that overlaps no other one), what is between two cuts is [`WINDOW_MAX`] operations at most, and each
//! search ends undecided after [`STEPS_MAX`] steps.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use pairdb::quorum::{ConflictPolicy, Consistency};
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::findings::Findings;
use crate::evidence::Evidence;
use crate::excuse::Excuse;
use crate::op::{Kind, Op, OpId, Time};

/// How many operations one search is about.
const WINDOW_MAX: usize = 32;
/// How many steps one search may take.
const STEPS_MAX: u32 = 4_000;

/// What the register holds: a write's value, or none.
type Value = Option<OpId>;

/// A register that takes no more steps at some point, so that a search ends.
#[derive(Clone)]
struct Bounded {
    register: Register<Value>,
    steps_left: Rc<Cell<u32>>,
}

/// An operation on the register, and what it returned.
#[derive(Clone, Debug)]
struct Step {
    id: OpId,
    from: Time,
    to: Time,
    op: RegisterOp<Value>,
    ret: RegisterRet<Value>,
}

impl SequentialSpec for Bounded {
    type Op = RegisterOp<Value>;
    type Ret = RegisterRet<Value>;

    fn invoke(&mut self, op: &Self::Op) -> Self::Ret {
        self.register.invoke(op)
    }

    fn is_valid_step(&mut self, op: &Self::Op, ret: &Self::Ret) -> bool {
        let left = self.steps_left.get();
        self.steps_left.set(left.saturating_sub(1));
        left > 0 && self.register.is_valid_step(op, ret)
    }
}

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for (tenant, key) in evidence.keys() {
        if evidence.policy(tenant) != ConflictPolicy::LastWriteWins {
            continue;
        }
        for window in windows(history(evidence, tenant, key, findings)) {
            if window.is_cut {
                findings.excused(Excuse::WindowCut);
            }
            let verdict = is_linearizable(&window);
            if verdict.is_none() {
                findings.excused(Excuse::SearchGivenUp);
            }
            if verdict == Some(false) {
                let steps = window.steps.iter();
                let ids: Vec<OpId> = steps.map(|step| step.id).collect();
                let what = format!("{} can't have happened in any order", describe(&window));
                findings.broken(tenant, key, &ids, what);
            }
        }
    }
}

/// Operations between two cuts, and what the register held before them.
struct Window {
    before: Value,
    steps: Vec<Step>,
    /// Whether there were more.
    is_cut: bool,
}

/// The operations on one key, in the order of their beginnings. What is left out of them is told to `findings`.
fn history(
    evidence: &Evidence,
    tenant: usize,
    key: &str,
    findings: &mut Findings<'_>,
) -> Vec<Step> {
    let (end, excuse) = evidence.may_be_missed_from(tenant, key);
    let ops = evidence.ops_of(tenant, key);
    let (ops, after): (Vec<&Op>, Vec<&Op>) = ops.partition(|op| op.invoked < end);
    if !after.is_empty() {
        findings.excused(excuse);
    }
    let completed = |op: &Op| {
        let done = evidence.settled(op).filter(|at| *at < end)?;
        (op.consistency != Consistency::One).then_some(done)
    };

    let doubtful_deletes = evidence.a_tombstone_was_stamped_twice(tenant, key);
    let deletes = ops
        .iter()
        .filter(|op| op.kind == Kind::Delete && op.may_have_happened());
    let doubtful = deletes.filter(|op| doubtful_deletes || completed(op).is_none());
    let no_deletes_from = doubtful.map(|op| op.invoked).min().unwrap_or(Time::MAX);

    let mut reads = Vec::new();
    for op in ops.iter().filter(|op| op.kind == Kind::Read) {
        if let Some(to) = completed(op) {
            let shown = evidence.shown(op).into_iter().next();
            reads.push(step(op, to, RegisterOp::Read, RegisterRet::ReadOk(shown)));
        }
    }
    let mut steps = Vec::new();
    let mut left_out = BTreeSet::new();
    for op in ops.iter().filter(|op| op.kind != Kind::Read) {
        let value = (op.kind == Kind::Write).then_some(op.id);
        let stamped_twice = evidence.stamps(op.id).len() > 1;
        let unheard = stamped_twice && evidence.was_raised_unheard(op.id);
        let unheard = unheard.then_some(Excuse::RaisedUnheard);
        let twice = unheard.or_else(|| evidence.may_be_remade(op.id));
        let seen = reads
            .iter()
            .filter(|read| value.is_some() && returned(read) == Some(value));
        let to = completed(op).or_else(|| seen.map(|read| read.to).min());
        match to {
            _ if twice.is_some() => {
                left_out.insert(op.id);
                twice
                    .into_iter()
                    .for_each(|excuse| findings.excused(excuse));
            }
            Some(_) if op.kind == Kind::Delete && (doubtful_deletes || completed(op).is_none()) => {
            }
            Some(to) => steps.push(step(op, to, RegisterOp::Write(value), RegisterRet::WriteOk)),
            None => {}
        }
    }
    reads.retain(|read| match returned(read) {
        Some(Some(write)) => !left_out.contains(&write),
        _ => {
            let certain = read.to < no_deletes_from;
            if !certain {
                findings.excused(Excuse::DoubtfulDelete);
            }
            certain
        }
    });
    steps.append(&mut reads);
    steps.sort_by_key(|step| (step.from, step.id));
    steps
}

fn step(op: &Op, to: Time, what: RegisterOp<Value>, ret: RegisterRet<Value>) -> Step {
    Step {
        id: op.id,
        from: op.invoked,
        to,
        op: what,
        ret,
    }
}

fn returned(read: &Step) -> Option<Value> {
    match read.ret {
        RegisterRet::ReadOk(value) => Some(value),
        RegisterRet::WriteOk => None,
    }
}

/// Cuts a history where its value is certain. Between a window that was too long and the next cut nothing is checked.
fn windows(steps: Vec<Step>) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut before: Option<Value> = Some(None);
    let mut current: Vec<Step> = Vec::new();
    let mut cut = |before: Option<Value>, steps: &mut Vec<Step>| {
        let mut steps = std::mem::take(steps);
        if let Some(before) = before {
            let is_cut = steps.len() > WINDOW_MAX;
            if is_cut {
                let rest = steps.split_off(WINDOW_MAX);
                forget_unknown(before, &mut steps, rest[0].from);
            }
            if is_cut || steps.iter().any(|step| returned(step).is_some()) {
                windows.push(Window {
                    before,
                    steps,
                    is_cut,
                });
            }
        }
    };
    let mut steps = steps.into_iter().peekable();
    let mut busy_until = 0;
    while let Some(step) = steps.next() {
        let next = steps.peek().map_or(Time::MAX, |next| next.from);
        let alone = step.from > busy_until && next > step.to;
        busy_until = busy_until.max(step.to);
        if !alone {
            current.push(step);
            continue;
        }
        let after = match (&step.op, &step.ret) {
            (RegisterOp::Write(value), _) | (_, RegisterRet::ReadOk(value)) => *value,
            _ => None,
        };
        if returned(&step).is_some() {
            current.push(step);
        }
        cut(before, &mut current);
        before = Some(after);
    }
    cut(before, &mut current);
    windows
}

/// Leaves out reads of what is not there: of other writes, and of nothing where a delete from `rest_from` on may have
/// made it so.
fn forget_unknown(before: Value, steps: &mut Vec<Step>, rest_from: Time) {
    let written: BTreeSet<Value> = steps
        .iter()
        .filter_map(|step| match step.op {
            RegisterOp::Write(value) => Some(value),
            RegisterOp::Read => None,
        })
        .chain([before])
        .collect();
    steps.retain(|step| match returned(step) {
        Some(None) => written.contains(&None) && step.to < rest_from,
        Some(value) => written.contains(&value),
        None => true,
    });
}

/// `None` when the search was given up.
fn is_linearizable(window: &Window) -> Option<bool> {
    let steps_left = Rc::new(Cell::new(STEPS_MAX));
    let register = Bounded {
        register: Register(window.before),
        steps_left: Rc::clone(&steps_left),
    };
    let mut tester = LinearizabilityTester::new(register);
    // One thread for each operation, in the order of their ends: the likeliest order is tried first.
    let mut threads: Vec<usize> = (0..window.steps.len()).collect();
    threads.sort_by_key(|index| (window.steps[*index].to, *index));
    let ends = threads
        .iter()
        .enumerate()
        .map(|(thread, index)| (window.steps[*index].to, true, thread, *index));
    let starts = threads
        .iter()
        .enumerate()
        .map(|(thread, index)| (window.steps[*index].from, false, thread, *index));
    let mut events: Vec<_> = starts.chain(ends).collect();
    events.sort_unstable();
    for (_, is_end, thread, index) in events {
        let step = &window.steps[index];
        let noted = match is_end {
            false => tester.on_invoke(thread, step.op.clone()).map(drop),
            true => tester.on_return(thread, step.ret.clone()).map(drop),
        };
        noted.ok()?;
    }
    match tester.is_consistent() {
        true => Some(true),
        false if steps_left.get() == 0 => None,
        false => Some(false),
    }
}

fn describe(window: &Window) -> String {
    let name = |value: &Value| value.map_or("nothing".to_owned(), |op| format!("#{}", op.0));
    let mut parts = vec![format!("from {} on", name(&window.before))];
    parts.extend(window.steps.iter().map(|step| match (&step.op, &step.ret) {
        (RegisterOp::Write(Some(_)), _) => format!("#{} writes", step.id.0),
        (RegisterOp::Write(None), _) => format!("#{} deletes", step.id.0),
        (_, RegisterRet::ReadOk(value)) => format!("#{} reads {}", step.id.0, name(value)),
        (_, RegisterRet::WriteOk) => String::new(),
    }));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;
    use super::*;

    #[test]
    fn a_history_that_some_order_explains_is_fine() {
        let mut told = Told::last_write_wins();
        let first = told.write().acknowledged();
        told.read().shows(&[first]);
        let second = told.write().acknowledged();
        told.read().shows(&[second]);
        told.owners_hold(&[second]).keeps_all();
    }

    #[test]
    fn a_history_that_no_order_explains_is_told() {
        let mut told = Told::last_write_wins();
        let first = told.write().acknowledged();
        let second = told.write().acknowledged();
        told.read().shows(&[first]);
        let what = "from #2 on, #3 reads #1 can't have happened in any order";
        told.owners_hold(&[second])
            .breaks("linearizability", &[what]);
    }

    fn write(id: u32, from: Time, to: Time) -> Step {
        let op = RegisterOp::Write(Some(OpId(id)));
        Step {
            id: OpId(id),
            from,
            to,
            op,
            ret: RegisterRet::WriteOk,
        }
    }

    fn read(id: u32, value: u32, from: Time, to: Time) -> Step {
        let value = (value > 0).then_some(OpId(value));
        Step {
            id: OpId(id),
            from,
            to,
            op: RegisterOp::Read,
            ret: RegisterRet::ReadOk(value),
        }
    }

    fn verdicts(steps: Vec<Step>) -> Vec<Option<bool>> {
        windows(steps).iter().map(is_linearizable).collect()
    }

    #[test]
    fn a_read_returns_what_was_written_last() {
        assert_eq!(
            verdicts(vec![write(1, 1, 2), read(2, 1, 3, 4)]),
            [Some(true)]
        );
        assert_eq!(
            verdicts(vec![write(1, 1, 2), read(2, 0, 3, 4)]),
            [Some(false)]
        );
        let older = vec![write(1, 1, 2), write(2, 3, 4), read(3, 1, 5, 6)];
        assert_eq!(verdicts(older), [Some(false)]);
    }

    #[test]
    fn a_window_that_is_cut_short_forgets_what_a_later_delete_may_have_made() {
        let delete = |id, from, to| Step {
            op: RegisterOp::Write(None),
            ..write(id, from, to)
        };
        let mut steps = vec![write(1, 1, 1_000), delete(2, 2, 3)];
        steps.extend((3..32).map(|id| write(id, 10 * Time::from(id), 10 * Time::from(id) + 1)));
        steps.push(read(32, 0, 900, 990));
        steps.push(delete(33, 910, 920));
        assert_eq!(steps.len(), WINDOW_MAX + 1);
        let verdicts = verdicts(steps);
        assert!(!verdicts.contains(&Some(false)), "{verdicts:?}");
    }

    #[test]
    fn concurrent_writes_come_in_one_order_for_all() {
        let both = |second, third| {
            vec![
                write(1, 1, 10),
                write(2, 2, 9),
                read(3, second, 11, 12),
                read(4, third, 13, 14),
            ]
        };
        assert_eq!(verdicts(both(1, 1)), [Some(true), Some(true)]);
        assert_eq!(verdicts(both(2, 2)), [Some(true), Some(true)]);
        assert_eq!(verdicts(both(1, 2)), [Some(true), Some(false)]);
    }

    #[test]
    fn a_read_beside_a_write_returns_either_and_never_goes_back() {
        let beside = |first, second| {
            vec![
                write(1, 1, 2),
                write(2, 3, 20),
                read(3, first, 4, 5),
                read(4, second, 6, 7),
            ]
        };
        for (first, second, fine) in [(1, 1, true), (1, 2, true), (2, 2, true), (2, 1, false)] {
            assert_eq!(
                verdicts(beside(first, second)),
                [Some(fine)],
                "{first} {second}"
            );
        }
    }

    #[test]
    fn a_long_search_is_given_up_and_a_long_window_cut() {
        let mut steps: Vec<Step> = (1..=12).map(|id| write(id, 1, 100)).collect();
        steps.push(read(50, 1, 101, 102));
        steps.push(read(51, 99, 101, 103));
        assert_eq!(verdicts(steps), [None]);
        let mut steps: Vec<Step> = (1..=40).map(|id| write(id, 1, 100)).collect();
        steps.push(read(50, 39, 2, 99));
        let windows = windows(steps);
        let [window] = &windows[..] else {
            panic!("one window")
        };
        assert!(window.is_cut);
        let mut reads = window.steps.iter().filter_map(returned);
        assert_eq!(reads.next(), None, "its reads are beyond the cut");
    }
}
