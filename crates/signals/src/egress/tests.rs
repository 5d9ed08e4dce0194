//! Tests how ranges are written, and what they allow and deny.

use super::*;

fn ranges(texts: &[&str]) -> Vec<AddressRange> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Returns whether a connection is allowed.
fn open(egress: &Egress, address: &str) -> bool {
    egress.denial_reason(address.parse().unwrap()).is_none()
}

#[test]
fn private_ranges_are_allowed_and_special_ones_denied() {
    let egress = Egress::new(Vec::new(), Vec::new(), ranges(&["10.96.0.1", "10.9.8.7:8443"]));
    for address in [
        "10.1.2.3:9092",
        "192.168.0.7:1",
        "[fd00::7]:9092",
        "[2001:db8::1]:9092",
        "8.8.8.8:9092",
        "100.64.1.2:9092",
        "10.9.8.7:9092",
    ] {
        assert!(open(&egress, address), "{address}");
    }
    for address in [
        "0.1.2.3:9092",
        "127.0.0.1:9092",
        "127.9.9.9:9092",
        "169.254.169.254:80",
        "100.100.100.200:80",
        "192.0.0.192:80",
        "168.63.129.16:80",
        "224.0.0.1:9092",
        "239.255.255.255:9092",
        "240.0.0.1:9092",
        "255.255.255.255:9092",
        "[::]:1",
        "[::1]:1",
        "[fe80::1]:1",
        "[febf::1]:1",
        "[ff02::1]:1",
        "[fd00:ec2::254]:80",
        "[fd00:ec2::23]:80",
        "[fd20:ce::254]:80",
        "[64:ff9b:1::a]:1",
        "[2001::1]:1",
        "8.8.8.8:10250",
        "10.1.2.3:10255",
        "[fd00::7]:2379",
        "10.1.2.3:6443",
        "10.96.0.1:9092",
        "10.9.8.7:8443",
    ] {
        assert!(!open(&egress, address), "{address}");
    }
}

#[test]
fn allow_precedes_deny_and_both_precede_built_in_rules() {
    let egress = Egress::new(
        ranges(&["10.20.0.0/16:9092", "127.0.0.1", "[fd00:ec2::]/32"]),
        ranges(&["0.0.0.0/0", "10.20.1.0/24", "fd01::/16:80"]),
        Vec::new(),
    );
    for address in ["10.20.1.5:9092", "127.0.0.1:10250", "[fd00:ec2::254]:80", "[fd01::1]:81"] {
        assert!(open(&egress, address), "{address}");
    }
    for address in ["10.20.1.5:9093", "8.8.8.8:9092", "127.0.0.2:1", "[fd01::1]:80", "[::1]:1"] {
        assert!(!open(&egress, address), "{address}");
    }
}

/// Catalogue: B4.
#[test]
fn namespace_rules_apply_besides_the_rules_for_all() {
    let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<NamespaceRanges>>();
    let egress = Egress::new(Vec::new(), ranges(&["10.1.9.0/24"]), Vec::new());
    let egress = egress.with_namespaces(of(&["a=10.1.0.0/16, 10.2.3.4:9092", "a=fd00::/8", "none="]), false);
    let open = |namespace: &str, address: &str| egress.for_namespace(namespace).check(address.parse().unwrap()).is_ok();
    for address in ["10.1.2.3:1", "10.2.3.4:9092", "[fd00::1]:9092"] {
        assert!(open("a", address) && open("b", address) && !open("none", address), "{address}");
    }
    // What is denied for all namespaces is denied for each, and a range of one namespace does not apply to another.
    assert!(!open("a", "10.1.9.1:9092") && !open("b", "10.1.9.1:9092") && !open("a", "10.2.3.4:9093"));
    assert!(egress.has_rules_for("a") && egress.has_rules_for("none") && !egress.has_rules_for("b"));
    assert!(egress.clone().with_namespaces(Vec::new(), true).has_rules_for("b"));
    let no_namespace = Egress::allow_loopback().with_namespaces(Vec::new(), true);
    let at = "127.0.0.1:9092".parse().unwrap();
    assert!(
        no_namespace.check(at).is_ok() && no_namespace.for_namespace("b").check(at).is_err(),
        "workers are not under a namespace"
    );
}

#[test]
fn namespace_rules_are_parsed_or_rejected() {
    let read = "team-a=10.0.0.0/8,10.1.2.3:9092".parse::<NamespaceRanges>().unwrap();
    assert_eq!((read.namespace.as_str(), read.ranges), ("team-a", ranges(&["10.0.0.0/8", "10.1.2.3:9092"])));
    assert_eq!("team-a=".parse::<NamespaceRanges>().unwrap().ranges, []);
    for text in ["", "team-a", "=10.0.0.0/8", "Team=10.0.0.0/8", "a b=10.0.0.0/8"] {
        assert!(text.parse::<NamespaceRanges>().unwrap_err().to_string().contains("expected NAMESPACE="), "{text}");
    }
    assert!("a=kafka:9092".parse::<NamespaceRanges>().unwrap_err().to_string().contains("expected ADDRESS"));
}

#[test]
fn ranges_are_parsed_or_rejected() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:9092", "10.0.0.0/8:9092"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.3:9092", "10.1.2.3/32:9092"),
        ("fd00::/8", "[fd00::]/8"),
        ("[fd00::]/8:9092", "[fd00::]/8:9092"),
        ("[fd00::1]:9092", "[fd00::1]/128:9092"),
        ("::/0", "[::]/0"),
    ] {
        assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), shown);
    }
    for text in
        ["", "kafka:9092", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8:", "10.0.0.0/8:70000", "10.0.0/8", "fd00::/129"]
    {
        assert!(text.parse::<AddressRange>().unwrap_err().to_string().contains("expected ADDRESS"), "{text}");
    }
    let clothed = "::ffff:10.0.0.0/104".parse::<AddressRange>().unwrap_err().to_string();
    assert!(clothed.contains("write 10.0.0.0 instead"), "{clothed}");
}
