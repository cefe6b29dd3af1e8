//! What `inspect` shows of an image, in the field names of Podman and Docker.

use super::{image_entry, images};
use crate::storage::{Image, Store};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// All about `image`.
pub fn value(store: &Store, image: &Image) -> Result<Value> {
    const LIMIT: u64 = 8 << 20;
    let config = images::config(store, image)?;
    let manifest = store.read_blob(&image.manifest, LIMIT)?;
    let manifest: Value = serde_json::from_slice(&manifest)
        .with_context(|| format!("read the manifest of {}", image.reference))?;
    let all = image_entry::all(store)?;
    let twins: Vec<&Image> =
        all.iter().map(|entry| &entry.image).filter(|other| other.config == image.config).collect();
    let tags = twins.iter().filter_map(|twin| twin.name()).filter(|name| !name.contains('@'));
    let parent =
        all.iter().find(|entry| entry.image.config == image.config).and_then(|entry| entry.parent(&all));
    let text = |key: &str| config[key].as_str().unwrap_or_default();
    let manifest_type =
        manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
    let docker = manifest_type.starts_with("application/vnd.docker.");
    let comment = if docker { &config["comment"] } else { &config["history"][0]["comment"] };
    let settings = settings(&config["config"]);
    let mut value = json!({
        "Id": image.config.hex(),
        "Digest": image.manifest,
        "RepoTags": tags.collect::<Vec<_>>(),
        "RepoDigests": images::digests(twins.iter().copied()),
        "Parent": parent.map(|parent| parent.image.config.hex()).unwrap_or_default(),
        "Comment": comment.as_str().unwrap_or_default(),
        "Created": config["created"],
        "Version": text("docker_version"),
        "Author": text("author"),
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": "overlay", "Data": directories(store, image)},
        "RootFS": {"Type": "layers", "Layers": image.layers},
        "Labels": config["config"]["Labels"],
        "Annotations": if docker { json!({}) } else { or_empty(&manifest["annotations"]) },
        "ManifestType": manifest_type,
        "User": config["config"]["User"].as_str().unwrap_or_default(),
        "History": config["history"],
        "NamesHistory": images::names_history(twins.iter().copied()),
    });
    if let Some(variant) = config["variant"].as_str() {
        value["Variant"] = variant.into();
    }
    if !settings["Healthcheck"].is_null() {
        value["Healthcheck"] = settings["Healthcheck"].clone();
    }
    value["Config"] = settings;
    Ok(value)
}

fn or_empty(object: &Value) -> Value {
    if object.is_object() { object.clone() } else { json!({}) }
}

/// As overlay takes them.
fn directories(store: &Store, image: &Image) -> Value {
    let mut paths = image.layers.iter().rev().map(|layer| store.layer_path(layer).display().to_string());
    let upper = paths.next();
    let lower = paths.collect::<Vec<_>>().join(":");
    if lower.is_empty() { json!({"UpperDir": upper}) } else { json!({"UpperDir": upper, "LowerDir": lower}) }
}

/// All that the image says, and null or nothing for what Docker has and it doesn't say: scripts ask for it.
fn settings(config: &Value) -> Value {
    let mut all = json!({
        "Cmd": null,
        "Entrypoint": null,
        "Env": null,
        "ExposedPorts": null,
        "Labels": null,
        "OnBuild": null,
        "StopSignal": "",
        "User": "",
        "Volumes": null,
        "WorkingDir": "",
    });
    if let (Some(all), Some(said)) = (all.as_object_mut(), config.as_object()) {
        all.extend(said.clone());
    }
    all
}
