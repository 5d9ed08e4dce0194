//! What is generated and committed is what this version generates.

#[test]
fn committed_crds_are_what_the_types_say() {
    let mut generated = String::new();
    for crd in sluice_api::crds() {
        generated.push_str("---\n");
        generated.push_str(&serde_yaml::to_string(&crd).expect("a CRD can be written as YAML"));
    }
    assert!(
        generated == include_str!("../../../crds/sluice.dev.yaml"),
        "crds/sluice.dev.yaml is not what src/api says; write it anew with: cargo run -- crd > crds/sluice.dev.yaml"
    );
}
