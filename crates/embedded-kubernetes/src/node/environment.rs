//! Assembles the environment of a container.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use super::Context;
use super::expand::expand;
use super::facts;

/// Values by name.
type Values = BTreeMap<String, String>;

/// Returns the variables of a container. The error is for the pod's status, and names what is missing.
///
/// Besides its own variables, a container gets `HOSTNAME` and `POD_IP`: it has neither a host name nor a network of
/// its own here, and must be able to learn on which address it may listen.
pub(super) async fn variables(
    context: &Context,
    pod: &Pod,
    container: &Container,
    address: Ipv4Addr,
) -> Result<Values, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut all = context.base_env.clone();
    all.insert("HOSTNAME".to_owned(), pod.metadata.name.clone().unwrap_or_default());
    all.insert("POD_IP".to_owned(), address.to_string());
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        let mut values = Values::new();
        if let Some(source) = &from.config_map_ref {
            values.extend(config_map(context, namespace, &source.name, source.optional).await?.unwrap_or_default());
        }
        if let Some(source) = &from.secret_ref {
            values.extend(secret(context, namespace, &source.name, source.optional).await?.unwrap_or_default());
        }
        all.extend(values.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }
    // As in the kubelet, a variable can refer to the variables before it in the list, but not to those of `envFrom`.
    let mut own = Values::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &own)),
            (None, Some(source)) => value_from(context, pod, container, address, source).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            own.insert(variable.name.clone(), value);
        }
    }
    all.extend(own);
    Ok(all)
}

/// Returns the value that a source gives. `None`: the source is optional and does not exist.
async fn value_from(
    context: &Context,
    pod: &Pod,
    container: &Container,
    address: Ipv4Addr,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    if let Some(field) = &source.field_ref {
        let path = &field.field_path;
        return facts::field(pod, address, path).map(Some).ok_or_else(|| format!("unsupported fieldPath: {path}"));
    }
    if let Some(asked) = &source.resource_field_ref {
        let value = facts::resource(pod, container, context.capacity, asked);
        return value.map(Some).ok_or_else(|| format!("unsupported container resource: {}", asked.resource));
    }
    let missing = |kind: &str, name: &str, key: &str, optional: Option<bool>| match optional {
        Some(true) => Ok(None),
        _ => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
    };
    if let Some(asked) = &source.config_map_key_ref {
        let Some(values) = config_map(context, namespace, &asked.name, asked.optional).await? else { return Ok(None) };
        let value = values.get(&asked.key).cloned();
        return value
            .map_or_else(|| missing("ConfigMap", &asked.name, &asked.key, asked.optional), |value| Ok(Some(value)));
    }
    if let Some(asked) = &source.secret_key_ref {
        let Some(values) = secret(context, namespace, &asked.name, asked.optional).await? else { return Ok(None) };
        let value = values.get(&asked.key).cloned();
        return value
            .map_or_else(|| missing("Secret", &asked.name, &asked.key, asked.optional), |value| Ok(Some(value)));
    }
    Err("this node supports fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef only".to_owned())
}

async fn config_map(
    context: &Context,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<Values>, String> {
    let object: Option<ConfigMap> = context.get(namespace, name).await?;
    match object {
        Some(object) => Ok(Some(object.data.unwrap_or_default())),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("configmap \"{name}\" not found")),
    }
}

async fn secret(
    context: &Context,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<Values>, String> {
    let object: Option<Secret> = context.get(namespace, name).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    match object {
        Some(object) => {
            let data = object.data.unwrap_or_default();
            Ok(Some(data.into_iter().map(|(key, value)| (key, text(value.0))).collect()))
        }
        None if optional == Some(true) => Ok(None),
        None => Err(format!("secret \"{name}\" not found")),
    }
}
