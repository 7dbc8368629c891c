//! What every command on a key takes: whose key, how many replicas must answer, what was seen before.

use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::value::parse_base64;

/// A key and how to treat it.
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// The key, 1 to 1024 bytes
    pub key: String,

    /// The tenant the key belongs to
    #[arg(long, short, env = "PAIRDB_TENANT", default_value = "default")]
    pub tenant: String,

    /// How many replicas must answer [default: the tenant's, else the server's]
    #[arg(long, short, value_name = "LEVEL", value_parser = PossibleValuesParser::new(["one", "quorum", "all"]))]
    pub consistency: Option<String>,

    /// What an earlier answer for this key covered: its `context`, in base64
    #[arg(long, value_name = "BASE64", value_parser = parse_base64)]
    pub context: Option<Bytes>,
}

impl KeyArgs {
    /// As the wire has it: empty is "as configured".
    pub fn consistency(&self) -> String {
        self.consistency.clone().unwrap_or_default()
    }

    /// As the wire has it: empty is "nothing seen".
    pub fn context(&self) -> Bytes {
        self.context.clone().unwrap_or_default()
    }
}
