//! `pairdb get`: the value as it is, or all concurrent ones, told apart.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};

use super::client::{ClientArgs, Effect, failure};
use super::exit::Failure;
use super::key::KeyArgs;
use super::{output, shell, value};
use crate::proto::v1::{ReadKeyValueRequest, ReadKeyValueResponse, Sibling};

/// What `get --help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  pairdb get greeting
  pairdb get photo > cat.jpg
  pairdb get cart --tenant shop --json
  pairdb get cart --consistency one --context BASE64   # at least what that context covers

The value goes to standard output byte by byte. Several concurrent values (tenants with the
policy \"siblings\" only) are listed with a line before each; --json is better for programs.";

/// The arguments of `get`.
#[derive(Args, Debug)]
pub struct Get {
    #[command(flatten)]
    key: KeyArgs,

    /// Where and how
    #[command(flatten)]
    pub client: ClientArgs,
}

impl Get {
    /// Reads.
    pub async fn run(self) -> Result<(), Failure> {
        let mut client = self.client.connect().await?;
        let request = self.client.request(ReadKeyValueRequest {
            tenant_id: self.key.tenant.clone(),
            key: self.key.key.clone(),
            consistency: self.key.consistency(),
            context: self.key.context(),
        });
        let read = client
            .read_key_value(request)
            .await
            .map_err(|status| failure(&status, Effect::Reads))?
            .into_inner();
        if self.client.json {
            output::json(&self.json(&read))
        } else if read.siblings.len() > 1 {
            self.list(&read)
        } else {
            output::raw(&read.value)
        }
    }

    fn list(&self, read: &ReadKeyValueResponse) -> Result<(), Failure> {
        let count = read.siblings.len();
        for (index, sibling) in read.siblings.iter().enumerate() {
            output::line(&format!(
                "--- value {} of {count}, written {}",
                index + 1,
                written(sibling)
            ))?;
            output::raw(&sibling.value)?;
            if !sibling.value.ends_with(b"\n") {
                output::raw(b"\n")?;
            }
        }
        output::note(&format!("{count} concurrent values; to settle on one:"));
        output::note(&format!(
            "  {}",
            self.settles(&value::base64(&read.context))
        ));
        Ok(())
    }

    /// The command that writes over all that was shown.
    fn settles(&self, context: &str) -> String {
        let key = shell::word(&self.key.key, "KEY");
        // One word each, so that nothing that begins with a hyphen is taken for a flag.
        let tenant = format!("--tenant={}", shell::word(&self.key.tenant, "TENANT"));
        let context = format!("--context={context}");
        let flags = ["put", tenant.as_str(), context.as_str()];
        let key: &[&str] = match key.starts_with('-') {
            true => &["--", key, "VALUE"],
            false => &[key, "VALUE"],
        };
        shell::command(flags.into_iter().chain(key.iter().copied()))
    }

    fn json(&self, read: &ReadKeyValueResponse) -> Value {
        let siblings: Vec<Value> = read
            .siblings
            .iter()
            .map(|sibling| {
                let mut members = value::members(&sibling.value);
                members.insert("stamp_unix_ms".into(), sibling.stamp_unix_ms.into());
                members.insert("stamp_logical".into(), sibling.stamp_logical.into());
                Value::Object(members)
            })
            .collect();
        let mut members = value::members(&read.value);
        members.insert("tenant".into(), json!(self.key.tenant));
        members.insert("key".into(), json!(self.key.key));
        members.insert("clock".into(), value::clock(read.vector_clock.as_ref()));
        members.insert("context".into(), value::base64(&read.context).into());
        members.insert("siblings".into(), siblings.into());
        Value::Object(members)
    }
}

fn written(sibling: &Sibling) -> String {
    let unix = Duration::from_millis(u64::try_from(sibling.stamp_unix_ms).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(unix).map_or_else(
        || sibling.stamp_unix_ms.to_string(),
        |at| humantime::format_rfc3339_millis(at).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};

    #[test]
    fn the_command_that_settles_is_what_it_says_whatever_the_key() {
        for key in ["cart", "x; rm -rf ~", "$(id)", "--file", "it's", "a b"] {
            let get = ["pairdb", "get", "--tenant=-odd tenant", "--", key];
            let Ok(Command::Get(get)) = Cli::try_parse_from(get).map(|cli| cli.command) else {
                panic!("{key}");
            };
            let line = get.settles("AAA=");
            let words = shlex::split(&line).unwrap();
            let Ok(Command::Put(put)) = Cli::try_parse_from(words).map(|cli| cli.command) else {
                panic!("{line}");
            };
            assert_eq!(put.key.key, key, "{line}");
            assert_eq!(put.key.tenant, "-odd tenant", "{line}");
            assert_eq!(put.value.as_deref(), Some("VALUE"), "{line}");
        }
    }
}
