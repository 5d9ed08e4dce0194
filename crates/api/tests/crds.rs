//! Checks that the committed resource definitions are those that this version generates.

#[test]
fn committed_crds_match_the_types() {
    let mut generated = String::new();
    for crd in sluice_api::crds() {
        generated.push_str("---\n");
        generated.push_str(&serde_yaml::to_string(&crd).expect("a CRD can be written as YAML"));
    }
    assert!(
        generated == include_str!("../../../crds/sluice.dev.yaml"),
        "crds/sluice.dev.yaml differs from the types of crates/api; generate it again: cargo run -- crd > crds/sluice.dev.yaml"
    );
}
