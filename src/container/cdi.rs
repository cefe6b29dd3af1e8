//! Devices by the name that their vendor gives them, `vendor.com/class=name`, from JSON files below /etc/cdi and /var/run/cdi
//! (Container Device Interface specification). What they change beside devices, mounts and variables is refused.

use super::{
    devices::{self, Device},
    environment::Variable,
    user_mount::{Source, UserMount, complete, parse_target},
};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Where specifications lie unless the user says otherwise.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Bytes of one of them.
const LIMIT: u64 = 1 << 20;

/// What a device brings.
#[derive(Debug, Default)]
pub struct Edits {
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Files of the driver.
    pub mounts: Vec<UserMount>,
    /// Variables.
    pub env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Specification {
    kind: String,
    #[serde(default)]
    devices: Vec<Named>,
    #[serde(default, rename = "containerEdits")]
    edits: ContainerEdits,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(default, rename = "containerEdits")]
    edits: ContainerEdits,
}

#[derive(Default, Deserialize)]
struct ContainerEdits {
    #[serde(default)]
    env: Vec<String>,
    #[serde(default, rename = "deviceNodes")]
    nodes: Vec<Node>,
    #[serde(default)]
    mounts: Vec<Bind>,
    /// All that is not built.
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: Option<String>,
    permissions: Option<String>,
    file_mode: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bind {
    host_path: PathBuf,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// Vendor and class, and name, if `text` is of that form.
pub fn parse(text: &str) -> Option<(&str, &str)> {
    let (kind, name) = text.split_once('=')?;
    let (vendor, class) = kind.split_once('/')?;
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let named = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
    (word(vendor) && word(class) && named).then_some((kind, name))
}

/// What the device `name` of `kind` brings, as the last file of `directories` that knows it says.
///
/// # Errors
/// None does, or it wants what is not built.
pub fn find(kind: &str, name: &str, directories: &[PathBuf]) -> Result<Edits> {
    let mut found = None;
    for directory in directories {
        let mut files: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        {
            let reading = || format!("read {}", path.display());
            let mut text = Vec::new();
            File::open(path)
                .and_then(|file| file.take(LIMIT).read_to_end(&mut text))
                .with_context(reading)?;
            let text = std::str::from_utf8(&text).with_context(reading)?;
            let edits = edits(text, kind, name).with_context(reading).hint("repair or remove the file")?;
            found = edits.or(found);
        }
    }
    found.ok_or_else(|| anyhow!("unresolvable CDI device {kind}={name}")).hint(
        "JSON files in /etc/cdi and /var/run/cdi describe such devices (YAML is not read); --cdi-spec-dir names another directory",
    )
}

/// What the specification `text` says of a device, if it has it.
pub fn edits(text: &str, kind: &str, name: &str) -> Result<Option<Edits>> {
    let specification: Specification = serde_json::from_str(text).context("it is no CDI specification")?;
    let device = specification.devices.into_iter().find(|device| device.name == name);
    let Some(device) = device.filter(|_| specification.kind == kind) else { return Ok(None) };
    let mut all = Edits::default();
    for edits in [specification.edits, device.edits] {
        if let Some(key) = edits.others.keys().next() {
            bail!("{kind}={name} has {key}, which are not built");
        }
        for entry in edits.env {
            let (key, value) = entry.split_once('=').with_context(|| format!("env {entry:?} has no `=`"))?;
            all.env.push((key.to_owned(), value.to_owned()));
        }
        for node in edits.nodes {
            let host = node.host_path.as_deref().unwrap_or(&node.path);
            let (host, inside, rights) =
                devices::checked(host, &node.path, node.permissions.as_deref().unwrap_or("rw"))?;
            for mut device in devices::find(Path::new(host), Path::new(inside), rights)? {
                device.mode = node.file_mode.unwrap_or(device.mode) & 0o7777;
                all.devices.push(device);
            }
        }
        for Bind { host_path, container_path, options } in edits.mounts {
            if !host_path.is_absolute() {
                bail!("{:?} is not an absolute path", host_path.to_string_lossy());
            }
            let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
            words.dedup();
            let options = complete(&words, false)?;
            let target = parse_target(&container_path)?;
            all.mounts.push(UserMount { source: Source::Bind { path: host_path }, target, options });
        }
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse("vendor.com/class=gpu0"), Some(("vendor.com/class", "gpu0")));
        assert_eq!(parse("nvidia.com/gpu=all"), Some(("nvidia.com/gpu", "all")));
        for other in [
            "/dev/x",
            "/dev/x=y",
            "a=b",
            "vendor.com/class",
            "vendor.com/class=",
            "v/c/d=x",
            "v/c=a/b",
            "../x=y",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn specifications() {
        let text = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","containerEdits":{"env":["ALL=1"]},
            "devices":[{"name":"n","containerEdits":{"env":["ONE=a=b"],"deviceNodes":[{"path":"/dev/x","hostPath":"/dev/null","permissions":"r"}],
            "mounts":[{"hostPath":"/usr","containerPath":"/opt/v","options":["ro","nosuid"]}]}},
            {"name":"h","containerEdits":{"hooks":[{"hookName":"createContainer","path":"/bin/true"}]}}]}"#;
        let found = edits(text, "v.com/c", "n").unwrap().unwrap();
        assert_eq!(found.env, [("ALL".into(), "1".into()), ("ONE".into(), "a=b".into())]);
        assert_eq!((found.devices[0].container.as_path(), found.devices[0].minor), (Path::new("/dev/x"), 3));
        assert_eq!(found.mounts[0].target, Path::new("/opt/v"));
        assert!(
            edits(text, "v.com/c", "other").unwrap().is_none()
                && edits(text, "w.com/c", "n").unwrap().is_none()
        );
        assert!(format!("{:#}", edits(text, "v.com/c", "h").unwrap_err()).contains("hooks"));
        for bad in ["", "[]", r#"{"kind":"v.com/c","devices":[{"name":"n","containerEdits":{"env":["X"]}}]}"#]
        {
            assert!(edits(bad, "v.com/c", "n").is_err(), "{bad}");
        }
    }
}
