//! What becomes of a request that claims a key, sentence by sentence.

use super::*;
use crate::version::{Stamp, WriteId};

const SECOND: Duration = Duration::from_secs(1);

const fn claim(request: u8, holder: u64) -> Claim {
    Claim {
        fingerprint: [request; 32],
        write_id: WriteId(holder as u128),
        stamp: Stamp(holder),
        holder,
    }
}

fn look(outcome: ClaimOutcome) -> Look {
    Claiming::new(claim(1, 1)).on_outcome(outcome, SECOND)
}

#[test]
fn a_key_that_nobody_has_is_this_requests() {
    let first = Claimed::First(claim(1, 1));
    assert_eq!(look(ClaimOutcome::Claimed), Look::Claimed(first));
}

#[test]
fn an_attempt_that_is_taken_over_keeps_its_write_and_its_stamp() {
    let taken = Claim {
        holder: 1,
        ..claim(1, 9)
    };
    let over = Look::Claimed(Claimed::TakenOver(taken));
    assert_eq!(look(ClaimOutcome::TakenOver(claim(1, 9))), over);
}

#[test]
fn an_answer_that_is_there_is_the_answer_unless_it_is_another_requests() {
    let answered = |request: u8| ClaimOutcome::Answered {
        fingerprint: [request; 32],
        answer: Bytes::from_static(b"answer"),
    };
    let answer = Claimed::Answered(Bytes::from_static(b"answer"));
    assert_eq!(look(answered(1)), Look::Claimed(answer));
    assert_eq!(look(answered(2)), Look::Conflict);
}

#[test]
fn a_key_that_another_request_is_at_work_on_is_a_conflict() {
    assert_eq!(look(ClaimOutcome::Pending(claim(2, 9))), Look::Conflict);
}

#[test]
fn an_attempt_at_work_is_looked_at_again_and_again_until_no_time_is_left() {
    let mut claiming = Claiming::new(claim(1, 1));
    let mut pauses = Vec::new();
    let mut left = SECOND;
    loop {
        match claiming.on_outcome(ClaimOutcome::Pending(claim(1, 9)), left) {
            Look::Again(pause) => {
                pauses.push(pause);
                left -= pause;
            }
            other => {
                assert_eq!(other, Look::InUse);
                break;
            }
        }
    }
    assert_eq!(pauses[..3], [PAUSE, PAUSE * 2, PAUSE * 4]);
    assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX));
    let last = pauses.len() - 1;
    assert!(
        pauses[last] < pauses[last - 1],
        "closer together near the deadline"
    );
    assert!(left < PAUSE);
}
