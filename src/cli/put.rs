//! `pairdb put`: writes a value from the command line, a file or standard input.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::client::{ClientArgs, Effect, failure};
use super::exit::Failure;
use super::key::KeyArgs;
use super::shell::visible;
use super::{output, value};
use crate::proto::v1::{WriteKeyValueRequest, WriteKeyValueResponse};

/// What `put --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb put greeting hello
  pairdb put photo --file cat.jpg --consistency all
  date | pairdb put now
  pairdb put cart '[1,2]' --tenant shop --idempotency-key order-17
  pairdb put cart '[1,2,3]' --context \"$(pairdb get cart --json | jq -r .context)\"";

/// The arguments of `put`.
#[derive(Args, Debug)]
pub struct Put {
    #[command(flatten)]
    pub key: KeyArgs,

    /// The value; '-' or absent: standard input
    #[arg(allow_hyphen_values = true)]
    pub value: Option<String>,

    /// Take the value from this file
    #[arg(long, short, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,

    /// All requests of one tenant for one key with this name have one effect and one answer; with another tenant or key
    /// it is another request
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,

    /// Where and how
    #[command(flatten)]
    pub client: ClientArgs,
}

impl Put {
    /// Writes.
    pub async fn run(self) -> Result<(), Failure> {
        let value = self.value()?;
        let mut client = self.client.connect().await?;
        let request = self.client.request(WriteKeyValueRequest {
            tenant_id: self.key.tenant.clone(),
            key: self.key.key.clone(),
            value,
            consistency: self.key.consistency(),
            idempotency_key: self.idempotency_key.clone(),
            context: self.key.context(),
        });
        let written = client
            .write_key_value(request)
            .await
            .map_err(|status| failure(&status, Effect::Writes))?
            .into_inner();
        if written.without_idempotency {
            output::note(
                "the idempotency store is down: a retry with the same key may be a second write",
            );
        }
        self.client
            .print(|| self.json(&written), || self.text(&written))
    }

    fn value(&self) -> Result<Bytes, Failure> {
        match (&self.file, self.value.as_deref()) {
            (Some(file), _) => std::fs::read(file)
                .map(Bytes::from)
                .map_err(|error| Failure::usage(format!("--file {}: {error}", file.display()))),
            (None, Some(text)) if text != "-" => Ok(Bytes::from(text.to_owned())),
            (None, None) if std::io::stdin().is_terminal() => {
                Err(Failure::usage("the value is missing")
                    .hint("give it after the key, with --file, or through standard input"))
            }
            (None, _) => {
                let mut value = Vec::new();
                std::io::stdin()
                    .lock()
                    .read_to_end(&mut value)
                    .map_err(|error| {
                        Failure::local(format!("can't read standard input: {error}"))
                    })?;
                Ok(value.into())
            }
        }
    }

    fn text(&self, written: &WriteKeyValueResponse) -> String {
        let again = if written.is_duplicate { "already " } else { "" };
        format!(
            "{again}written: {} on {} ({})",
            visible(&self.key.key),
            replicas(written.replica_count),
            written.consistency
        )
    }

    fn json(&self, written: &WriteKeyValueResponse) -> serde_json::Value {
        json!({
            "tenant": self.key.tenant,
            "key": self.key.key,
            "replicas": written.replica_count,
            "consistency": written.consistency,
            "idempotency_key": written.idempotency_key,
            "is_duplicate": written.is_duplicate,
            "without_idempotency": written.without_idempotency,
            "clock": value::clock(written.vector_clock.as_ref()),
            "context": value::base64(&written.context),
        })
    }
}

/// "1 replica", "2 replicas".
pub fn replicas(count: i32) -> String {
    format!("{count} replica{}", if count == 1 { "" } else { "s" })
}
