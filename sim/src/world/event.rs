//! Moments of a story that steps and faults can wait for, written as sentences: "first is answered".
//!
//! Few, and exact: each is something that a client does or that a storage node is asked or says, at the instant it
//! happens, so a story told with them goes the same way whatever latencies are drawn.

use std::fmt;
use std::str::FromStr;

use pairdb::placement::MoveState;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;

/// A moment. Steps are called by their names, or `u1.2` for the second step of the first client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Event {
    /// `first is sent`: the client has sent that step's request.
    Sent(String),
    /// `first is answered`: the client has the answer, or has given up.
    Answered(String),
    /// `first reaches n2`: the request to stamp it has arrived there, and nothing has been done about it yet.
    Reaches(String, Endpoint),
    /// `first is stamped`: some node has stamped it, durably as far as that node knows, and is about to say so.
    Stamped(String),
    /// `first is stamped by n2`: that node has.
    StampedBy(String, Endpoint),
    /// `first is joined by n2`: that node has joined a record with it, and is about to say so.
    JoinedBy(String, Endpoint),
    /// `n2 serves`: the process there has started again.
    Serves(Endpoint),
    /// `change 1 begins`: the topology that begins the first change of owners is stored.
    ChangeBegins(u32),
    /// `change 1 is turned back`: the one that cancels it is.
    ChangeTurnedBack(u32),
    /// `change 1 ends`: the one that ends it is.
    ChangeEnds(u32),
    /// `partition 0 is copying`, `partition 0 is handing over`, `partition 0 is moved`: a topology with that is stored.
    PartitionIs(u16, MoveState),
}

/// The states that partitions come to.
const STATES: [MoveState; 3] = [MoveState::Copying, MoveState::HandingOver, MoveState::Moved];

/// A sentence that is none of an [`Event`].
#[derive(Clone, Debug)]
pub struct UnknownEvent(String);

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "'{text}' is not an event; these are: 'STEP is sent', 'STEP is answered', 'STEP reaches n1', 'STEP is stamped', \
             'STEP is stamped by n1', 'STEP is joined by n1', 'n1 serves', 'change 1 begins', 'change 1 is turned back', \
             'change 1 ends', 'partition 0 is copying', 'partition 0 is handing over', 'partition 0 is moved'"
        )
    }
}

impl std::error::Error for UnknownEvent {}

impl Event {
    /// The step it is about.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Sent(step)
            | Self::Answered(step)
            | Self::Reaches(step, _)
            | Self::Stamped(step)
            | Self::StampedBy(step, _)
            | Self::JoinedBy(step, _) => Some(step),
            Self::Serves(_)
            | Self::ChangeBegins(_)
            | Self::ChangeTurnedBack(_)
            | Self::ChangeEnds(_)
            | Self::PartitionIs(..) => None,
        }
    }

    /// The process it is about.
    #[must_use]
    pub const fn process(&self) -> Option<Endpoint> {
        match self {
            Self::Reaches(_, who)
            | Self::StampedBy(_, who)
            | Self::JoinedBy(_, who)
            | Self::Serves(who) => Some(*who),
            Self::Sent(_)
            | Self::Answered(_)
            | Self::Stamped(_)
            | Self::ChangeBegins(_)
            | Self::ChangeTurnedBack(_)
            | Self::ChangeEnds(_)
            | Self::PartitionIs(..) => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(step) => write!(f, "{step} is sent"),
            Self::Answered(step) => write!(f, "{step} is answered"),
            Self::Reaches(step, who) => write!(f, "{step} reaches {who}"),
            Self::Stamped(step) => write!(f, "{step} is stamped"),
            Self::StampedBy(step, who) => write!(f, "{step} is stamped by {who}"),
            Self::JoinedBy(step, who) => write!(f, "{step} is joined by {who}"),
            Self::Serves(who) => write!(f, "{who} serves"),
            Self::ChangeBegins(number) => write!(f, "change {number} begins"),
            Self::ChangeTurnedBack(number) => write!(f, "change {number} is turned back"),
            Self::ChangeEnds(number) => write!(f, "change {number} ends"),
            Self::PartitionIs(number, state) => {
                write!(f, "partition {number} is {}", state.as_str())
            }
        }
    }
}

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let unknown = || UnknownEvent(text.to_owned());
        let who = |name: &str| name.parse::<Endpoint>().map_err(|_| unknown());
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| unknown());
        let state = |words: &[&str]| {
            let name = words.join(" ");
            let state = STATES.into_iter().find(|state| state.as_str() == name);
            state.ok_or_else(unknown)
        };
        let event = match words[..] {
            ["change", which, "begins"] => Self::ChangeBegins(number(which)?),
            ["change", which, "is", "turned", "back"] => Self::ChangeTurnedBack(number(which)?),
            ["change", which, "ends"] => Self::ChangeEnds(number(which)?),
            ["partition", which, "is", ref rest @ ..] => {
                let which = which.parse::<u16>().map_err(|_| unknown())?;
                Self::PartitionIs(which, state(rest)?)
            }
            [step, "is", "sent"] => Self::Sent(step.to_owned()),
            [step, "is", "answered"] => Self::Answered(step.to_owned()),
            [step, "reaches", name] => Self::Reaches(step.to_owned(), who(name)?),
            [step, "is", "stamped"] => Self::Stamped(step.to_owned()),
            [step, "is", "stamped", "by", name] => Self::StampedBy(step.to_owned(), who(name)?),
            [step, "is", "joined", "by", name] => Self::JoinedBy(step.to_owned(), who(name)?),
            [name, "serves"] => Self::Serves(who(name)?),
            _ => return Err(unknown()),
        };
        Ok(event)
    }
}

impl From<Event> for String {
    fn from(event: Event) -> Self {
        event.to_string()
    }
}

impl TryFrom<String> for Event {
    type Error = UnknownEvent;

    fn try_from(text: String) -> Result<Self, UnknownEvent> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_are_written() {
        for text in [
            "first is sent",
            "first is answered",
            "u1.2 reaches n3",
            "first is stamped",
            "first is stamped by n1",
            "first is joined by n2",
            "c1 serves",
            "change 1 begins",
            "change 2 is turned back",
            "change 1 ends",
            "partition 0 is copying",
            "partition 3 is handing over",
            "partition 65535 is moved",
        ] {
            let event: Event = text.parse().expect("it is an event");
            assert_eq!(event.to_string(), text);
        }
        for wrong in [
            "",
            "first",
            "first is read",
            "first reaches x",
            "serves n1",
            "change x ends",
            "partition 0 is waiting",
            "partition 65536 is moved",
        ] {
            assert!(wrong.parse::<Event>().is_err(), "{wrong}");
        }
    }
}
