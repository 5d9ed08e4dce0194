//! Sets up the volumes of a pod as folders on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeMount,
};

use super::expand::{Mounts, expand};
use super::swap::{self, FileContent, Payload};
use super::{Context, facts};

/// The mode of files for which the pod sets none.
const MODE: i32 = 0o644;

/// The folder of a pod's volumes, and the files that were last written there.
#[derive(Debug)]
pub(super) struct Volumes {
    folder: PathBuf,
    written: Mutex<BTreeMap<String, Payload>>,
}

/// An object whose content is shown in a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum VolumeObject {
    ConfigMap(String),
    Secret(String),
}

fn volumes_of(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

/// Returns the objects whose changes must be written to the pod's files.
pub(super) fn referenced_objects(pod: &Pod) -> BTreeSet<VolumeObject> {
    let mut objects = BTreeSet::new();
    for volume in volumes_of(pod) {
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        objects.extend(volume.config_map.iter().map(|source| VolumeObject::ConfigMap(source.name.clone())));
        objects.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()).map(VolumeObject::Secret));
        for source in projected {
            objects.extend(source.config_map.iter().map(|source| VolumeObject::ConfigMap(source.name.clone())));
            objects.extend(source.secret.iter().map(|source| VolumeObject::Secret(source.name.clone())));
        }
    }
    objects
}

impl Volumes {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, written: Mutex::default() }
    }

    /// Writes the volumes that have changed. The error names the volume that could not be set up, and why.
    pub(super) async fn write(&self, context: &Context, pod: &Pod, address: Ipv4Addr) -> Result<(), String> {
        for volume in volumes_of(pod) {
            let name = &volume.name;
            let failed = |why: String| format!("MountVolume.SetUp failed for volume \"{name}\" : {why}");
            let folder = self.folder.join(name);
            let payload = match payload(context, pod, address, volume).await.map_err(failed)? {
                Files::FromObjects(payload) => payload,
                Files::Scratch => {
                    std::fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
                    continue;
                }
                Files::HostPath => continue,
            };
            let same = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(&payload);
            if same {
                continue;
            }
            let stamp = context.stamp();
            let files = payload.clone();
            let write = tokio::task::spawn_blocking(move || swap::write(&folder, &files, &stamp)).await;
            write.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), payload);
        }
        Ok(())
    }

    /// Returns the local paths of a container's volumes.
    pub(super) fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        env: &BTreeMap<String, String>,
    ) -> Result<Mounts, String> {
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes_of(pod).iter().find(|volume| volume.name == mount.name);
            let volume = volume.ok_or_else(|| format!("volume \"{}\" does not exist", mount.name))?;
            mounts.push((mount.mount_path.clone(), self.local_path(volume, mount, env)?));
        }
        Ok(Mounts::new(mounts))
    }

    fn local_path(
        &self,
        volume: &Volume,
        mount: &VolumeMount,
        env: &BTreeMap<String, String>,
    ) -> Result<PathBuf, String> {
        let root = match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => self.folder.join(&volume.name),
        };
        let sub = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) => expand(path, env),
            (None, None) => return Ok(root),
        };
        if !Path::new(&sub).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!(
                "failed to prepare subPath for volumeMount \"{}\": {sub:?} points outside of the volume",
                mount.name
            ));
        }
        let path = root.join(sub);
        if volume.empty_dir.is_some() {
            std::fs::create_dir_all(&path).map_err(|error| format!("failed to create {}: {error}", path.display()))?;
        }
        Ok(path)
    }
}

/// Where the files of a volume come from.
enum Files {
    /// `ConfigMaps`, Secrets or the downward API.
    FromObjects(Payload),
    /// The containers, which write what they like.
    Scratch,
    /// An existing folder of this machine.
    HostPath,
}

async fn payload(context: &Context, pod: &Pod, address: Ipv4Addr, volume: &Volume) -> Result<Files, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut payload = Payload::new();
    if volume.host_path.is_some() {
        return Ok(Files::HostPath);
    } else if volume.empty_dir.is_some() {
        return Ok(Files::Scratch);
    } else if let Some(source) = &volume.config_map {
        let all = config_map(context, namespace, &source.name, source.optional).await?;
        let optional = source.optional == Some(true);
        insert_items(&mut payload, &all, source.items.as_deref(), source.default_mode, optional)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let all = secret(context, namespace, name, source.optional).await?;
        let optional = source.optional == Some(true);
        insert_items(&mut payload, &all, source.items.as_deref(), source.default_mode, optional)?;
    } else if let Some(source) = &volume.downward_api {
        downward(&mut payload, context, pod, address, source.items.as_deref(), source.default_mode)?;
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let all = config_map(context, namespace, &source.name, source.optional).await?;
                insert_items(
                    &mut payload,
                    &all,
                    source.items.as_deref(),
                    projected.default_mode,
                    source.optional == Some(true),
                )?;
            }
            if let Some(source) = &source.secret {
                let all = secret(context, namespace, &source.name, source.optional).await?;
                insert_items(
                    &mut payload,
                    &all,
                    source.items.as_deref(),
                    projected.default_mode,
                    source.optional == Some(true),
                )?;
            }
            if let Some(source) = &source.downward_api {
                downward(&mut payload, context, pod, address, source.items.as_deref(), projected.default_mode)?;
            }
            // Tokens of service accounts are left out: nothing here uses them, and the other files are still useful.
        }
    } else {
        return Err("this node supports configMap, secret, emptyDir, downwardAPI, projected and hostPath volumes only"
            .to_owned());
    }
    Ok(Files::FromObjects(payload))
}

/// The data of an object, by key.
type Data = BTreeMap<String, Vec<u8>>;

async fn config_map(context: &Context, namespace: &str, name: &str, optional: Option<bool>) -> Result<Data, String> {
    let object: Option<ConfigMap> = context.get(namespace, name).await?;
    let Some(object) = object else { return absent("configmap", name, optional) };
    let text = object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    Ok(text.chain(binary).collect())
}

async fn secret(context: &Context, namespace: &str, name: &str, optional: Option<bool>) -> Result<Data, String> {
    let object: Option<Secret> = context.get(namespace, name).await?;
    let Some(object) = object else { return absent("secret", name, optional) };
    Ok(object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
}

fn absent(kind: &str, name: &str, optional: Option<bool>) -> Result<Data, String> {
    if optional == Some(true) { Ok(Data::new()) } else { Err(format!("{kind} \"{name}\" not found")) }
}

fn insert_items(
    payload: &mut Payload,
    all: &Data,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in all {
            payload.insert(key.into(), FileContent { bytes: bytes.clone(), mode: mode(None, default_mode) });
        }
        return Ok(());
    };
    for item in items {
        match all.get(&item.key) {
            Some(bytes) => {
                let content = FileContent { bytes: bytes.clone(), mode: mode(item.mode, default_mode) };
                payload.insert(item.path.clone().into(), content);
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward(
    payload: &mut Payload,
    node: &Context,
    pod: &Pod,
    address: Ipv4Addr,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
) -> Result<(), String> {
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref, first) {
            (Some(field), _, _) => facts::field(pod, address, &field.field_path),
            (None, Some(asked), Some(first)) => facts::resource(pod, first, node.capacity, asked),
            _ => None,
        };
        let value = value.ok_or_else(|| format!("the field of {} is not known to this node", item.path))?;
        let content = FileContent { bytes: value.into_bytes(), mode: mode(item.mode, default_mode) };
        payload.insert(item.path.clone().into(), content);
    }
    Ok(())
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(MODE)).unwrap_or_default()
}
