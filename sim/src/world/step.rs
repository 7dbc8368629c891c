//! A client's explicit step: what it asks, of whom, when, and what has to come of it.

use pairdb::quorum::Consistency;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::expect::Expect;
use super::human;

/// A step. The steps of a client follow each other: one starts when the one before is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Step {
    /// What other steps, faults and expectations call it.
    pub name: Option<String>,
    /// It waits for this.
    pub after: Option<Event>,
    /// And then so long, in microseconds; without an event that is since the start of chaos, and `None` is at once.
    pub at_us: Option<u64>,
    /// What is asked.
    pub act: Act,
    /// Which coordinator is asked, from 1.
    pub via: u8,
    /// The consistency asked for.
    pub consistency: Consistency,
    /// Which context is given along.
    pub context: Given,
    /// The idempotency key.
    pub idempotency_key: Option<String>,
    /// How many bytes the value has beyond its name.
    pub padding: u64,
    /// How long the server may take, in milliseconds; `None` is the client's habit.
    pub timeout_ms: Option<u64>,
    /// When the client gives up, in microseconds.
    pub gives_up_us: Option<u64>,
    /// Whether the server's work ends with that.
    pub aborts: bool,
    /// What has to come of it.
    pub expect: Option<Expect>,
    /// How soon the answer has to be there, in milliseconds.
    pub within_ms: Option<u64>,
}

/// What a step asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// To write a value, to this place.
    Write(Place),
    /// To read.
    Read(Place),
    /// To delete.
    Delete(Place),
    /// The request of that step once more.
    Retry(String),
}

/// A tenant's key, written `tenant/key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The tenant's name.
    pub tenant: String,
    /// The key.
    pub key: String,
}

/// A context to give along.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Given {
    /// None.
    #[default]
    Nothing,
    /// The one that the client got last for that key, if any.
    Latest,
    /// The one in that step's answer, whoever's step it was.
    Of(String),
}

/// A step as it is in a file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Event>,
    #[serde(with = "human::maybe_us", skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<Consistency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    padding: Option<u64>,
    #[serde(with = "human::maybe_ms", skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(with = "human::maybe_us", skip_serializing_if = "Option::is_none")]
    gives_up: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aborts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Expect>,
    #[serde(with = "human::maybe_ms", skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
}

impl Step {
    /// A step that does this and nothing else.
    #[must_use]
    pub fn new(act: Act) -> Self {
        Self {
            name: None,
            after: None,
            at_us: None,
            act,
            via: 1,
            consistency: Consistency::Quorum,
            context: Given::Nothing,
            idempotency_key: None,
            padding: 0,
            timeout_ms: None,
            gives_up_us: None,
            aborts: false,
            expect: None,
            within_ms: None,
        }
    }

    /// What it is called: its name, or `u1.2` as the second step of the first client.
    #[must_use]
    pub fn called(&self, client: u8, number: usize) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("u{client}.{number}"))
    }

    /// The steps that it needs: whose request it repeats, whose context it brings, what it waits for.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        let retried = match &self.act {
            Act::Retry(step) => Some(step.as_str()),
            _ => None,
        };
        let given = match &self.context {
            Given::Of(step) => Some(step.as_str()),
            _ => None,
        };
        let shown = match &self.expect {
            Some(Expect::Shows(steps)) => steps.as_slice(),
            _ => &[],
        };
        let awaited = self.after.as_ref().and_then(Event::step);
        let shown = shown.iter().map(String::as_str);
        [retried, given, awaited].into_iter().flatten().chain(shown)
    }
}

impl Act {
    /// Where, if it says so itself.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Write(place) | Self::Read(place) | Self::Delete(place) => Some(place),
            Self::Retry(_) => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.tenant, self.key)
    }
}

fn place(text: &str) -> Result<Place, String> {
    let (tenant, key) = text
        .split_once('/')
        .ok_or_else(|| format!("'{text}' is not a place, such as tenant/key"))?;
    Ok(Place {
        tenant: tenant.to_owned(),
        key: key.to_owned(),
    })
}

impl TryFrom<Written> for Step {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let act = match (written.write, written.read, written.delete, written.retry) {
            (Some(at), None, None, None) => Act::Write(place(&at)?),
            (None, Some(at), None, None) => Act::Read(place(&at)?),
            (None, None, Some(at), None) => Act::Delete(place(&at)?),
            (None, None, None, Some(step)) => Act::Retry(step),
            _ => return Err("a step is one of write, read, delete, retry".to_owned()),
        };
        if let Some(name) = &written.name
            && (name.is_empty() || name.contains(char::is_whitespace))
        {
            return Err(format!("a step's name is one word; '{name}' is not"));
        }
        let via = match &written.via {
            None => 1,
            Some(name) => match name.parse() {
                Ok(crate::endpoint::Endpoint::Coordinator(number)) => number,
                _ => return Err(format!("via: '{name}' is not a coordinator, such as c1")),
            },
        };
        Ok(Self {
            name: written.name,
            after: written.after,
            at_us: written.at,
            act,
            via,
            consistency: written.consistency.unwrap_or_default(),
            context: match written.context {
                None => Given::Nothing,
                Some(text) if text == "latest" => Given::Latest,
                Some(text) => Given::Of(text),
            },
            idempotency_key: written.idempotency_key,
            padding: written.padding.unwrap_or_default(),
            timeout_ms: written.timeout,
            gives_up_us: written.gives_up,
            aborts: written.aborts,
            expect: written.expect,
            within_ms: written.within,
        })
    }
}

impl From<Step> for Written {
    fn from(step: Step) -> Self {
        let mut written = Self {
            name: step.name,
            after: step.after,
            at: step.at_us,
            via: (step.via != 1).then(|| format!("c{}", step.via)),
            consistency: (step.consistency != Consistency::Quorum).then_some(step.consistency),
            context: match step.context {
                Given::Nothing => None,
                Given::Latest => Some("latest".to_owned()),
                Given::Of(step) => Some(step),
            },
            idempotency_key: step.idempotency_key,
            padding: (step.padding > 0).then_some(step.padding),
            timeout: step.timeout_ms,
            gives_up: step.gives_up_us,
            aborts: step.aborts,
            expect: step.expect,
            within: step.within_ms,
            ..Self::default()
        };
        match step.act {
            Act::Write(place) => written.write = Some(place.to_string()),
            Act::Read(place) => written.read = Some(place.to_string()),
            Act::Delete(place) => written.delete = Some(place.to_string()),
            Act::Retry(step) => written.retry = Some(step),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Step, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_step_is_read_as_it_is_written() {
        let text = "name = \"second\"\nafter = \"first is stamped by n1\"\nat = \"10ms\"\nwrite = \"t/k\"\nvia = \"c2\"\n\
                    consistency = \"one\"\ncontext = \"first\"\nidempotency_key = \"order\"\npadding = 7\n\
                    timeout = \"2s\"\ngives_up = \"1500us\"\naborts = true\nexpect = \"no answer\"\nwithin = \"5ms\"\n";
        let step = read(text).expect("it is a step");
        assert_eq!(toml::to_string(&step).expect("it is written"), text);
        assert_eq!(step.needs().collect::<Vec<_>>(), ["first", "first"]);
        let short = read("read = \"t/a/b\"").expect("it is a step");
        let place = short.act.place().expect("it says where");
        assert_eq!(
            (place.tenant.as_str(), place.key.as_str(), short.via),
            ("t", "a/b", 1)
        );
        assert_eq!(short.called(2, 3), "u2.3");
    }

    #[test]
    fn what_is_wrong_with_a_step_is_named() {
        for (text, named) in [
            ("write = \"t/k\"\nread = \"t/k\"", "one of write"),
            ("write = \"k\"", "'k' is not a place"),
            ("write = \"t/k\"\nwirte = \"t/k\"", "wirte"),
            ("read = \"t/k\"\nvia = \"n1\"", "'n1' is not a coordinator"),
            ("read = \"t/k\"\nexpect = \"luck\"", "luck"),
            ("read = \"t/k\"\nafter = \"luck\"", "luck"),
            ("read = \"t/k\"\nat = \"luck\"", "luck"),
            ("read = \"t/k\"\nname = \"a b\"", "a b"),
        ] {
            let problem = read(text).expect_err("it is wrong").to_string();
            assert!(problem.contains(named), "{problem}");
        }
    }
}
