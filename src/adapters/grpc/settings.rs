//! How the two ends behave: numbers only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is longer goes in fragments of this size, and a message takes no more once it has this much.
pub(super) const BATCH_BYTES: usize = 64 * 1024;

/// The longest request or reply: the largest record that can be stored has to come through whole, since it can't be cut
/// into records that join to it, and nobody could settle a key that can't be read. Ten owners that stamp at the same
/// time may each leave [`SIBLINGS_BYTES_HIGHEST`](crate::replica::ReplicaSettings::SIBLINGS_BYTES_HIGHEST). And before
/// bytes were bounded, one owner took up to 256 values of 1 MiB.
pub(super) const RECORD_MESSAGE_BYTES_MAX: usize = 320 * 1024 * 1024;

/// The longest message that may arrive on the stream: a full batch, one entry that just fits, a fragment, and framing.
pub(super) const STREAM_MESSAGE_BYTES_MAX: usize = 8 * BATCH_BYTES;

/// The longest message of a call outside the stream, for tools.
pub(super) const UNARY_MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How much may be under way on one stream: bounds what something short can find before it in the network's buffers.
pub(super) const WINDOW_BYTES: u32 = 512 * 1024;

/// Settings of a coordinator's end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportSettings {
    /// How long connecting may take, name resolution and the opening of the stream included.
    pub connect_timeout: Duration,
    /// How often a silent peer is pinged.
    pub keepalive_interval: Duration,
    /// How long it may take to answer before the connection counts as broken.
    pub keepalive_timeout: Duration,
    /// The pause after the first failed attempt to connect; doubles with each further one.
    pub reconnect_delay_min: Duration,
    /// The longest pause between attempts.
    pub reconnect_delay_max: Duration,
    /// A connection that carried no call for so long is closed.
    pub idle_max: Duration,
    /// How often overdue calls are looked for.
    pub sweep_interval: Duration,
    /// How many calls may wait for one node; more are not sent.
    pub in_flight_max: usize,
    /// How many bytes may wait to leave for one node; more are not sent.
    pub queued_bytes_max: usize,
    /// The longest request or reply.
    pub message_bytes_max: usize,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(2),
            reconnect_delay_min: Duration::from_millis(50),
            reconnect_delay_max: Duration::from_secs(1),
            idle_max: Duration::from_secs(60),
            sweep_interval: Duration::from_millis(10),
            in_flight_max: 8192,
            queued_bytes_max: 64 * 1024 * 1024,
            message_bytes_max: RECORD_MESSAGE_BYTES_MAX,
        }
    }
}

/// Settings of a storage node's end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageFrontSettings {
    /// How many requests of one stream may be at work or answered but not yet sent; then no more are read from it.
    pub in_flight_max: usize,
    /// How many bytes of replies may wait to leave on one stream; then no more requests are read from it.
    pub unsent_bytes_max: usize,
    /// The longest request.
    pub message_bytes_max: usize,
}

impl Default for StorageFrontSettings {
    fn default() -> Self {
        Self {
            in_flight_max: 2048,
            unsent_bytes_max: 16 * 1024 * 1024,
            message_bytes_max: RECORD_MESSAGE_BYTES_MAX,
        }
    }
}
