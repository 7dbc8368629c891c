//! Sources over sources, and what is said of wrong ones.

use std::time::Duration;

use super::*;
use crate::config::{LogFormat, SyncMode};

fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn defaults_are_valid_and_survive_the_round_trip() {
    let config = Layers::new().build().unwrap();
    assert_eq!(config, Config::default());
    fn leaves(value: &Value, key: &str) {
        match value {
            Value::Object(members) => members
                .iter()
                .for_each(|(name, value)| leaves(value, &format!("{key}.{name}"))),
            value => assert!(!value.is_null(), "{key} has no default to read texts by"),
        }
    }
    leaves(&Layers::new().defaults, "");
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let (_dir, path) = file(
        "a.toml",
        "[server]\nport = 1\nhttp_port = 2\n[metrics]\nport = 3\n",
    );
    let config = Layers::new()
        .file(&path)
        .unwrap()
        .environment(env(&[
            ("PAIRDB_SERVER__HTTP_PORT", "20"),
            ("PAIRDB_METRICS__PORT", "30"),
        ]))
        .unwrap()
        .flag("--metrics-port", "metrics.port", Some(300))
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        (
            config.server.port,
            config.server.http_port,
            config.metrics.port
        ),
        (1, 20, 300)
    );
    assert_eq!(config.server.host, "0.0.0.0");
}

#[test]
fn yaml_says_the_same_as_toml() {
    let (_toml, toml) = file(
        "a.toml",
        "[logging]\nformat = \"json\"\n[storage]\nsync = \"interval:100ms\"\n",
    );
    let (_yaml, yaml) = file(
        "a.yaml",
        "logging:\n  format: json\nstorage:\n  sync: interval:100ms\n",
    );
    let from = |path| Layers::new().file(path).unwrap().build().unwrap();
    assert_eq!(from(&toml), from(&yaml));
    assert_eq!(from(&yaml).logging.format, LogFormat::Json);
    assert_eq!(
        from(&yaml).storage.sync,
        SyncMode::Interval(Duration::from_millis(100))
    );
}

#[test]
fn text_is_read_as_what_the_default_is() {
    let config = Layers::new()
        .environment(env(&[
            ("PAIRDB_SERVER__NODE_ID", "17"),
            ("PAIRDB_METRICS__ENABLED", "false"),
            ("PAIRDB_SERVER__SHUTDOWN_TIMEOUT", "1m 5s"),
            ("PAIRDB_COORDINATOR__WRITE_TIMEOUT", "750ms"),
        ]))
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(config.server.node_id, "17");
    assert!(!config.metrics.enabled);
    assert_eq!(config.server.shutdown_timeout, Duration::from_secs(65));
    assert_eq!(config.coordinator.write_timeout, Duration::from_millis(750));
}

#[test]
fn variables_of_commands_and_of_others_are_not_settings() {
    let config = Layers::new()
        .environment(env(&[("PAIRDB_SERVER", "http://x"), ("OTHER__KEY", "1")]))
        .unwrap();
    assert_eq!(config.build().unwrap(), Config::default());
}

#[test]
fn a_variable_that_is_no_setting_is_an_error_and_not_left_out() {
    let error = Layers::new()
        .environment(env(&[("PAIRDB_AUTH_MODE", "required")]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "PAIRDB_AUTH_MODE: no such variable; did you mean PAIRDB_AUTH__MODE?"
    );
}

#[test]
fn secrets_of_examples_are_refused_and_not_shown() {
    for (name, text, key) in [
        (
            "PAIRDB_AUTH__ADMIN_KEY",
            "change-me-to-32-random-bytes-or-more",
            "auth.admin_key",
        ),
        (
            "PAIRDB_AUTH__JWT_SECRET",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "auth.jwt_secret",
        ),
        (
            "PAIRDB_DATABASE__URL",
            "postgres://pairdb:change-me@postgres/pairdb",
            "database.url",
        ),
        (
            "PAIRDB_REDIS__URL",
            "redis://:change-me@redis:6379/0",
            "redis.url",
        ),
    ] {
        let layers = Layers::new().environment(env(&[(name, text)])).unwrap();
        let error = layers.build().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: {key}: ")), "{error}");
        assert!(
            !error.contains(text) && !error.contains("change-me"),
            "{error}"
        );
    }
}

#[test]
fn unknown_keys_are_errors_that_name_them_and_their_neighbours() {
    let (_dir, path) = file("a.toml", "[server]\nprot = 1\n");
    let error = Layers::new().file(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "{}: server.prot: no such key; did you mean port? there are: ",
            path.display()
        )),
        "{error}"
    );
    assert!(error.contains(" port,"), "{error}");

    let error = Layers::new()
        .environment(env(&[("PAIRDB_SERVERS__PORT", "1")]))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "PAIRDB_SERVERS__PORT: no such variable; did you mean PAIRDB_SERVER__PORT?"
    );
}

#[test]
fn bad_values_are_errors_that_name_key_and_source() {
    for (name, text, expected) in [
        (
            "PAIRDB_SERVER__PORT",
            "x",
            "PAIRDB_SERVER__PORT: server.port: 'x' is not a number",
        ),
        (
            "PAIRDB_SERVER__PORT",
            "70000",
            "PAIRDB_SERVER__PORT: server.port: 70000 is not between 0 and 65535",
        ),
        (
            "PAIRDB_GRPC__CONNECTIONS_MAX",
            "0",
            "PAIRDB_GRPC__CONNECTIONS_MAX: grpc.connections_max: 0 is not between 1 and 1000000",
        ),
        (
            "PAIRDB_COORDINATOR__IN_FLIGHT_MAX",
            "9223372036854775808",
            "PAIRDB_COORDINATOR__IN_FLIGHT_MAX: coordinator.in_flight_max: 9223372036854775808 is not between 1 and",
        ),
        (
            "PAIRDB_COORDINATOR__WRITE_TIMEOUT",
            "0s",
            "PAIRDB_COORDINATOR__WRITE_TIMEOUT: coordinator.write_timeout: 0s is not between 1ms and 1h",
        ),
        (
            "PAIRDB_SERVER__HOST",
            "example",
            "PAIRDB_SERVER__HOST: server.host: 'example' is not an IP address",
        ),
        (
            "PAIRDB_STORAGE__SYNC",
            "sometimes",
            "PAIRDB_STORAGE__SYNC: storage.sync: 'sometimes' is neither",
        ),
        (
            "PAIRDB_STORAGE__SYNC",
            "interval:0s",
            "PAIRDB_STORAGE__SYNC: storage.sync: the interval, 0s, is not between 1ms and 1m",
        ),
        (
            "PAIRDB_STORAGE__ADVERTISE",
            "host",
            "PAIRDB_STORAGE__ADVERTISE: storage.advertise: 'host' is not HOST:PORT",
        ),
        (
            "PAIRDB_STORAGE__METRICS",
            "9090",
            "PAIRDB_STORAGE__METRICS: storage.metrics: '9090' is not ADDRESS:PORT",
        ),
        (
            "PAIRDB_DATABASE__URL",
            "mysql://h/d",
            "PAIRDB_DATABASE__URL: database.url: is neither postgres://",
        ),
        (
            "PAIRDB_DATABASE__URL",
            "postgres://h:port/d",
            "PAIRDB_DATABASE__URL: database.url: ",
        ),
        (
            "PAIRDB_DATABASE__CONNECTIONS_MIN",
            "51",
            "PAIRDB_DATABASE__CONNECTIONS_MIN: database.connections_min: 51 is more than",
        ),
        (
            "PAIRDB_REDIS__URL",
            "localhost:6379",
            "PAIRDB_REDIS__URL: redis.url: must begin with redis://",
        ),
        (
            "PAIRDB_TLS__CERT_FILE",
            "server.crt",
            "defaults: tls.key_file: must be given beside tls.cert_file",
        ),
        (
            "PAIRDB_CLUSTER_TLS__CA_FILE",
            "ca.crt",
            "defaults: cluster_tls.cert_file: must be given beside cluster_tls.ca_file",
        ),
        (
            "PAIRDB_LOGGING__FORMAT",
            "xml",
            "PAIRDB_LOGGING__FORMAT: logging.format: ",
        ),
        (
            "PAIRDB_COORDINATOR__READ_TIMEOUT",
            "3",
            "PAIRDB_COORDINATOR__READ_TIMEOUT: coordinator.read_timeout: ",
        ),
    ] {
        let error = Layers::new()
            .environment(env(&[(name, text)]))
            .and_then(|layers| layers.build())
            .unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let (_dir, path) = file("a.toml", "server = 3\n");
    let error = Layers::new().file(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("server: is a section, not a key"),
        "{error}"
    );
}

#[test]
fn files_that_can_not_be_read_are_named() {
    let error = Layers::new()
        .file(Path::new("/nowhere/a.toml"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/nowhere/a.toml: "), "{error}");
    for (name, text) in [
        ("a.toml", "[auth]\nadmin_key = hidden-from-logs\n"),
        ("a.yaml", "auth:\n  admin_key: 'hidden-from-logs\n"),
    ] {
        let (_dir, path) = file(name, text);
        let error = Layers::new().file(&path).unwrap_err().to_string();
        assert!(
            error.contains(name) && !error.contains("hidden-from-logs"),
            "a secret may stand in the line: {error}"
        );
    }
    let (_dir, path) = file("a.ini", "");
    let error = Layers::new().file(&path).unwrap_err().to_string();
    assert!(
        error.contains("must end in .toml, .yaml or .yml"),
        "{error}"
    );
    let (_dir, path) = file("a.yaml", "");
    assert_eq!(
        Layers::new().file(&path).unwrap().build().unwrap(),
        Config::default()
    );
}

#[test]
fn secrets_are_masked() {
    let mut config = Config::default();
    config.database.url = "postgres://user:secret@host:5432/db".into();
    config.redis.url = "rediss://:secret@host".into();
    config.auth.admin_key = "secret".into();
    config.auth.jwt_secret = "secret".into();
    config.auth.jwt_secret_previous = "secret".into();
    config.join.token = "secret".into();
    assert!(!format!("{:?}", config.auth).contains("secret\""));
    let masked = config.masked();
    assert!(!tree(&masked).to_string().contains("\"secret\""));
    assert_eq!(masked.database.url, "postgres://user:***@host:5432/db");
    assert_eq!(masked.redis.url, "rediss://:***@host");
    assert_eq!(Config::default().masked(), Config::default());
}

#[test]
fn coordinators_need_redis_beside_postgresql_and_others_do_not() {
    let postgres = ("PAIRDB_DATABASE__URL", "postgres://user:secret@host/db");
    let layers = Layers::new().environment(env(&[postgres])).unwrap();
    assert!(layers.build().is_ok());
    let error = layers.build_for_coordinator().unwrap_err().to_string();
    assert!(
        error.starts_with("defaults: redis.url: must be given"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    let redis = ("PAIRDB_REDIS__URL", "redis://host");
    let layers = layers.environment(env(&[redis])).unwrap();
    assert!(layers.build_for_coordinator().is_ok());
    assert!(Layers::new().build_for_coordinator().is_ok());
}
