//! The pod security levels of a namespace: which pods they allow, with the messages of the real server.
//!
//! Implements the checks of version 1.34 for Linux, except `AppArmor`, `SELinux` and hosts in probes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::Kind;
use crate::meta;

const BASELINE_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Returns the error for a pod that the namespace forbids, or the warnings that it asks for. Pod templates only get
/// warnings.
pub(super) fn check(kind: &Kind, object: &Value, namespace: &Value) -> Result<Vec<String>, String> {
    let is_pod = kind.is("", "Pod");
    let pointer = kind.builtin().and_then(|builtin| builtin.pod_spec);
    let Some(spec) = pointer.and_then(|pointer| object.pointer(pointer)) else { return Ok(Vec::new()) };
    let level = |mode: &str| meta::label(namespace, &format!("pod-security.kubernetes.io/{mode}")).unwrap_or_default();
    let version = |mode: &str| {
        let version = meta::label(namespace, &format!("pod-security.kubernetes.io/{mode}-version"));
        version.unwrap_or("latest").to_owned()
    };
    let message = |mode: &str| {
        let violations = violations(spec, level(mode));
        let listed = || format!("\"{}:{}\": {}", level(mode), version(mode), violations.join(", "));
        (!violations.is_empty()).then(listed)
    };
    if is_pod && let Some(message) = message("enforce") {
        return Err(format!("violates PodSecurity {message}"));
    }
    Ok(message("warn").map(|message| format!("would violate PodSecurity {message}")).into_iter().collect())
}

/// Returns what a level forbids in a specification. As in the real server, an unknown level is the strictest.
fn violations(spec: &Value, level: &str) -> Vec<String> {
    if matches!(level, "" | "privileged") {
        return Vec::new();
    }
    let pod = Pod(spec);
    let restricted = level != "baseline";
    let mut found = Vec::new();
    // As in the real server, the checks of each level run in the order of their names, and a restricted check replaces
    // the baseline check that it includes.
    if !restricted {
        found.push(pod.baseline_capabilities());
    }
    found.push(pod.host_namespaces());
    if !restricted {
        found.push(pod.host_paths());
    }
    found.extend([pod.host_ports(), pod.privileged(), pod.proc_mounts()]);
    if !restricted {
        found.push(pod.seccomp(false));
    }
    found.push(pod.sysctls());
    if restricted {
        found.extend([pod.escalation(), pod.restricted_capabilities(), pod.volumes(), pod.non_root(), pod.root_user()]);
        found.push(pod.seccomp(true));
    }
    found.into_iter().flatten().collect()
}

fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    format!("\"{}\"", items.into_iter().collect::<Vec<_>>().join("\", \""))
}

fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names.iter().copied()))
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// Formats a violation, if there is one.
fn violation(is: bool, reason: &str, detail: &str) -> Option<String> {
    is.then(|| format!("{reason} ({detail})"))
}

/// The specification of a pod, or of a pod template.
struct Pod<'a>(&'a Value);

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let spec = self.0;
        lists.into_iter().filter_map(|list| spec.get(list)?.as_array()).flatten()
    }

    /// Returns the names of the containers that meet a condition.
    fn names_where(&self, is: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is(container)).map(|container| meta::text(container, "/name")).collect()
    }

    fn flag(object: &Value, pointer: &str) -> Option<bool> {
        object.pointer(pointer).and_then(Value::as_bool)
    }

    /// Names what sets a forbidden value: the pod, its containers, or both.
    fn setters(pod: bool, names: &[&str]) -> Option<String> {
        let names = (!names.is_empty()).then(|| containers(names));
        let all: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().chain(names).collect();
        (!all.is_empty()).then(|| all.join(" and "))
    }

    fn added(container: &Value) -> Vec<String> {
        meta::texts(container, "/securityContext/capabilities/add")
    }

    fn baseline_capabilities(&self) -> Option<String> {
        self.other_capabilities(BASELINE_CAPABILITIES)
            .and_then(|detail| violation(true, "non-default capabilities", &detail))
    }

    /// Returns the containers that add capabilities other than the allowed ones.
    fn other_capabilities(&self, allowed: &[&str]) -> Option<String> {
        let other = |container: &Value| -> Vec<String> {
            Self::added(container).into_iter().filter(|name| !allowed.contains(&name.as_str())).collect()
        };
        let names = self.names_where(|container| !other(container).is_empty());
        let added: BTreeSet<String> = self.containers().flat_map(other).collect();
        let listed = quoted(added.iter().map(String::as_str));
        (!names.is_empty())
            .then(|| format!("{} must not include {listed} in securityContext.capabilities.add", containers(&names)))
    }

    fn host_namespaces(&self) -> Option<String> {
        let all = ["hostNetwork", "hostPID", "hostIPC"];
        let set: Vec<String> = all
            .into_iter()
            .filter(|name| self.0.get(*name) == Some(&Value::Bool(true)))
            .map(|name| format!("{name}=true"))
            .collect();
        violation(!set.is_empty(), "host namespaces", &set.join(", "))
    }

    fn volumes_where(&self, is: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
        let volumes = self.0.get("volumes").and_then(Value::as_array).into_iter().flatten();
        volumes.filter(|volume| is(volume)).collect()
    }

    fn host_paths(&self) -> Option<String> {
        let found = self.volumes_where(|volume| volume.get("hostPath").is_some());
        let names = quoted(found.iter().map(|volume| meta::text(volume, "/name")));
        let noun = plural(found.len(), "volume", "volumes");
        violation(!found.is_empty(), "hostPath volumes", &format!("{noun} {names}"))
    }

    fn host_ports(&self) -> Option<String> {
        let ports = |container: &Value| -> Vec<String> {
            let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
            let ports = ports.filter_map(|port| meta::number(port, "/hostPort"));
            ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
        };
        let names = self.names_where(|container| !ports(container).is_empty());
        let all: BTreeSet<String> = self.containers().flat_map(ports).collect();
        if names.is_empty() {
            return None;
        }
        let (uses, port) = (plural(names.len(), "uses", "use"), plural(all.len(), "hostPort", "hostPorts"));
        let listed = all.into_iter().collect::<Vec<_>>().join(", ");
        violation(true, "hostPort", &format!("{} {uses} {port} {listed}", containers(&names)))
    }

    fn privileged(&self) -> Option<String> {
        let names = self.names_where(|container| Self::flag(container, "/securityContext/privileged") == Some(true));
        let detail = format!("{} must not set securityContext.privileged=true", containers(&names));
        violation(!names.is_empty(), "privileged", &detail)
    }

    fn proc_mounts(&self) -> Option<String> {
        let mount = |container: &'a Value| -> Option<&'a str> {
            let mount = container.pointer("/securityContext/procMount")?.as_str()?;
            (mount != "Default").then_some(mount)
        };
        let bad: Vec<&'a Value> = self.containers().filter(|container| mount(container).is_some()).collect();
        let names: Vec<&str> = bad.iter().map(|container| meta::text(container, "/name")).collect();
        let kinds: BTreeSet<&str> = bad.iter().filter_map(|container| mount(container)).collect();
        let detail = format!("{} must not set securityContext.procMount to {}", containers(&names), quoted(kinds));
        violation(!names.is_empty(), "procMount", &detail)
    }

    fn seccomp(&self, must: bool) -> Option<String> {
        const TYPE: &str = "/securityContext/seccompProfile/type";
        let wrong = |profile: &str| !profile.is_empty() && profile != "RuntimeDefault" && profile != "Localhost";
        let own = meta::text(self.0, TYPE);
        let names = self.names_where(|container| wrong(meta::text(container, TYPE)));
        if let Some(setters) = Self::setters(wrong(own), &names) {
            let profiles = self.containers().map(|container| meta::text(container, TYPE)).chain([own]);
            let values: BTreeSet<&str> = profiles.filter(|profile| wrong(profile)).collect();
            let detail = format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(values));
            return violation(true, "seccompProfile", &detail);
        }
        let silent = self.names_where(|container| meta::text(container, TYPE).is_empty());
        if !must || !own.is_empty() || silent.is_empty() {
            return None;
        }
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        );
        violation(true, "seccompProfile", &detail)
    }

    fn sysctls(&self) -> Option<String> {
        let all = self.0.pointer("/securityContext/sysctls").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<&str> =
            all.map(|sysctl| meta::text(sysctl, "/name")).filter(|name| !SYSCTLS.contains(name)).collect();
        violation(!names.is_empty(), "forbidden sysctls", &names.join(", "))
    }

    fn escalation(&self) -> Option<String> {
        const FIELD: &str = "/securityContext/allowPrivilegeEscalation";
        let names = self.names_where(|container| Self::flag(container, FIELD) != Some(false));
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
        violation(!names.is_empty(), "allowPrivilegeEscalation != false", &detail)
    }

    fn restricted_capabilities(&self) -> Option<String> {
        let drops = |container: &Value| {
            meta::texts(container, "/securityContext/capabilities/drop").contains(&"ALL".to_owned())
        };
        let keeping = self.names_where(|container| !drops(container));
        let kept = (!keeping.is_empty())
            .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
        let details: Vec<String> = kept.into_iter().chain(self.other_capabilities(&["NET_BIND_SERVICE"])).collect();
        violation(!details.is_empty(), "unrestricted capabilities", &details.join("; "))
    }

    fn volumes(&self) -> Option<String> {
        let kind = |volume: &'a Value| -> &'a str {
            let fields = volume.as_object().into_iter().flatten();
            fields.map(|(key, _)| key.as_str()).find(|key| *key != "name").unwrap_or("unknown")
        };
        let bad: Vec<&'a Value> =
            self.volumes_where(|_| true).into_iter().filter(|volume| !VOLUMES.contains(&kind(volume))).collect();
        if bad.is_empty() {
            return None;
        }
        let kinds: BTreeSet<&str> = bad.iter().map(|volume| kind(volume)).collect();
        let detail = format!(
            "{} {} {} {} {}",
            plural(bad.len(), "volume", "volumes"),
            quoted(bad.iter().map(|volume| meta::text(volume, "/name"))),
            plural(bad.len(), "uses", "use"),
            plural(kinds.len(), "restricted volume type", "restricted volume types"),
            quoted(kinds)
        );
        violation(true, "restricted volume types", &detail)
    }

    fn non_root(&self) -> Option<String> {
        const FIELD: &str = "/securityContext/runAsNonRoot";
        const REASON: &str = "runAsNonRoot != true";
        let own = Self::flag(self.0, FIELD);
        let names = self.names_where(|container| Self::flag(container, FIELD) == Some(false));
        if let Some(setters) = Self::setters(own == Some(false), &names) {
            return violation(true, REASON, &format!("{setters} must not set securityContext.runAsNonRoot=false"));
        }
        let silent = self.names_where(|container| Self::flag(container, FIELD).is_none());
        if own == Some(true) || silent.is_empty() {
            return None;
        }
        let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent));
        violation(true, REASON, &detail)
    }

    fn root_user(&self) -> Option<String> {
        const FIELD: &str = "/securityContext/runAsUser";
        let names = self.names_where(|container| meta::number(container, FIELD) == Some(0));
        let setters = Self::setters(meta::number(self.0, FIELD) == Some(0), &names)?;
        violation(true, "runAsUser=0", &format!("{setters} must not set runAsUser=0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_pod_gets_the_real_servers_violations() {
        let plain = json!({"containers": [{"name": "c", "image": "x"}]});
        assert!(violations(&plain, "baseline").is_empty());
        assert_eq!(
            violations(&plain, "restricted").join(", "),
            "allowPrivilegeEscalation != false (container \"c\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn restricted_pod_is_allowed() {
        let restricted = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        });
        assert!(violations(&restricted, "restricted").is_empty());
    }

    #[test]
    fn baseline_forbids_access_to_the_node() {
        let privileged = json!({
            "hostNetwork": true, "hostPID": true,
            "securityContext": {"seccompProfile": {"type": "Unconfined"}, "sysctls": [{"name": "kernel.msgmax"}]},
            "containers": [
                {"name": "a", "ports": [{"hostPort": 80}], "securityContext": {"privileged": true}},
                {"name": "b", "ports": [{"hostPort": 81}], "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
            ],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        });
        assert_eq!(
            violations(&privileged, "baseline"),
            [
                "non-default capabilities (container \"b\" must not include \"SYS_ADMIN\" in \
                 securityContext.capabilities.add)",
                "host namespaces (hostNetwork=true, hostPID=true)",
                "hostPath volumes (volume \"v\")",
                "hostPort (containers \"a\", \"b\" use hostPorts 80, 81)",
                "privileged (container \"a\" must not set securityContext.privileged=true)",
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
                "forbidden sysctls (kernel.msgmax)",
            ]
        );
        assert!(
            violations(&privileged, "restricted").contains(
                &"restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")".to_owned()
            )
        );
    }

    #[test]
    fn templates_get_warnings_and_only_pods_are_refused() {
        let registry = crate::kinds::Registry::new(std::iter::empty());
        let namespace = |mode: &str| {
            let labels = [
                (format!("pod-security.kubernetes.io/{mode}"), Value::from("baseline")),
                (format!("pod-security.kubernetes.io/{mode}-version"), Value::from("v1.30")),
            ];
            json!({"metadata": {"labels": serde_json::Map::from_iter(labels)}})
        };
        let spec = json!({"hostPID": true, "containers": []});
        let (pod, workload) = (json!({"spec": spec}), json!({"spec": {"template": {"spec": spec}}}));
        let pods = registry.at("", "v1", "pods").unwrap();
        let deployments = registry.at("apps", "v1", "deployments").unwrap();
        let message = "PodSecurity \"baseline:v1.30\": host namespaces (hostPID=true)";
        assert_eq!(check(pods, &pod, &namespace("enforce")), Err(format!("violates {message}")));
        assert_eq!(check(deployments, &workload, &namespace("enforce")), Ok(Vec::new()));
        for (kind, object) in [(pods, &pod), (deployments, &workload)] {
            assert_eq!(check(kind, object, &namespace("warn")), Ok(vec![format!("would violate {message}")]));
        }
    }
}
