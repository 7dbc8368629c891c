//! Storage nodes that join by themselves, and that nobody takes away: what manifests and compose say of it.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::deploy_test::{deploy, object, production, read, settings, yaml};
use crate::config::{Layers, host_and_port};

const PORT: i32 = 50051;

/// The host and the port in a URL.
fn place(url: &str) -> (String, u16) {
    let (_, place) = url.split_once("://").unwrap();
    host_and_port(place).unwrap()
}

#[test]
fn new_storage_nodes_ask_coordinators_that_need_not_be_ready() {
    let (host, port) = place(&settings().join.coordinator);
    assert_eq!(i32::from(port), PORT);
    let service: Service = object("Service", &host);
    let spec = service.spec.unwrap();
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    let coordinators: Deployment = object("Deployment", "pairdb-coordinator");
    assert_eq!(
        spec.selector, coordinators.spec.selector.match_labels,
        "it leads to coordinators and to nobody else"
    );
    assert_eq!(spec.ports.unwrap()[0].port, PORT);

    // Each pod says where it can be reached by its own name, which it keeps.
    let nodes: StatefulSet = object("StatefulSet", "pairdb-storage");
    let service = nodes.spec.service_name.clone().unwrap();
    let pod = nodes.spec.template.spec.unwrap();
    let args = pod.containers[0].args.clone().unwrap();
    let advertised = args.iter().position(|arg| arg == "--advertise").unwrap() + 1;
    assert!(args[advertised].starts_with(&format!("$(POD).{service}.")));
    // No hook takes a node out of the cluster: a pod that stops may only be restarted.
    assert!(pod.containers[0].lifecycle.is_none());
}

fn selects(peer: &NetworkPolicyPeer, component: &str) -> bool {
    let labels = |selector: &LabelSelector| {
        let labels = selector.match_labels.as_ref()?;
        labels.get("app.kubernetes.io/component").cloned()
    };
    peer.pod_selector.as_ref().and_then(labels).as_deref() == Some(component)
}

fn has_port(ports: &Option<Vec<NetworkPolicyPort>>) -> bool {
    let mut ports = ports.iter().flatten();
    ports.any(|port| port.port == Some(IntOrString::Int(PORT)))
}

#[test]
fn in_production_storage_nodes_reach_whom_they_ask() {
    let policy = |name: &str| {
        let policy: NetworkPolicy = production("network.yaml", "NetworkPolicy", name);
        policy.spec.unwrap()
    };
    let leave = policy("pairdb-storage").egress.unwrap();
    let leaves = leave.iter().any(|rule| {
        let mut to = rule.to.iter().flatten();
        has_port(&rule.ports) && to.any(|peer| selects(peer, "coordinator"))
    });
    let enter = policy("pairdb-coordinator").ingress.unwrap();
    let enters = enter.iter().any(|rule| {
        let mut from = rule.from.iter().flatten();
        has_port(&rule.ports) && from.any(|peer| selects(peer, "storage"))
    });
    assert!(leaves && enters);
}

#[test]
fn in_compose_storage_nodes_ask_a_coordinator_that_there_is() {
    let compose = yaml(&deploy().join("compose/compose.yaml")).remove(0);
    let services = compose["services"].as_object().unwrap();
    let mut asking = 0;
    for (name, service) in services
        .iter()
        .filter(|(name, _)| name.starts_with("node-"))
    {
        let environment = service["environment"].as_object().unwrap();
        let environment = environment.iter();
        let environment =
            environment.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
        let config = Layers::new().environment(environment).unwrap().build();
        let (host, port) = place(&config.unwrap().join.coordinator);
        assert_eq!(
            (i32::from(port), &services[&host]["command"][0]),
            (PORT, &"coordinator".into())
        );
        let has_volume = compose["volumes"].as_object().unwrap().contains_key(name);
        assert!(has_volume, "{name}");
        asking += 1;
    }
    assert_eq!(asking, 4);
}

/// The guard sees every way in which fewer replicas can be asked for, and is told by what the script writes. (What its
/// expressions say was tried on an evaluator of CEL; none is among the project's dependencies.)
#[test]
fn nodes_that_hold_something_are_not_taken_away() {
    let policy: ValidatingAdmissionPolicy = object("ValidatingAdmissionPolicy", "pairdb-storage");
    let spec = policy.spec.unwrap();
    assert_eq!(spec.failure_policy.as_deref(), Some("Fail"));
    let rules = spec.match_constraints.unwrap().resource_rules.unwrap();
    let nodes: StatefulSet = object("StatefulSet", "pairdb-storage");
    assert_eq!(rules.len(), 1);
    let rule = &rules[0];
    let names = [nodes.metadata.name.unwrap()];
    assert_eq!(rule.resource_names.as_deref(), Some(&names[..]));
    let words = |words: &Option<Vec<String>>| words.clone().unwrap().join(" ");
    assert_eq!(words(&rule.api_groups), "apps");
    assert_eq!(words(&rule.operations), "UPDATE");
    assert_eq!(words(&rule.resources), "statefulsets statefulsets/scale");
    let validations = spec.validations.unwrap();
    assert_eq!(
        validations[0].expression,
        "variables.wanted >= variables.before || variables.drained.startsWith(string(variables.wanted) + '@') \
         && variables.drained != variables.drainedBefore"
    );
    let variables = spec.variables.unwrap();
    let annotation = "pairdb.io/drained-to";
    for (name, of) in [("drained", "object."), ("drainedBefore", "oldObject.")] {
        let variable = variables.iter().find(|variable| variable.name == name);
        let expression = &variable.unwrap().expression;
        assert!(
            expression.contains(annotation) && expression.contains(of),
            "{name}"
        );
    }
    let script = read(&deploy().join("kubernetes/shrink-storage"));
    assert!(script.contains(annotation) && script.contains("$wanted@$(date"));

    let binding: ValidatingAdmissionPolicyBinding =
        object("ValidatingAdmissionPolicyBinding", "pairdb-storage");
    let spec = binding.spec;
    assert_eq!(Some(spec.policy_name), policy.metadata.name);
    assert_eq!(spec.validation_actions, ["Deny"]);
    let namespaces = spec.match_resources.unwrap().namespace_selector.unwrap();
    let namespace = &namespaces.match_labels.unwrap()["kubernetes.io/metadata.name"];
    let base = yaml(&deploy().join("kubernetes/base/kustomization.yaml")).remove(0);
    assert_eq!(base["namespace"], namespace.as_str());
    // Disks stay, so pods that were taken away all the same come back with what they had.
    let retention = nodes.spec.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(retention.when_scaled.as_deref(), Some("Retain"));
}
