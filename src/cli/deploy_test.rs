//! What is under `deploy/` is read by those it is for: manifests by the types of the Kubernetes API, settings by the
//! loader, arguments by the command line, queries by a PromQL parser. Commands and links are checked in all pages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PodSpec, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Cli;
use super::serve::{METRICS, MetricKind};
use crate::config::{Config, Layers};

pub(super) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn yaml(path: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files under `deploy/` with this ending.
fn files(under: &str, ending: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, ending, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == ending)
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&deploy().join(under), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "{under} has no {ending}");
    found
}

/// All pages for people: those under `deploy/`, those under `docs/`, and the README.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages.push(root.join("README.md"));
    pages.extend(files("", "md"));
    pages
}

/// Reads an object as what it says it is. What is not there again when it is written has no place in the API.
fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let read: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    let written = serde_json::to_value(&read).unwrap();
    let mut unknown = Vec::new();
    lost("", object, &written, &mut unknown);
    assert_eq!(
        unknown,
        Vec::<String>::new(),
        "{} {}",
        object["kind"],
        object["metadata"]["name"]
    );
    read
}

fn lost(at: &str, object: &Value, written: &Value, unknown: &mut Vec<String>) {
    match (object, written) {
        (Value::Object(members), Value::Object(kept)) => {
            for (name, value) in members {
                let at = format!("{at}.{name}");
                match kept.get(name) {
                    Some(kept) => lost(&at, value, kept, unknown),
                    None => unknown.push(at),
                }
            }
        }
        (Value::Array(values), Value::Array(kept)) if values.len() == kept.len() => {
            for (index, (value, kept)) in values.iter().zip(kept).enumerate() {
                lost(&format!("{at}[{index}]"), value, kept, unknown);
            }
        }
        (object, written) if object == written => {}
        _ => unknown.push(at.to_owned()),
    }
}

/// Checks an object by its kind.
fn check(object: &Value) {
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => drop(typed::<Deployment>(object)),
        "StatefulSet" => drop(typed::<StatefulSet>(object)),
        "HorizontalPodAutoscaler" => drop(typed::<HorizontalPodAutoscaler>(object)),
        "PodDisruptionBudget" => drop(typed::<PodDisruptionBudget>(object)),
        "ConfigMap" => drop(typed::<ConfigMap>(object)),
        "Secret" => drop(typed::<Secret>(object)),
        "Service" => drop(typed::<Service>(object)),
        "ServiceAccount" => drop(typed::<ServiceAccount>(object)),
        "Namespace" => drop(typed::<Namespace>(object)),
        "NetworkPolicy" => drop(typed::<NetworkPolicy>(object)),
        "Role" => drop(typed::<Role>(object)),
        "RoleBinding" => drop(typed::<RoleBinding>(object)),
        "ValidatingAdmissionPolicy" => drop(typed::<ValidatingAdmissionPolicy>(object)),
        "ValidatingAdmissionPolicyBinding" => {
            drop(typed::<ValidatingAdmissionPolicyBinding>(object));
        }
        kind => panic!("what is a {kind}?"),
    }
}

/// The base's objects by kind and name.
fn base() -> BTreeMap<(String, String), Value> {
    let kustomization = yaml(&deploy().join("kubernetes/base/kustomization.yaml")).remove(0);
    let resources = kustomization["resources"].as_array().unwrap();
    let objects = resources.iter().flat_map(|file| {
        yaml(
            &deploy()
                .join("kubernetes/base")
                .join(file.as_str().unwrap()),
        )
    });
    let name = |object: &Value, pointer| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap()
            .to_owned()
    };
    objects
        .map(|object| {
            (
                (name(&object, "/kind"), name(&object, "/metadata/name")),
                object,
            )
        })
        .collect()
}

pub(super) fn object<T: DeserializeOwned + Serialize>(kind: &str, name: &str) -> T {
    typed(&base()[&(kind.to_owned(), name.to_owned())])
}

#[test]
fn manifests_are_what_the_kubernetes_api_knows() {
    let mut checked = 0;
    for path in files("kubernetes", "yaml") {
        for object in yaml(&path) {
            if path.ends_with("kustomization.yaml") {
                // Every file that is named is there.
                let named = ["resources", "patches"]
                    .iter()
                    .filter_map(|part| object[part].as_array())
                    .flatten();
                let named = named.filter_map(|entry| entry.as_str().or(entry["path"].as_str()));
                for file in named {
                    assert!(
                        path.parent().unwrap().join(file).exists(),
                        "{}: {file}",
                        path.display()
                    );
                }
            } else {
                check(&object);
                checked += 1;
            }
        }
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn what_was_promised_of_the_deployment_is_there() {
    let coordinators: Deployment = object("Deployment", "pairdb-coordinator");
    let spec = coordinators.spec;
    assert_eq!(
        (spec.replicas, spec.strategy.unwrap().type_.as_deref()),
        (Some(3), Some("RollingUpdate"))
    );
    let pod = spec.template.spec.unwrap();
    assert!(pod.affinity.as_ref().unwrap().pod_anti_affinity.is_some());
    check_pod(&pod);
    let nodes: StatefulSet = object("StatefulSet", "pairdb-storage");
    check_pod(&nodes.spec.template.spec.unwrap());

    let scaler: HorizontalPodAutoscaler = object("HorizontalPodAutoscaler", "pairdb-coordinator");
    let spec = scaler.spec;
    let targets: Vec<_> = spec
        .metrics
        .unwrap()
        .into_iter()
        .filter_map(|metric| metric.resource)
        .collect();
    let targets: Vec<_> = targets
        .iter()
        .map(|metric| (metric.name.as_str(), metric.target.average_utilization))
        .collect();
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(3), 10));
    assert_eq!(targets, [("cpu", Some(70)), ("memory", Some(80))]);
    for (kind, name) in [
        ("Service", "pairdb"),
        ("Service", "pairdb-headless"),
        ("Service", "pairdb-join"),
        ("Service", "pairdb-storage"),
        ("PodDisruptionBudget", "pairdb-coordinator"),
        ("PodDisruptionBudget", "pairdb-storage"),
        ("NetworkPolicy", "pairdb-storage"),
        ("NetworkPolicy", "pairdb-coordinator"),
        ("ServiceAccount", "pairdb"),
        ("Role", "pairdb"),
        ("RoleBinding", "pairdb"),
    ] {
        assert!(
            base().contains_key(&(kind.to_owned(), name.to_owned())),
            "{kind} {name}"
        );
    }
}

/// Bounds, probes, and a user without rights.
fn check_pod(pod: &PodSpec) {
    let user = pod.security_context.as_ref().unwrap();
    assert_eq!(
        (user.run_as_user, user.run_as_non_root),
        (Some(1000), Some(true))
    );
    let shutdown = i64::try_from(settings().server.shutdown_timeout.as_secs()).unwrap();
    assert!(pod.termination_grace_period_seconds.unwrap() > shutdown);
    for container in &pod.containers {
        let resources = container.resources.as_ref().unwrap();
        let amount = |of: &BTreeMap<String, _>, what: &str| -> String {
            let amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = &of[what];
            amount.0.clone()
        };
        let (least, most) = (
            resources.requests.as_ref().unwrap(),
            resources.limits.as_ref().unwrap(),
        );
        assert_eq!(
            (amount(least, "cpu").as_str(), amount(most, "cpu").as_str()),
            ("500m", "2")
        );
        assert_eq!(
            (
                amount(least, "memory").as_str(),
                amount(most, "memory").as_str()
            ),
            ("512Mi", "2Gi")
        );
        assert!(container.liveness_probe.is_some() && container.readiness_probe.is_some());
        let args = container.args.clone().unwrap_or_default();
        Cli::try_parse_from(std::iter::once("pairdb".to_owned()).chain(args)).unwrap();
    }
}

/// The settings of the manifests, with those of the Secret over them.
pub(super) fn settings() -> Config {
    let config: ConfigMap = object("ConfigMap", "pairdb");
    let secret: Secret = object("Secret", "pairdb");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pairdb.yaml");
    std::fs::write(&file, &config.data.unwrap()["pairdb.yaml"]).unwrap();
    let layers = Layers::new()
        .file(&file)
        .unwrap()
        .environment(replaced(secret))
        .unwrap();
    layers.build_for_coordinator().unwrap()
}

/// A secret as operators make it of the one that is shipped.
fn replaced(secret: Secret) -> BTreeMap<String, String> {
    let secret = secret.string_data.unwrap().into_iter();
    secret
        .map(|(name, text)| match name.as_str() {
            "PAIRDB_AUTH__ADMIN_KEY" => (name, "0123456789abcdef0123456789abcdef".into()),
            _ => (name, text.replace("change-me", "a-password")),
        })
        .collect()
}

#[test]
fn no_process_starts_with_the_secrets_that_are_shipped() {
    let mut refused = 0;
    for path in files("kubernetes", "yaml") {
        let objects = yaml(&path);
        for object in objects.iter().filter(|object| object["kind"] == "Secret") {
            let shipped = typed::<Secret>(object).string_data.unwrap();
            for (name, text) in shipped
                .into_iter()
                .filter(|(_, text)| text.contains("change-me"))
            {
                let layers = Layers::new().environment([(name.clone(), text)]).unwrap();
                let error = layers.build().unwrap_err().to_string();
                assert!(error.contains("example"), "{name}: {error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 3, "the administrator's key, and two passwords");
}

#[test]
fn settings_in_manifests_are_settings_of_the_program() {
    let settings = settings();
    assert_eq!(
        (
            settings.server.port,
            settings.server.http_port,
            settings.metrics.port
        ),
        (50051, 8080, 9090)
    );
    for path in files("kubernetes/overlays", "yaml") {
        for object in yaml(&path)
            .iter()
            .filter(|object| object["kind"] == "Secret")
        {
            let secret: Secret = typed(object);
            let layers = Layers::new().environment(replaced(secret)).unwrap();
            layers.build_for_coordinator().unwrap();
        }
    }
}

#[test]
fn the_compose_file_names_arguments_and_settings_that_exist() {
    let compose = yaml(&deploy().join("compose/compose.yaml")).remove(0);
    let services = compose["services"].as_object().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut parsed = 0;
    for (name, service) in services
        .iter()
        .filter(|(_, service)| service["image"] == "pairdb")
    {
        let args = service["command"].as_array().unwrap().iter().map(text);
        Cli::try_parse_from(std::iter::once("pairdb".to_owned()).chain(args))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(environment) = service["environment"].as_object() {
            let environment = environment
                .iter()
                .map(|(key, value)| (key.clone(), text(value)));
            let layers = Layers::new().environment(environment).unwrap();
            let built = match service["command"][0] == "coordinator" {
                true => layers.build_for_coordinator(),
                false => layers.build(),
            };
            built.unwrap();
        }
        if let Some(test) = service
            .pointer("/healthcheck/test")
            .and_then(Value::as_array)
        {
            Cli::try_parse_from(test.iter().skip(1).map(text)).unwrap();
        }
        parsed += 1;
    }
    assert_eq!(parsed, 7, "three coordinators, and four nodes");
    for other in ["postgres", "redis", "prometheus", "grafana"] {
        assert!(services.contains_key(other), "{other}");
    }
}

/// A patch of the production overlay.
pub(super) fn production<T: DeserializeOwned + Serialize>(file: &str, kind: &str, name: &str) -> T {
    let path = deploy().join("kubernetes/overlays/production").join(file);
    let objects = yaml(&path);
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    typed(found.unwrap_or_else(|| panic!("{file} has no {kind} {name}")))
}

/// The keys of Secrets that a pod's environment has.
fn secret_keys(pod: &PodSpec) -> BTreeSet<String> {
    let containers = pod.containers.iter();
    let variables = containers.flat_map(|container| {
        assert!(container.env_from.is_none(), "takes more than it uses");
        container.env.iter().flatten()
    });
    let sources = variables.filter_map(|variable| variable.value_from.as_ref());
    let keys = sources.filter_map(|source| source.secret_key_ref.as_ref());
    keys.map(|key| format!("{}/{}", key.name, key.key))
        .collect()
}

#[test]
fn each_process_has_the_secrets_that_it_uses() {
    let coordinators: Deployment = object("Deployment", "pairdb-coordinator");
    let nodes: StatefulSet = object("StatefulSet", "pairdb-storage");
    assert_eq!(
        secret_keys(&coordinators.spec.template.spec.unwrap()),
        ["pairdb/PAIRDB_DATABASE__URL", "pairdb/PAIRDB_REDIS__URL"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(
        secret_keys(&nodes.spec.template.spec.unwrap()),
        ["pairdb/PAIRDB_DATABASE__URL"].map(str::to_owned).into()
    );
    let nodes: StatefulSet = production("authenticated.yaml", "StatefulSet", "pairdb-storage");
    assert_eq!(
        secret_keys(&nodes.spec.template.spec.unwrap()),
        ["pairdb-auth/PAIRDB_AUTH__ADMIN_KEY"]
            .map(str::to_owned)
            .into()
    );
    let compose = yaml(&deploy().join("compose/compose.yaml")).remove(0);
    for (name, service) in compose["services"].as_object().unwrap() {
        let has_redis = !service["environment"]["PAIRDB_REDIS__URL"].is_null();
        assert_eq!(has_redis, name.starts_with("coordinator-"), "{name}");
    }
}

/// The settings in a pod's environment. Every file that they name is in a Secret that is mounted.
fn settings_of(pod: &PodSpec) -> Config {
    let container = &pod.containers[0];
    let mounts = container.volume_mounts.iter().flatten();
    let mounts: Vec<_> = mounts
        .map(|mount| {
            let mut volumes = pod.volumes.iter().flatten();
            let volume = volumes.find(|volume| volume.name == mount.name);
            assert!(volume.unwrap().secret.is_some(), "{}", mount.name);
            format!("{}/", mount.mount_path)
        })
        .collect();
    let variables = container.env.iter().flatten();
    let variables: Vec<_> = variables
        .map(|variable| (variable.name.clone(), variable.value.clone().unwrap()))
        .collect();
    for (name, value) in variables.iter().filter(|(_, value)| value.starts_with('/')) {
        let is_mounted = mounts.iter().any(|mount| value.starts_with(mount));
        assert!(is_mounted, "{name}={value} is mounted nowhere");
    }
    let settings = variables
        .into_iter()
        .filter(|(name, _)| name.contains("__"));
    let layers = Layers::new().environment(settings).unwrap();
    layers.build().unwrap()
}

#[test]
fn in_production_all_connections_are_tls() {
    let coordinators: Deployment = production("tls.yaml", "Deployment", "pairdb-coordinator");
    let pod = coordinators.spec.template.spec.unwrap();
    let settings = settings_of(&pod);
    assert!(settings.tls.is_on() && settings.cluster_tls.is_on());
    let container = &pod.containers[0];
    for probe in [
        &container.startup_probe,
        &container.liveness_probe,
        &container.readiness_probe,
    ] {
        let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
        assert_eq!(get.scheme.as_deref(), Some("HTTPS"));
    }
    let nodes: StatefulSet = production("tls.yaml", "StatefulSet", "pairdb-storage");
    let nodes = settings_of(&nodes.spec.template.spec.unwrap());
    assert_eq!(nodes.cluster_tls, settings.cluster_tls);
    assert!(nodes.join.coordinator.starts_with("https://"));
    assert!(!nodes.join.ca_file.is_empty());

    // A gRPC probe would speak no TLS and show no certificate.
    let overlay = deploy().join("kubernetes/overlays/production/kustomization.yaml");
    let overlay = yaml(&overlay).remove(0);
    let patches = overlay["patches"].as_array().unwrap().iter();
    let inline = patches.filter_map(|patch| patch["patch"].as_str());
    let operations = inline.flat_map(|patch| serde_saphyr::from_str::<Vec<Value>>(patch).unwrap());
    let mut probes = BTreeSet::new();
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        let probe = path.strip_prefix("/spec/template/spec/containers/0/");
        let command = operation["value"]["exec"]["command"].as_array().unwrap();
        let command = command.iter().map(|word| word.as_str().unwrap());
        Cli::try_parse_from(command).unwrap();
        probes.insert(probe.unwrap().to_owned());
    }
    let expected = ["livenessProbe", "readinessProbe", "startupProbe"];
    assert_eq!(probes, expected.map(str::to_owned).into());
}

#[test]
fn in_production_pods_reach_what_they_need_and_nothing_else() {
    for name in ["pairdb-coordinator", "pairdb-storage"] {
        let policy: NetworkPolicy = production("network.yaml", "NetworkPolicy", name);
        let spec = policy.spec.unwrap();
        let types = spec.policy_types.unwrap();
        assert_eq!(types, ["Ingress", "Egress"], "{name}");
        for rule in spec.egress.unwrap() {
            assert!(rule.ports.is_some_and(|ports| !ports.is_empty()), "{name}");
        }
    }
    let base: NetworkPolicy = object("NetworkPolicy", "pairdb-coordinator");
    let rules = base.spec.unwrap().ingress.unwrap();
    assert!(rules.iter().all(|rule| rule.ports.is_some()));
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// What may change under a tag is named by digest, or by a variable that has to be set to one.
#[test]
fn images_are_named_by_digest() {
    let pinned = read(&deploy().join("pin-images"));
    let pinned = pinned.lines().filter_map(|line| line.strip_prefix("pin "));
    let pinned: BTreeSet<&str> = pinned
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.ends_with("_IMAGE"))
        .collect();
    let variable = |text: &str| -> Option<String> {
        let inner = text.strip_prefix("${")?.strip_suffix('}')?;
        let name = inner.split(":?").next()?;
        pinned.contains(name).then(|| name.to_owned())
    };
    let dockerfile = read(&deploy().join("Dockerfile"));
    let mut used = BTreeSet::new();
    for from in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
    {
        let image = from.split(' ').next().unwrap();
        used.insert(variable(image).unwrap_or_else(|| panic!("{image}")));
    }
    let compose = yaml(&deploy().join("compose/compose.yaml")).remove(0);
    for service in compose["services"].as_object().unwrap().values() {
        let image = service["image"].as_str().unwrap();
        if image != "pairdb" {
            assert!(image.contains(":?"), "{image} may be unset");
            used.insert(variable(image).unwrap_or_else(|| panic!("{image}")));
        }
    }
    let used: BTreeSet<&str> = used.iter().map(String::as_str).collect();
    assert_eq!(used, pinned, "each is pinned, and no other");

    let base = yaml(&deploy().join("kubernetes/base/kustomization.yaml")).remove(0);
    let overlay = deploy().join("kubernetes/overlays/production/kustomization.yaml");
    let overlay = yaml(&overlay).remove(0);
    let image = &overlay["images"][0];
    assert_eq!(image["name"], base["images"][0]["newName"]);
    assert!(is_digest(image["digest"].as_str().unwrap()), "{image}");
}

/// Every command in a page between backquotes, or on a line of its own in a block, is one that there is.
#[test]
fn pages_name_commands_that_exist() {
    let mut parsed = 0;
    for path in pages() {
        let text = read(&path);
        let between = text.split('`').skip(1).step_by(2);
        let lines = text.lines().map(str::trim);
        let commands = between.chain(lines);
        for command in commands.filter(|text| text.starts_with("pairdb ")) {
            let command = command.split(" #").next().unwrap_or_default().trim();
            if command.contains(['\n', '$', '[', '|', '<', '…', '\\']) {
                continue; // more than a command
            }
            let parsing = Cli::try_parse_from(command.split_whitespace());
            if let Err(error) = parsing
                && !matches!(
                    error.kind(),
                    ErrorKind::DisplayHelp
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                        | ErrorKind::MissingRequiredArgument
                )
            {
                panic!("{}: `{command}`: {error}", path.display());
            }
            parsed += 1;
        }
    }
    assert!(parsed > 20, "{parsed}");
}

/// The names of a query's metrics, and its labels by metric.
#[derive(Default)]
struct Used(Vec<(String, Vec<String>)>);

impl ExprVisitor for Used {
    type Error = ();

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
        let selector = match expr {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(matrix) => &matrix.vs,
            _ => return Ok(true),
        };
        let labels = selector
            .matchers
            .matchers
            .iter()
            .filter(|matcher| !matches!(matcher.op, MatchOp::NotEqual));
        let labels = labels.map(|matcher| matcher.name.clone()).collect();
        self.0
            .push((selector.name.clone().unwrap_or_default(), labels));
        Ok(true)
    }
}

/// Reads a query; every metric and label in it must be one that PairDB or Prometheus itself has.
fn check_query(query: &str) {
    let parsed = parser::parse(&query.replace("$__rate_interval", "5m"))
        .unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut used = Used::default();
    walk_expr(&mut used, &parsed).unwrap();
    assert!(!used.0.is_empty(), "{query} asks for nothing");
    for (name, labels) in used.0 {
        if name == "up" {
            continue;
        }
        let parts = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part));
        let found = METRICS.iter().find(|metric| match metric.kind {
            MetricKind::Histogram | MetricKind::Summary => parts == Some(metric.name),
            MetricKind::Counter | MetricKind::Gauge => name == metric.name,
        });
        let metric = found.unwrap_or_else(|| panic!("{query}: there is no {name}"));
        for label in labels {
            let known = metric.labels.contains(&label.as_str())
                || ["instance", "job"].contains(&label.as_str());
            assert!(known, "{query}: {name} has no label {label}");
        }
    }
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_lead_to_a_runbook() {
    let rules = yaml(&deploy().join("prometheus/alerts.yaml")).remove(0);
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 15);
    let mut pages = BTreeSet::new();
    for rule in &rules {
        check_query(rule["expr"].as_str().unwrap());
        humantime::parse_duration(rule["for"].as_str().unwrap()).unwrap();
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        let page = deploy()
            .parent()
            .unwrap()
            .join(rule["annotations"]["runbook"].as_str().unwrap());
        let text = read(&page);
        assert!(
            text.starts_with(&format!("# {}\n", rule["alert"].as_str().unwrap())),
            "{}",
            page.display()
        );
        assert!(
            text.contains(rule["expr"].as_str().unwrap()),
            "{} shows another query",
            page.display()
        );
        pages.insert(page);
    }
    assert_eq!(
        pages.into_iter().collect::<Vec<_>>(),
        files("runbooks/alerts", "md"),
        "a page for each alert, and no other"
    );
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: Value =
        serde_json::from_str(&read(&deploy().join("grafana/dashboards/pairdb.json"))).unwrap();
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            check_query(target["expr"].as_str().unwrap());
        }
        panels += 1;
    }
    assert!(panels > 20, "{panels}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    for path in pages() {
        for link in read(&path)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(
                    path.parent().unwrap().join(file).exists(),
                    "{}: {link}",
                    path.display()
                );
            }
        }
    }
}
