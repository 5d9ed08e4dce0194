//! TEMPORARY
use std::sync::OnceLock;
pub fn knob(name: &str, default: f64) -> f64 {
    static K: OnceLock<std::collections::HashMap<String, f64>> = OnceLock::new();
    *K.get_or_init(|| std::env::var("KNOBS").unwrap_or_default().split(',').filter_map(|kv| { let (k, v) = kv.split_once('=')?; Some((k.to_string(), v.parse().ok()?)) }).collect()).get(name).unwrap_or(&default)
}
