//! The manifests of `scripts/kubernetes`: they say nothing that the API does not know, fit together, ask for no right, and
//! their agents carry a stream by their own configuration while a kubelet swaps their Secrets and ConfigMaps.

use std::{fs, path::Path, time::Duration};

use adit_tests::{
    address::Wire,
    agent::{Agent, adit},
    authority::{Authority, Credential, Leaf},
    end::End,
    load::Service as Echo,
    mount::Mount,
    need,
    prometheus::scripts,
    wait::{LIMIT, until},
    zone::Zone,
};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, StatefulSet},
        core::v1::{ConfigMap, Container, Namespace, PodSpec, PodTemplateSpec, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const REDIS: &str = "/svc/data/redis";

/// What the agent takes to end after its drain (`LAST_TASKS`).
const LAST: u64 = 6;

/// Every document of a manifest.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(scripts("kubernetes").join(file)).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    assert!(all.len() >= 3, "{file} has documents");
    all
}

fn all_documents() -> Vec<Value> {
    ["agent.yaml", "service.yaml"].into_iter().flat_map(documents).collect()
}

/// The documents of one kind.
fn of<T: DeserializeOwned>(kind: &str) -> Vec<T> {
    let all = all_documents().into_iter().filter(|document| document["kind"] == kind);
    let all: Vec<T> = all.map(|document| serde_json::from_value(document).unwrap()).collect();
    assert!(!all.is_empty(), "there is a {kind}");
    all
}

/// What the types of the API make of a document.
fn kept(document: &Value) -> Value {
    fn round<T: DeserializeOwned + Serialize>(document: &Value) -> Value {
        let typed: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error} in {document}"));
        serde_json::to_value(typed).unwrap()
    }
    match (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap()) {
        ("v1", "Namespace") => round::<Namespace>(document),
        ("v1", "ConfigMap") => round::<ConfigMap>(document),
        ("v1", "Service") => round::<Service>(document),
        ("apps/v1", "DaemonSet") => round::<DaemonSet>(document),
        ("apps/v1", "StatefulSet") => round::<StatefulSet>(document),
        ("networking.k8s.io/v1", "NetworkPolicy") => round::<NetworkPolicy>(document),
        other => panic!("no manifest has a {other:?}, so this test knows none"),
    }
}

/// Where the types know less than the document says: they pass over a key that they do not know.
fn lost(at: &str, given: &Value, kept: &Value) -> Vec<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            let each = |(key, value): (&String, &Value)| {
                lost(&format!("{at}.{key}"), value, kept.get(key).unwrap_or(&Value::Null))
            };
            given.iter().flat_map(each).collect()
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            let pairs = given.iter().zip(kept).enumerate();
            pairs.flat_map(|(place, (given, kept))| lost(&format!("{at}[{place}]"), given, kept)).collect()
        }
        (given, kept) if given == kept => Vec::new(),
        (given, kept) => vec![format!("{at}: {given} became {kept}")],
    }
}

#[test]
fn the_manifests_say_nothing_that_the_api_does_not_know() {
    for document in all_documents() {
        let what = format!("{} {}", document["kind"], document["metadata"]["name"]);
        assert_eq!(lost(&what, &document, &kept(&document)), Vec::<String>::new());
    }
}

#[test]
fn a_key_that_the_api_does_not_know_is_found() {
    let mut agent = documents("agent.yaml").into_iter().find(|document| document["kind"] == "DaemonSet").unwrap();
    agent["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = json!(true);
    let found = lost("agent", &agent, &kept(&agent));
    let at = "agent.spec.template.spec.containers[0].securityContext.readOnlyRootFileSystem";
    assert_eq!(found, [format!("{at}: true became null")]);
}

/// The pods that the manifests make, each with its name and namespace.
fn pods() -> Vec<(String, PodTemplateSpec)> {
    let agents = of::<DaemonSet>("DaemonSet").into_iter().map(|set| (set.metadata, set.spec.template));
    let services = of::<StatefulSet>("StatefulSet").into_iter().map(|set| (set.metadata, set.spec.template));
    agents.chain(services).map(|(metadata, pod)| (metadata.namespace.unwrap(), pod)).collect()
}

fn spec(pod: &PodTemplateSpec) -> &PodSpec {
    pod.spec.as_ref().unwrap()
}

/// Every container of a pod.
fn containers(pod: &PodTemplateSpec) -> Vec<&Container> {
    spec(pod).init_containers.iter().flatten().chain(&spec(pod).containers).collect()
}

/// The agent's container of a pod.
fn agent(pod: &PodTemplateSpec) -> &Container {
    containers(pod).into_iter().find(|container| container.name == "adit").unwrap()
}

#[test]
fn no_pod_has_a_right_or_a_token() {
    for (_, pod) in pods() {
        let spec = spec(&pod);
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!((&spec.service_account_name, spec.host_pid, spec.host_ipc), (&None, None, None));
        assert!(!spec.host_network.unwrap_or_default());
        let security = spec.security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert!(security.run_as_user.is_some_and(|user| user > 0) && security.fs_group == security.run_as_group);
        assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        for container in containers(&pod) {
            let name = &container.name;
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false), "{name}");
            assert_eq!(security.read_only_root_filesystem, Some(true), "{name}");
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(
                (capabilities.drop.as_deref(), &capabilities.add),
                (Some(&["ALL".to_owned()][..]), &None),
                "{name}"
            );
            let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
            assert!(limits.contains_key("cpu") && limits.contains_key("memory"), "{name}");
            assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()), "{name}");
        }
    }
}

#[test]
fn what_a_pod_mounts_is_there_as_a_folder_that_is_swapped() {
    let maps: Vec<_> =
        of::<ConfigMap>("ConfigMap").into_iter().map(|map| (map.metadata.namespace, map.metadata.name)).collect();
    for (namespace, pod) in pods() {
        let volumes = spec(&pod).volumes.as_deref().unwrap();
        for mount in containers(&pod).into_iter().flat_map(|container| container.volume_mounts.iter().flatten()) {
            assert!(volumes.iter().any(|volume| volume.name == mount.name), "{} is a volume", mount.name);
            assert_eq!(mount.sub_path, None, "a kubelet never swaps a subPath");
        }
        for map in volumes.iter().filter_map(|volume| volume.config_map.as_ref()) {
            assert!(maps.contains(&(Some(namespace.clone()), Some(map.name.clone()))), "{} is in the file", map.name);
        }
        let keys = volumes.iter().filter_map(|volume| volume.secret.as_ref());
        assert!(keys.map(|secret| secret.default_mode).eq([Some(0o440)]), "only the group reads the key");
    }
}

#[test]
fn an_agent_is_asked_how_it_is_and_has_the_time_to_drain() {
    for (namespace, pod) in pods() {
        let agent = agent(&pod);
        for (probe, path) in [
            (&agent.startup_probe, "/readyz"),
            (&agent.readiness_probe, "/readyz"),
            (&agent.liveness_probe, "/healthz"),
        ] {
            let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
            assert_eq!((get.path.as_deref(), &get.port), (Some(path), &IntOrString::String("admin".to_owned())));
        }
        let ports: Vec<_> =
            agent.ports.iter().flatten().map(|port| (port.name.clone().unwrap(), port.container_port)).collect();
        assert!(ports.contains(&("admin".to_owned(), 9990)), "{ports:?}");
        // preStop, drain, and what is left to end, within what Kubernetes waits before it kills
        let stop = agent.lifecycle.as_ref().unwrap().pre_stop.as_ref().unwrap();
        let sleep = u64::try_from(stop.sleep.as_ref().unwrap().seconds).unwrap();
        let grace = u64::try_from(spec(&pod).termination_grace_period_seconds.unwrap()).unwrap();
        let drain = drain(&configuration(&namespace));
        assert!(sleep > 0 && sleep + drain.as_secs() + LAST <= grace, "{sleep} + {drain:?} + {LAST} <= {grace}");
    }
}

#[test]
fn services_lead_to_ports_of_the_pods_they_select() {
    let pods = pods();
    for service in of::<Service>("Service") {
        let (metadata, spec) = (service.metadata, service.spec.unwrap());
        let selector = spec.selector.unwrap();
        let selected = |(namespace, pod): &&(String, PodTemplateSpec)| {
            let labels = pod.metadata.as_ref().unwrap().labels.as_ref().unwrap();
            Some(namespace) == metadata.namespace.as_ref()
                && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let (_, pod) = pods.iter().find(selected).expect("it selects a pod");
        for port in spec.ports.unwrap() {
            let named = |of: &k8s_openapi::api::core::v1::ContainerPort| match &port.target_port {
                Some(IntOrString::String(name)) => of.name.as_ref() == Some(name),
                Some(IntOrString::Int(number)) => of.container_port == *number,
                None => of.container_port == port.port,
            };
            assert!(agent(pod).ports.iter().flatten().any(named), "the agent has {port:?}");
        }
        // a name is either found pod by pod, or stays on the node
        let headless = spec.cluster_ip.as_deref() == Some("None");
        assert!(headless || spec.internal_traffic_policy.as_deref() == Some("Local"), "{:?}", metadata.name);
    }
}

#[test]
fn who_may_come_to_a_pod_in_an_agents_name_or_to_its_pages_is_said_by_namespace() {
    let policies = of::<NetworkPolicy>("NetworkPolicy");
    for (namespace, pod) in pods() {
        let labels = pod.metadata.unwrap().labels.unwrap();
        let about = |policy: &&NetworkPolicy| {
            let selects = policy.spec.as_ref().unwrap().pod_selector.as_ref().unwrap().match_labels.as_ref().unwrap();
            policy.metadata.namespace.as_ref() == Some(&namespace)
                && selects.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let policy = policies.iter().find(about).unwrap_or_else(|| panic!("a pod of {namespace} is open to all"));
        for rule in policy.spec.as_ref().unwrap().ingress.as_ref().unwrap() {
            let from = rule.from.as_deref().unwrap_or_default();
            let ports: Vec<_> = rule.ports.iter().flatten().map(|port| port.port.clone()).collect();
            // At the agent's own door certificates decide.
            let open = ports == [Some(IntOrString::String("adit".to_owned()))];
            assert_eq!(from.is_empty(), open, "{ports:?}");
            for peer in from {
                let by = peer.namespace_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
                assert!(by.is_some_and(|labels| labels.contains_key("kubernetes.io/metadata.name")), "{peer:?}");
            }
        }
    }
}

#[test]
fn adit_check_finds_no_problem_in_their_configurations() {
    for namespace in ["adit", "data"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("adit.toml");
        fs::write(&file, configuration(namespace)).unwrap();
        let said = adit(&["check", "--no-files", file.to_str().unwrap()]).expect_success();
        assert!(said.contains("no problem found"), "{said}");
    }
}

/// The `adit.toml` of a namespace's ConfigMap.
fn configuration(namespace: &str) -> String {
    let mut maps = of::<ConfigMap>("ConfigMap").into_iter();
    let map = maps.find(|map| map.metadata.namespace.as_deref() == Some(namespace)).unwrap();
    map.data.unwrap().remove("adit.toml").unwrap()
}

fn drain(configuration: &str) -> Duration {
    let line = configuration.lines().find_map(|line| line.strip_prefix("drain = ")).unwrap();
    Duration::from_secs(line.trim_matches('"').strip_suffix('s').unwrap().parse().unwrap())
}

/// A pod's agent, as its kubelet keeps it.
struct Pod {
    agent: Agent,
    configuration: String,
    config: Mount,
    tls: Mount,
}

impl Pod {
    /// Starts it by the configuration of a namespace, with what differs here in place of what is there.
    fn start(dir: &Path, namespace: &str, here: &[(&str, &str)], issuer: &Authority, paper: &Credential) -> Self {
        let tls = Mount::new(&dir.join("tls"), &secret(issuer, paper));
        let (papers, socket) = (dir.join("tls").display().to_string(), dir.join("admin.sock").display().to_string());
        let common = [("/etc/adit-tls", &*papers), ("/run/adit/admin.sock", &*socket), ("0.0.0.0:9990", "127.0.0.1:0")];
        let mut text = configuration(namespace);
        for (from, to) in common.iter().chain(here) {
            assert!(text.contains(from), "the configuration of {namespace} has {from}");
            text = text.replace(from, to);
        }
        let config = Mount::new(dir, &[("adit.toml", &text)]);
        Self { agent: Agent::start(namespace, dir), configuration: text, config, tls }
    }

    /// The serial number of the certificate in force.
    fn serial(&self) -> String {
        self.agent.status()["certificates"][0]["serial"].as_str().unwrap().to_owned()
    }

    /// Rotates its Secret, and waits until the new one is in force.
    fn rotate(&mut self, issuer: &Authority, paper: &Credential) {
        let before = self.serial();
        self.tls.swap(&secret(issuer, paper));
        until("the new certificate to be in force", LIMIT, || (self.serial() != before).then_some(()));
    }
}

/// A Secret's files.
fn secret<'a>(issuer: &'a Authority, paper: &'a Credential) -> [(&'static str, &'a str); 3] {
    [("ca.crt", issuer.pem()), ("tls.crt", &paper.cert), ("tls.key", &paper.key)]
}

#[test]
fn their_agents_carry_streams_while_secrets_and_config_maps_are_swapped() {
    need!("unbound", "unbound-control");
    // given the agents of both manifests, with the cluster's DNS played by another server
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Authority::new("the cluster"));
    let service = || issuer.issue(&Leaf::dns(&["redis.data.svc.cluster.local"]));
    let client = || issuer.issue(&Leaf::dns(&["adit.adit.svc.cluster.local"]));
    let redis = Echo::start(Wire::Tcp, "echo");
    let here = [("0.0.0.0:4143", "127.0.0.1:0"), ("127.0.0.1:6379", &*redis.address().to_string())];
    let mut served = Pod::start(&dir.path().join("data"), "data", &here, &issuer, &service());
    let dns = Zone::start("svc.cluster.local");
    dns.publish(&["redis.data 60 IN A 127.0.0.1"]);
    let port = format!("/{} ;\"\n", served.agent.inbound().port());
    let log = format!("{}\n[log]", dns.table());
    let here = [("0.0.0.0:6379", "127.0.0.1:0"), ("/4143 ;\"\n", &*port), ("[log]", &*log)];
    let mut asking = Pod::start(&dir.path().join("adit"), "adit", &here, &issuer, &client());
    let front = asking.agent.listener(REDIS);
    End::try_echo(&front).unwrap();
    // when their Secrets are rotated, then streams go on, and the peer shows the new certificate
    for _ in 0..3 {
        served.rotate(&issuer, &service());
        End::try_echo(&front).unwrap();
        asking.rotate(&issuer, &client());
        End::try_echo(&front).unwrap();
        let said = asking.agent.ping(REDIS).expect_success();
        assert!(said.contains(&format!("serial {}", served.serial())), "{said}");
    }
    // and when a ConfigMap withdraws the right, then it is withdrawn
    let closed = served.configuration.replace("adit.adit.svc.cluster.local", "nobody.adit.svc.cluster.local");
    served.config.swap(&[("adit.toml", &closed)]);
    until("the right to be withdrawn", LIMIT, || End::try_echo(&front).is_err().then_some(()));
    served.agent.until_logged("denied");
}
