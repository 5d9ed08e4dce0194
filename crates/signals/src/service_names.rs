//! Names of brokers as the pods of a namespace look them up. Kubernetes gives a pod a search list that begins with the
//! pod's own namespace (`team.svc.cluster.local svc.cluster.local cluster.local`), so `kafka` is a different host in
//! each namespace. The operator's own search list would lead into the operator's namespace.

/// Returns `host:port` as the pods of `namespace` would look it up: a name without a dot is a Service of the namespace.
/// `localhost` and addresses are returned unchanged.
pub(super) fn qualify(server: &str, namespace: &str) -> String {
    match server.rsplit_once(':') {
        Some((host, port)) if is_short(host) => format!("{host}.{namespace}.svc:{port}"),
        _ => server.to_owned(),
    }
}

/// Returns whether the name resolves differently in each namespace.
pub(super) fn is_short(host: &str) -> bool {
    let plain = !host.is_empty() && !host.contains(['.', '[', ':', '%']);
    plain && !host.eq_ignore_ascii_case("localhost")
}

/// Returns the namespace that the names of all servers have in common: `kafka.team.svc:9092` and `kafka.team:9092` are
/// in `team`.
pub(super) fn common_namespace(servers: &[String]) -> Option<String> {
    let mut homes = servers.iter().map(|server| {
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
        let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
        match labels.iter().position(|label| *label == "svc") {
            Some(place) => labels.get(place.checked_sub(1)?).copied().filter(|_| place >= 2),
            None if host.parse::<std::net::IpAddr>().is_err() => match labels.as_slice() {
                [_, namespace] => Some(*namespace),
                _ => None,
            },
            None => None,
        }
    });
    let first = homes.next()??;
    homes.all(|home| home == Some(first)).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catalogue: B4.
    #[test]
    fn name_without_a_dot_is_a_service_of_the_namespace() {
        for (written, looked_up) in [
            ("kafka:9092", "kafka.team.svc:9092"),
            ("kafka-0:9093", "kafka-0.team.svc:9093"),
            ("kafka.infra:9092", "kafka.infra:9092"),
            ("kafka.infra.svc.cluster.local:9092", "kafka.infra.svc.cluster.local:9092"),
            ("kafka.:9092", "kafka.:9092"),
            ("localhost:9092", "localhost:9092"),
            ("LocalHost:9092", "LocalHost:9092"),
            ("10.1.2.3:9092", "10.1.2.3:9092"),
            ("[fd00::1]:9092", "[fd00::1]:9092"),
            (":9092", ":9092"),
            ("kafka", "kafka"),
        ] {
            assert_eq!(qualify(written, "team"), looked_up);
        }
    }

    /// Catalogue: B4.
    #[test]
    fn namespace_is_known_if_all_server_names_contain_it() {
        let of =
            |servers: &[&str]| common_namespace(&servers.iter().map(|server| (*server).to_owned()).collect::<Vec<_>>());
        for servers in [
            &["kafka.team.svc:9092"][..],
            &["kafka.team:9092"],
            &["kafka-0.kafka.team.svc.cluster.local:9092", "kafka.team.svc:9092"],
        ] {
            assert_eq!(of(servers).as_deref(), Some("team"), "{servers:?}");
        }
        for servers in [
            &[][..],
            &["kafka:9092"],
            &["kafka.team.svc:9092", "kafka.other.svc:9092"],
            &["kafka.team.svc:9092", "10.1.2.3:9092"],
            &["b-1.kafka.example.com:9092"],
            &["10.1.2.3:9092"],
            &["svc:9092"],
            &["x.svc:9092"],
        ] {
            assert_eq!(of(servers), None, "{servers:?}");
        }
    }
}
