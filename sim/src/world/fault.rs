//! What can go wrong, and what an operator does, as data: a world's list of faults is explicit, so that it can be
//! shrunk and kept in a file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::ChangePlan;
use super::event::Event;
use super::human;
use crate::endpoint::Endpoint;

/// A fault that begins at a point of the chaos phase and ends some time later. All end when the phase ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultStep {
    /// It waits for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Event>,
    /// When it begins, in milliseconds after that, or after clients started.
    #[serde(default, rename = "at", with = "human::ms")]
    pub at_ms: u64,
    /// How long it lasts, in milliseconds.
    #[serde(
        rename = "for",
        with = "human::ms",
        default = "forever",
        skip_serializing_if = "is_forever"
    )]
    pub for_ms: u64,
    /// It ends when this happens, if it has not ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Event>,
    /// What happens.
    pub fault: Fault,
}

/// Longer than any run: what lasts until the end of chaos.
pub const FOREVER_MS: u64 = 24 * 3_600_000;

const fn yes() -> bool {
    true
}

const fn forever() -> u64 {
    FOREVER_MS
}

const fn is_forever(for_ms: &u64) -> bool {
    *for_ms == FOREVER_MS
}

impl FaultStep {
    /// A fault at a time, for a time, both in milliseconds.
    #[must_use]
    pub const fn new(at_ms: u64, for_ms: u64, fault: Fault) -> Self {
        Self {
            after: None,
            at_ms,
            for_ms,
            until: None,
            fault,
        }
    }
}

/// Something that goes wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A process loses power, and starts again at the end. What its disk had not synced is lost, a prefix excepted.
    Crash {
        /// A storage node or a coordinator.
        who: Endpoint,
    },
    /// Every storage node loses power at once; each starts again at the end.
    PowerFailure,
    /// A process is stopped as an operator would, and starts again at the end.
    Restart {
        /// A storage node or a coordinator.
        who: Endpoint,
    },
    /// A process is stopped, gets the newest release of the program, and starts again at the end.
    Upgrade {
        /// A storage node or a coordinator.
        who: Endpoint,
    },
    /// A process is stopped, gets the release before back, and starts again at the end.
    GoBack {
        /// A storage node or a coordinator.
        who: Endpoint,
    },
    /// A storage node crashes and its disk is replaced by an empty one.
    LoseDisk {
        /// The storage node.
        who: Endpoint,
    },
    /// A storage node loses power, and what it committed last is gone, acknowledged or not: its journal is damaged. It
    /// starts again at the end.
    DamagedJournal {
        /// The storage node.
        who: Endpoint,
        /// How many commits are gone, if there were as many; 64 at most.
        commits: u32,
    },
    /// A storage node goes on, and at the end it loses power and starts again with its disk as it was at the beginning:
    /// somebody has put a snapshot in the disk's place.
    OldDisk {
        /// The storage node.
        who: Endpoint,
    },
    /// A storage node loses power, and starts again at the end without its digests, as from a time before there were
    /// any.
    LoseDigests {
        /// The storage node.
        who: Endpoint,
    },
    /// A process stands still (a long pause of the machine), without anybody being told.
    Pause {
        /// A storage node or a coordinator.
        who: Endpoint,
    },
    /// Nothing passes from any of `from` to any of `to`.
    Partition {
        /// One side.
        from: Vec<Endpoint>,
        /// The other side.
        to: Vec<Endpoint>,
        /// Whether nothing passes back either.
        #[serde(default = "yes")]
        both_ways: bool,
        /// Whether connecting fails at once; else messages vanish.
        #[serde(default)]
        refused: bool,
    },
    /// A partition that comes and goes, as a loose cable makes it.
    Flapping {
        /// One side.
        from: Vec<Endpoint>,
        /// The other side.
        to: Vec<Endpoint>,
        /// Whether nothing passes back either.
        both_ways: bool,
        /// Whether connecting fails at once; else messages vanish.
        refused: bool,
        /// For how long nothing passes, in milliseconds.
        #[serde(rename = "down", with = "human::ms")]
        down_ms: u64,
        /// For how long all is well in between, in milliseconds.
        #[serde(rename = "up", with = "human::ms")]
        up_ms: u64,
    },
    /// A process crashes, starts, crashes again, until the end.
    CrashLoop {
        /// A storage node or a coordinator.
        who: Endpoint,
        /// How long it lives each time, in milliseconds.
        #[serde(rename = "every", with = "human::ms")]
        every_ms: u64,
    },
    /// A process crashes over one of its messages, and starts again at the end. (Between two messages nothing happens
    /// that anybody could see, so this is a crash at any step of what it does.)
    CrashOn {
        /// A storage node or a coordinator.
        who: Endpoint,
        /// Which messages count: those it exchanges with this one; `None`: all. Requests and answers, sent and
        /// received.
        peer: Option<Endpoint>,
        /// Over which of them, from 1, beginning with the fault.
        count: u32,
    },
    /// Every process is stopped and started, one after the other, as an operator does it to bring a new version.
    RollingRestart {
        /// The pause after each, in milliseconds.
        #[serde(rename = "pause", with = "human::ms")]
        pause_ms: u64,
    },
    /// Messages from or to an endpoint get lost.
    Lossy {
        /// Whose links; `None` for all links.
        who: Option<Endpoint>,
        /// How many of a thousand requests.
        request_permille: u32,
        /// How many of a thousand answers.
        reply_permille: u32,
    },
    /// Messages from or to an endpoint are late.
    Slow {
        /// Whose links; `None` for all links.
        who: Option<Endpoint>,
        /// How many of a thousand messages.
        permille: u32,
        /// By how much at most, in milliseconds.
        #[serde(rename = "late_max", with = "human::ms")]
        late_ms_max: u64,
    },
    /// Requests are delivered a second time, later.
    Duplicate {
        /// How many of a thousand requests.
        permille: u32,
        /// How much later at most, in milliseconds.
        #[serde(rename = "late_max", with = "human::ms")]
        late_ms_max: u64,
    },
    /// A disk takes longer for everything.
    SlowDisk {
        /// The storage node.
        who: Endpoint,
        /// How much longer at most, in milliseconds.
        #[serde(rename = "late_max", with = "human::ms")]
        late_ms_max: u64,
    },
    /// A disk finishes nothing that it is told to commit until the end; it reads as ever.
    StuckDisk {
        /// The storage node.
        who: Endpoint,
    },
    /// A disk takes no more data.
    FullDisk {
        /// The storage node.
        who: Endpoint,
    },
    /// A commit fails, nobody knows what became of it, and the disk takes nothing more until the end. The node then
    /// comes back by itself.
    FailingDisk {
        /// The storage node.
        who: Endpoint,
    },
    /// A bit of a stored record flips.
    CorruptRecord {
        /// The storage node.
        who: Endpoint,
    },
    /// A machine's wall clock goes too fast or too slow; what it is off by then stays.
    ClockDrift {
        /// Whose clock.
        who: Endpoint,
        /// By how much too fast, in millionths.
        ppm: i64,
    },
    /// A machine's wall clock jumps, and back at the end.
    ClockJump {
        /// Whose clock.
        who: Endpoint,
        /// How far, in milliseconds.
        #[serde(rename = "by", with = "human::signed_ms")]
        by_ms: i64,
    },
    /// A process's monotonic clock stands still, and its timers with it.
    StandingClock {
        /// A storage node or a coordinator.
        who: Endpoint,
        /// Whether it then shows what it would show if it had not stood still; else it goes on from there.
        jumps: bool,
    },
    /// A store fails some of what it is asked, before or after having done it.
    StoreTrouble {
        /// `metadata` or `idempotency`.
        who: Endpoint,
        /// How many of a thousand calls.
        permille: u32,
    },
    /// The metadata store fails over to a copy that is not up to date: what was stored of the topology in the last
    /// moments is gone.
    MetadataFailover {
        /// How far the copy is behind, in milliseconds.
        #[serde(rename = "lost", with = "human::ms")]
        lost_ms: u64,
    },
    /// The idempotency store loses all it holds.
    ForgetClaims,
    /// The topology gets a new epoch with the same nodes, as a change that was taken back would leave it.
    NewEpoch,
    /// A request under an epoch that can't be reaches a storage node, from nowhere.
    MadeUpEpoch {
        /// The storage node.
        who: Endpoint,
    },
    /// A storage node has taken on an epoch that can't be. At the end its operator sets it back, as the documentation
    /// says.
    WrongEpoch {
        /// The storage node.
        who: Endpoint,
    },
    /// Somebody asks for a change of owners, of any coordinator that serves; again and again for a while where a store
    /// does not answer.
    Change(Box<ChangePlan>),
    /// Somebody cancels the oldest change that has not ended.
    CancelChange,
    /// The coordinator that leads changes of owners crashes, and starts again at the end.
    CrashLeader,
    /// A client's own habit gone wrong: every client gives up on its requests early.
    Impatience {
        /// After how many milliseconds at most.
        #[serde(rename = "after_max", with = "human::ms")]
        after_ms_max: u64,
    },
}

/// Every endpoint that a fault names, or a part of one, as it is written to files.
#[must_use]
pub fn endpoints(fault: &Value) -> Vec<Endpoint> {
    match fault {
        Value::String(text) => text.parse().into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(endpoints).collect(),
        Value::Object(members) => members.values().flat_map(endpoints).collect(),
        _ => Vec::new(),
    }
}
