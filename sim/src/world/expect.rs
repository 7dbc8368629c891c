//! What a step's answer has to be, written as a sentence: "shows first and second".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What has to come of a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Expect {
    /// `ok`: acknowledged, or answered with something. Not as a repetition, and not without idempotency.
    Ok,
    /// `a duplicate`: acknowledged, and the answer says that it is an earlier one.
    Duplicate,
    /// `ok without idempotency`: acknowledged, and the answer says that no claim was made.
    WithoutIdempotency,
    /// `not found`: there is nothing.
    NotFound,
    /// `shows first and second`: the values of exactly these writes.
    Shows(Vec<String>),
    /// `quorum not reached`: too few owners, and certainly no effect.
    QuorumNotReached,
    /// `indeterminate`: too few owners, and the answer says that there may be an effect.
    Indeterminate,
    /// `conflict`: the idempotency key belongs to another request.
    Conflict,
    /// `key in use`: another request with the idempotency key is at work.
    KeyInUse,
    /// `unavailable`: a store it needs is down.
    Unavailable,
    /// `overloaded`: more than is taken on.
    Overloaded,
    /// `invalid`: the request is refused for what it says.
    Invalid,
    /// `crowded`: the key has too many unresolved siblings.
    Crowded,
    /// `refused`: nobody was there.
    Refused,
    /// `no answer`: the client gave up.
    NoAnswer,
    /// `fails`: any of those.
    Fails,
}

/// A sentence that is none of an [`Expect`].
#[derive(Clone, Debug)]
pub struct UnknownExpect(String);

const WORDS: &[(&str, Expect)] = &[
    ("ok", Expect::Ok),
    ("a duplicate", Expect::Duplicate),
    ("ok without idempotency", Expect::WithoutIdempotency),
    ("not found", Expect::NotFound),
    ("quorum not reached", Expect::QuorumNotReached),
    ("indeterminate", Expect::Indeterminate),
    ("conflict", Expect::Conflict),
    ("key in use", Expect::KeyInUse),
    ("unavailable", Expect::Unavailable),
    ("overloaded", Expect::Overloaded),
    ("invalid", Expect::Invalid),
    ("crowded", Expect::Crowded),
    ("refused", Expect::Refused),
    ("no answer", Expect::NoAnswer),
    ("fails", Expect::Fails),
];

impl fmt::Display for UnknownExpect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        write!(
            f,
            "'{}' is nothing to expect; these are: 'shows STEP and STEP', '{}'",
            self.0,
            words.join("', '")
        )
    }
}

impl std::error::Error for UnknownExpect {}

impl Expect {
    /// Whether an answer of the kind `got` is what was expected of it.
    #[must_use]
    pub fn is_met_by(&self, got: &Self) -> bool {
        let failed = !matches!(
            got,
            Self::Ok | Self::Duplicate | Self::WithoutIdempotency | Self::NotFound | Self::Shows(_)
        );
        match (self, got) {
            (Self::Fails, _) => failed,
            (Self::Ok, Self::Shows(_)) => true,
            (Self::Shows(wanted), Self::Shows(got)) => {
                let sorted = |names: &[String]| {
                    let mut names = names.to_vec();
                    names.sort();
                    names
                };
                sorted(wanted) == sorted(got)
            }
            _ => self == got,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shows(names) => write!(f, "shows {}", names.join(" and ")),
            _ => {
                let word = WORDS.iter().find(|(_, expect)| expect == self);
                f.write_str(word.map_or("", |(word, _)| word))
            }
        }
    }
}

impl FromStr for Expect {
    type Err = UnknownExpect;

    fn from_str(text: &str) -> Result<Self, UnknownExpect> {
        if let Some(names) = text.strip_prefix("shows ") {
            let names: Vec<String> = names.split(" and ").map(|n| n.trim().to_owned()).collect();
            if names
                .iter()
                .all(|name| !name.is_empty() && !name.contains(' '))
            {
                return Ok(Self::Shows(names));
            }
        }
        let word = WORDS.iter().find(|(word, _)| *word == text);
        word.map(|(_, expect)| expect.clone())
            .ok_or_else(|| UnknownExpect(text.to_owned()))
    }
}

impl From<Expect> for String {
    fn from(expect: Expect) -> Self {
        expect.to_string()
    }
}

impl TryFrom<String> for Expect {
    type Error = UnknownExpect;

    fn try_from(text: String) -> Result<Self, UnknownExpect> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_read_as_they_are_written() {
        let words = WORDS.iter().map(|(word, _)| *word);
        for text in words.chain(["shows a", "shows a and b"]) {
            let expect: Expect = text.parse().expect("it can be expected");
            assert_eq!(expect.to_string(), text);
            assert!(expect == Expect::Fails || expect.is_met_by(&expect));
        }
        for wrong in ["", "shows", "shows ", "shows a b", "fine"] {
            assert!(wrong.parse::<Expect>().is_err(), "{wrong}");
        }
        let shows = |text: &str| text.parse::<Expect>().expect("it can be expected");
        assert!(shows("shows a and b").is_met_by(&shows("shows b and a")));
        assert!(!shows("shows a").is_met_by(&shows("shows a and a")));
        assert!(!Expect::Fails.is_met_by(&Expect::NotFound));
    }
}
