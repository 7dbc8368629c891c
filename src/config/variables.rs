//! Which environment variables there are, and what was meant by one that there is not.
//!
//! Whoever writes `PAIRDB_AUTH_MODE=required` means it. A variable that begins like ours and is none is therefore an
//! error, for every command, and never left out in silence.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Config, ConfigError};

/// What our variables begin with.
pub(super) const PREFIX: &str = "PAIRDB_";
/// Between a section and its key.
pub(super) const SEPARATOR: &str = "__";

/// Those that stand for a flag of a command.
const OF_COMMANDS: &[&str] = &[
    "PAIRDB_CONFIG",
    "PAIRDB_SERVER",
    "PAIRDB_TENANT",
    "PAIRDB_TLS_CA",
    "PAIRDB_TLS_CERT",
    "PAIRDB_TLS_KEY",
    "PAIRDB_TOKEN",
];

/// Those of the project's own tests, which start this program.
const OF_TESTS: &[&str] = &[
    "PAIRDB_KILL_DIRECTORY",
    "PAIRDB_KILL_ROUNDS",
    "PAIRDB_SIM_CHILD",
    "PAIRDB_SIM_FROM",
    "PAIRDB_SIM_RUSTC",
    "PAIRDB_SIM_SEEDS",
    "PAIRDB_WRITE_METRICS",
];

/// Less alike than this, a name says nothing of what was meant.
const ALIKE_MIN: f64 = 0.75;

/// The dotted key that a variable sets, if it is one of the settings' own.
pub(super) fn key(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.contains(SEPARATOR)
        .then(|| rest.replace(SEPARATOR, ".").to_lowercase())
}

/// Checks that every variable that begins like ours is one.
///
/// # Errors
/// Names the first that is not, with the one that it was probably meant to be.
pub fn check_names<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), ConfigError> {
    let settings = of_settings();
    let links: BTreeSet<&str> = variables
        .clone()
        .into_iter()
        .filter_map(|(name, _)| name.strip_suffix("_SERVICE_HOST"))
        .collect();
    for (name, value) in variables {
        let begins_so = name
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        let is_known = name.starts_with(PREFIX) && settings.contains(&name.to_uppercase())
            || OF_COMMANDS.contains(&name)
            || OF_TESTS.contains(&name)
            || is_service_link(name, value, &links);
        if begins_so && !is_known {
            return Err(ConfigError::UnknownVariable {
                name: name.to_owned(),
                meant: meant(name, &settings),
            });
        }
    }
    Ok(())
}

/// What Kubernetes puts into every container for a service that is called `pairdb` or `pairdb-…`, unless it is told not
/// to.
fn is_service_link(name: &str, value: &str, services: &BTreeSet<&str>) -> bool {
    services.iter().any(|service| {
        let Some(rest) = name.strip_prefix(service) else {
            return false;
        };
        match rest {
            "_SERVICE_HOST" => value.parse::<std::net::IpAddr>().is_ok(),
            "_PORT" => value.contains("://"),
            rest => rest.starts_with("_SERVICE_PORT") || rest.starts_with("_PORT_"),
        }
    })
}

/// The variable of every setting.
fn of_settings() -> BTreeSet<String> {
    fn collect(value: &Value, name: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) if super::durations::duration(value).is_none() => {
                for (member, value) in members {
                    let joint = if name.is_empty() { "" } else { SEPARATOR };
                    let name = format!("{name}{joint}{}", member.to_uppercase());
                    collect(value, &name, found);
                }
            }
            _ => {
                found.insert(format!("{PREFIX}{name}"));
            }
        }
    }
    let mut found = BTreeSet::new();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    collect(&defaults, "", &mut found);
    found
}

fn meant(name: &str, settings: &BTreeSet<String>) -> Option<String> {
    let all = settings
        .iter()
        .map(String::as_str)
        .chain(OF_COMMANDS.iter().copied());
    closest(&name.to_uppercase(), all).map(str::to_owned)
}

/// The one of `known` that `name` was probably meant to be.
pub(super) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    alike
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, value: &str) -> String {
        check_names([(name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn a_variable_that_is_none_is_an_error_that_says_which_one_was_meant() {
        for (name, meant) in [
            ("PAIRDB_AUTH_MODE", "PAIRDB_AUTH__MODE"),
            ("PAIRDB_AUTH__MODUS", "PAIRDB_AUTH__MODE"),
            ("PAIRDB__AUTH__MODE", "PAIRDB_AUTH__MODE"),
            ("PAIRDB_AUTH___MODE", "PAIRDB_AUTH__MODE"),
            ("pairdb_auth__mode", "PAIRDB_AUTH__MODE"),
            ("PAIRDB_TLS_CERT_FILE", "PAIRDB_TLS__CERT_FILE"),
            (
                "PAIRDB_LIMITS_READS_PER_SECOND",
                "PAIRDB_LIMITS__READS_PER_SECOND",
            ),
            ("PAIRDB_TOKN", "PAIRDB_TOKEN"),
            ("PAIRDB_TENNANT", "PAIRDB_TENANT"),
        ] {
            let error = refused(name, "required");
            let ending = format!("did you mean {meant}?");
            assert!(
                error.starts_with(name) && error.ends_with(&ending),
                "{error}"
            );
        }
        let error = refused("PAIRDB_SOMETHING_ELSE_ALTOGETHER", "1");
        assert!(
            error.contains("PAIRDB_SECTION__KEY") && !error.contains("mean"),
            "{error}"
        );
    }

    #[test]
    fn what_is_ours_and_what_is_not_is_let_pass() {
        let of_settings = of_settings();
        assert!(of_settings.contains("PAIRDB_COORDINATOR__READ_TIMEOUT"));
        let all = of_settings.iter().map(String::as_str);
        let all = all.chain(OF_COMMANDS.iter().copied());
        let all: Vec<_> = all
            .chain(["PATH", "PAIRDBX", "MY_PAIRDB_X"])
            .map(|name| (name, ""))
            .collect();
        check_names(all).unwrap();
    }

    #[test]
    fn links_to_services_are_no_settings_and_settings_no_links() {
        let links = [
            ("PAIRDB_SERVICE_HOST", "10.96.0.7"),
            ("PAIRDB_SERVICE_PORT", "50051"),
            ("PAIRDB_SERVICE_PORT_GRPC", "50051"),
            ("PAIRDB_PORT", "tcp://10.96.0.7:50051"),
            ("PAIRDB_PORT_50051_TCP", "tcp://10.96.0.7:50051"),
            ("PAIRDB_PORT_50051_TCP_ADDR", "10.96.0.7"),
            ("PAIRDB_SERVER_SERVICE_HOST", "fd00::7"),
            ("PAIRDB_SERVER_PORT", "tcp://[fd00::7]:50051"),
        ];
        check_names(links).unwrap();
        // The setting is PAIRDB_SERVER__PORT.
        assert!(check_names([("PAIRDB_SERVER_PORT", "50051")]).is_err());
        let beside = [
            ("PAIRDB_SERVER_SERVICE_HOST", "10.96.0.7"),
            ("PAIRDB_SERVER_PORT", "50051"),
        ];
        assert!(check_names(beside).is_err());
    }
}
