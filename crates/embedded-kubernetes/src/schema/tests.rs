//! Compares with the answers of a real 1.34 server to the same requests, as recorded in `recorded/`. The order of
//! errors is ignored, because it is random there.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::*;
use crate::patch::merge;

mod stream_job;

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn crate_folder(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

fn documents(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn created(schema: &Schema, object: &Value) -> (Value, Vec<String>) {
    let mut object = object.clone();
    schema.prune(&mut object);
    schema.default(&mut object);
    let errors = sorted(&schema.validate(&object, None));
    (object, errors)
}

fn sorted(errors: &[FieldError]) -> Vec<String> {
    let mut errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.sort();
    errors
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_schema_feature_matches_the_real_server() {
    let recorded = read(include_str!("recorded/features.json"));
    let schema = Schema::from_crd_version(&recorded["version"]).unwrap();
    let mut wrong = Vec::new();
    for case in recorded["cases"].as_array().unwrap() {
        let object =
            json!({"apiVersion": "example.com/v1", "kind": "W", "metadata": {"name": "w"}, "spec": case["spec"]});
        let (made, errors) = created(&schema, &object);
        if errors != strings(&case["errors"]) {
            wrong.push(format!("{}\n  got  {errors:#?}\n  want {:#?}", case["spec"], strings(&case["errors"])));
        } else if errors.is_empty() && made["spec"] != case["result"] {
            wrong.push(format!("{}\n  got  {}\n  want {}", case["spec"], made["spec"], case["result"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn refused(spec: &Value) -> Vec<String> {
    let version =
        json!({"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}});
    match Schema::from_crd_version(&version) {
        Ok(_) => Vec::new(),
        Err(errors) => sorted(&errors).into_iter().map(|error| error.replace(ROOT, "")).collect(),
    }
}

/// The errors are recorded, without the path of the schema.
#[test]
fn schema_that_is_not_structural_is_refused() {
    let keyed = |keys: Value| {
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "properties": {"a": {"type": "string"}}}})
    };
    let at = |rest: &str| vec![format!(".properties[spec]{rest}")];
    let cases = [
        (
            json!({"properties": {"a": {"type": "integer"}}}),
            at(".type: Required value: must not be empty for specified object fields"),
        ),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            at(".properties[a].type: Required value: must not be empty for specified object fields"),
        ),
        (json!({"type": "array"}), at(".items: Required value: must be specified")),
        (
            json!({"type": "array", "items": {}}),
            at(".items.type: Required value: must not be empty for specified array items"),
        ),
        (
            json!({"type": "frob"}),
            at(
                ".type: Unsupported value: \"frob\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            at(".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"),
        ),
        (json!({"x-kubernetes-int-or-string": true, "type": "string"}), vec![]),
        (
            keyed(json!([])),
            at(".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"),
        ),
        (
            keyed(json!(["a"])),
            at(
                ".items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ),
        ),
        (
            keyed(json!(["b"])),
            at(".x-kubernetes-list-map-keys: Invalid value: [\"b\"]: entries must all be names of item properties"),
        ),
        (
            json!({"type": "string", "uniqueItems": true}),
            at(
                ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
        ),
        (json!({"type": "object", "anyOf": [{"properties": {"q": {"minimum": 1}}}]}), vec![]),
        (
            json!({"type": "integer", "default": "x"}),
            at(".default: Invalid value: \"string\":  in body must be of type integer: \"string\""),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "frob"}),
            at(".x-kubernetes-list-type: Unsupported value: \"frob\": supported values: \"atomic\", \"set\", \"map\""),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(refused(&spec), expected, "{spec}");
    }
}

/// The first part of each message is that of the real server, if the real server refuses the rule as well.
#[test]
fn unsupported_rule_is_refused_by_name() {
    let rule = |more: &Value| {
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "l": {"type": "array", "items": {"type": "string"}}},
            "x-kubernetes-validations": [merge(&json!({"rule": "self.a > 1"}), more)]})
    };
    let nested = "self.l.all(x, self.l.exists(y, y == x))";
    let cases = [
        (json!({"rule": "self.b > 1"}), "rule: Invalid value: {", "undefined field 'b'"),
        (json!({"rule": "foo(self.a)"}), "rule: Invalid value: {", "undeclared reference to 'foo'"),
        (json!({"rule": "self.l.all(x, y == x)"}), "rule: Invalid value: {", "undeclared reference to 'y'"),
        (json!({"rule": "self.a +"}), "rule: Invalid value: {", "compilation failed: ERROR: "),
        (json!({"rule": "x == 1"}), "rule: Invalid value: {", "undeclared reference to 'x' (in container '')"),
        (json!({"rule": nested}), "rule: Invalid value: {", "a comprehension within another is not supported"),
        (
            json!({"rule": "quantity('1Gi').isLessThan(quantity('2Gi'))"}),
            "rule: ",
            "undeclared reference to 'isLessThan'",
        ),
        (json!({"rule": ""}), "rule: Required value: rule is not specified", ""),
        (json!({"message": "a\nb"}), "message: Invalid value: \"a\\nb\": must not contain line breaks", ""),
        (
            json!({"reason": "Foo"}),
            "reason: Unsupported value: \"Foo\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            "",
        ),
        (json!({"fieldPath": ".q"}), "fieldPath: Invalid value: \".q\": must be a valid path", ""),
        (
            json!({"optionalOldSelf": true}),
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
            "",
        ),
        (
            json!({"messageExpression": "'a' + foo()"}),
            "messageExpression: Invalid value: {",
            "undeclared reference to 'foo'",
        ),
    ];
    for (more, start, part) in cases {
        let errors = refused(&rule(&more));
        assert_eq!(errors.len(), 1, "{more}: {errors:?}");
        let error = errors[0].trim_start_matches(".properties[spec].x-kubernetes-validations[0].");
        assert!(error.starts_with(start) && error.contains(part), "{more}: {error}");
        assert!(start != "rule: Invalid value: {" || error.contains(&format!("{:?}", more["rule"].as_str().unwrap())));
    }
}

#[test]
fn common_functions_of_rules_work() {
    let properties = json!({"a": {"type": "integer"}, "s": {"type": "string"}, "n": {"type": "number"},
        "l": {"type": "array", "items": {"type": "string"}}, "in": {"type": "integer"}, "x-y": {"type": "integer"},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}}});
    let holds = |rule: &str| {
        let spec = json!({"type": "object", "properties": properties, "x-kubernetes-validations": [{"rule": rule}]});
        let version = json!({"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}});
        let schema = Schema::from_crd_version(&version).unwrap_or_else(|errors| panic!("{rule}: {errors:?}"));
        let spec = json!({"a": 2, "s": "Hello", "n": 1, "l": ["a", "bb"], "in": 3, "x-y": 4, "m": {"k": 5}});
        schema.validate(&json!({"spec": spec}), None)
    };
    for rule in [
        "size(self.s) == 5 && self.l.size() == 2 && self.m.size() == 1",
        "self.s.matches('^H.*o$') && self.s.startsWith('He') && self.s.endsWith('lo') && self.s.contains('ell')",
        "self.l.all(x, x.size() > 0) && self.l.exists(x, x == 'bb') && self.l.exists_one(x, x == 'a')",
        "self.l.filter(x, x.size() == 2) == ['bb'] && self.l.map(x, x.size()) == [1, 2]",
        "'a' in self.l && 'k' in self.m && self.m['k'] == 5 && self.m.all(k, self.m[k] > 4)",
        "self.s.lowerAscii() == 'hello' && self.s.replace('l', '') == 'Heo' && 'a,b'.split(',').size() == 2",
        "duration('90s') > duration('1m') && type(self.a) == int && string(self.a) == '2' && int('3') == self.__in__",
        "self.n == 1.0 && self.x__dash__y == 4 && has(self.a) && self.a % 2 == 0 && -self.a < 0 && self.l[1] == 'bb'",
        "self.a > 1 ? true : self.a / 0 == 1",
    ] {
        assert_eq!(holds(rule), [], "{rule}");
    }
    for (rule, message) in [
        ("self.a / 0 == 1", "division by zero evaluating rule: self.a / 0 == 1"),
        ("self.m['q'] == 1", "no such key: q evaluating rule: self.m['q'] == 1"),
        ("self.a == 3", "failed rule: self.a == 3"),
    ] {
        let errors = holds(rule);
        assert_eq!(errors.len(), 1, "{rule}: {errors:?}");
        assert_eq!(errors[0].to_string(), format!("spec: Invalid value: \"object\": {message}"));
    }
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec![
            "spec",
            "status",
            "metadata",
            "i32",
            "num",
            "dt",
            "s",
            "set",
            "obj",
            "anyOf",
            "oneOf",
            "allOf",
            "not",
            "en",
            "nul",
            "nonnul",
            "emb",
            "pre",
            "known",
            "ios",
            "map",
            "p",
            "q",
            "cel",
            "a",
            "b",
            "l",
            "opt",
            "type",
            "rule",
            "properties",
            "items",
            "x-kubernetes-validations",
            "default",
            "other",
            "",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-2i64..3).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9 :-]{0,12}".prop_map(Value::from),
            prop::sample::select(vec!["object", "array", "string", "self.a > 1", "2020-01-01T00:00:00Z"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((key.clone(), inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn prune_and_default_are_idempotent(spec in any_json(), old in any_json()) {
            let recorded = read(include_str!("recorded/features.json"));
            let schema = Schema::from_crd_version(&recorded["version"]).unwrap();
            let shaped = |spec: Value| {
                let mut object = json!({"spec": spec});
                schema.prune(&mut object);
                schema.default(&mut object);
                object
            };
            let once = shaped(spec);
            prop_assert_eq!(&shaped(once["spec"].clone()), &once);
            let old = shaped(old);
            schema.validate(&once, Some(&old));
            // A valid object stays valid if nothing changes.
            if schema.validate(&once, None).is_empty() {
                prop_assert_eq!(schema.validate(&once, Some(&once)), []);
            }
        }

        #[test]
        fn malformed_schemas_cause_no_panic(version in any_json(), spec in any_json(), object in any_json()) {
            drop(Schema::from_crd_version(&version));
            let version = json!({"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}});
            if let Ok(schema) = Schema::from_crd_version(&version) {
                let mut object = json!({"spec": object});
                schema.prune(&mut object);
                schema.default(&mut object);
                schema.validate(&object, None);
            }
        }
    }
}
