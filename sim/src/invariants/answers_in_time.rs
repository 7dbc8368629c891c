//! Promise 13, in part: a coordinator that runs answers within the deadline, success or not.

use super::findings::Findings;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence, findings: &mut Findings<'_>) {
    for late in &evidence.run.late_answers {
        findings.broken_for_all(late.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::Told;

    #[test]
    fn an_answer_in_time_is_fine() {
        let mut told = Told::siblings();
        told.read().takes(900).shows(&[]);
        told.keeps_all();
    }

    #[test]
    fn an_answer_after_its_deadline_is_told() {
        let mut told = Told::siblings();
        told.read().takes(2_000).shows(&[]);
        told.run.late_answers.push("c1 took 2s for #1".to_owned());
        told.breaks("answers in time", &["c1 took 2s for #1"]);
    }
}
