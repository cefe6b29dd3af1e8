//! The kinds of Quadlet files, and what they and that which they make are called.

use super::{
    keys::{self, Key},
    unit_file::UnitFile,
};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;

/// What a Quadlet file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.container`
    Container,
    /// `.volume`
    Volume,
    /// `.network`
    Network,
    /// `.image`
    Image,
    /// `.build`
    Build,
    /// `.pod`
    Pod,
}

/// Podman's kinds that are not built.
const FOREIGN: [&str; 2] = ["kube", "artifact"];

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Container, Kind::Volume, Kind::Network, Kind::Image, Kind::Build, Kind::Pod];

    /// The kind of the file `name`; `None` for a file that is none of Quadlet's.
    ///
    /// # Errors
    /// It is of a kind that Podman has and we don't.
    pub fn of(name: &str) -> Result<Option<Kind>> {
        let Some((stem, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
            return Ok(None);
        };
        if FOREIGN.contains(&extension) {
            bail!("{name}: .{extension} files are not built");
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.extension() == extension);
        ensure!(kind.is_none() || is_name(stem), "{name:?} can't be the name of a unit");
        Ok(kind)
    }

    /// Without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Volume => "volume",
            Kind::Network => "network",
            Kind::Image => "image",
            Kind::Build => "build",
            Kind::Pod => "pod",
        }
    }

    /// The section that says what it is to be.
    pub fn section(self) -> &'static str {
        match self {
            Kind::Container => "Container",
            Kind::Volume => "Volume",
            Kind::Network => "Network",
            Kind::Image => "Image",
            Kind::Build => "Build",
            Kind::Pod => "Pod",
        }
    }

    /// Its keys.
    pub(super) fn keys(self) -> &'static [&'static [Key]] {
        match self {
            Kind::Container => &[keys::EVERY, keys::OF_PODS, keys::CONTAINER],
            Kind::Volume => &[keys::EVERY, keys::VOLUME],
            Kind::Network => &[keys::EVERY, keys::NETWORK],
            Kind::Image => &[keys::EVERY, keys::IMAGE],
            Kind::Build => &[keys::EVERY, keys::BUILD],
            Kind::Pod => &[keys::EVERY, keys::OF_PODS, keys::POD],
        }
    }

    /// What follows the file's name in that of the service.
    fn suffix(self) -> String {
        if self == Kind::Container { String::new() } else { format!("-{}", self.extension()) }
    }
}

/// A Quadlet file with its drop-ins.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Where it lies.
    pub path: PathBuf,
    /// What it says.
    pub file: UnitFile,
}

impl Source {
    /// The last value of a key in its own section; an empty one is none.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.file.last(self.kind.section(), key).filter(|value| !value.is_empty())
    }

    /// Its name without the extension: before the `@`, and behind it.
    pub fn stem(&self) -> (&str, Option<&str>) {
        let stem = self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem);
        stem.split_once('@').map_or((stem, None), |(prefix, instance)| (prefix, Some(instance)))
    }

    /// Whether it has to be given an instance before it can run.
    pub fn is_template(&self) -> bool {
        self.stem().1 == Some("")
    }

    /// The name of its service, `.service` included.
    pub fn service(&self) -> Result<String> {
        let name = match (self.value("ServiceName"), self.stem()) {
            (Some(name), _) => name.to_owned(),
            (None, (prefix, None)) => format!("{prefix}{}", self.kind.suffix()),
            (None, (prefix, Some(instance))) => format!("{prefix}{}@{instance}", self.kind.suffix()),
        };
        let service = format!("{name}.service");
        ensure!(
            is_unit_name(&service) && !name.ends_with(".service"),
            "ServiceName={name}: not the name of a service"
        );
        Ok(service)
    }

    /// The name of the container, volume, image … that its service makes; as its own service has to write it, and with
    /// specifiers where it is a template.
    pub fn resource(&self) -> Result<String> {
        let name = self.named()?;
        ensure!(!name.starts_with('-'), "{name} begins with a hyphen");
        Ok(name)
    }

    fn named(&self) -> Result<String> {
        let key = match self.kind {
            Kind::Container => "ContainerName",
            Kind::Volume => "VolumeName",
            Kind::Network => "NetworkName",
            Kind::Pod => "PodName",
            Kind::Image => {
                let name = self.value("ImageTag").or_else(|| self.value("Image"));
                return name.map(str::to_owned).context("[Image] has no Image=");
            }
            Kind::Build => {
                let tags = self.file.all("Build", "ImageTag");
                return tags.first().map(|tag| (*tag).to_owned()).context("[Build] has no ImageTag=");
            }
        };
        if let Some(name) = self.value(key) {
            return Ok(name.to_owned());
        }
        let service = self.service()?;
        Ok(match (self.kind, self.stem()) {
            (Kind::Container, (_, None)) => format!("systemd-{}", service.trim_end_matches(".service")),
            (Kind::Container, (_, Some(""))) => "systemd-%p_%i".to_owned(),
            (Kind::Container, (prefix, Some(instance))) => format!("systemd-{prefix}_{instance}"),
            (_, (prefix, None)) => format!("systemd-{prefix}"),
            (_, (prefix, Some(""))) => format!("systemd-{prefix}-%i"),
            (_, (prefix, Some(instance))) => format!("systemd-{prefix}-{instance}"),
        })
    }

    /// The names of the directories with its drop-ins, the most specific first (podman-systemd.unit(5)).
    pub fn drop_ins(&self) -> Vec<String> {
        let extension = self.kind.extension();
        let (prefix, instance) = self.stem();
        let mut names = vec![format!("{}.d", self.name)];
        if instance.is_some_and(|instance| !instance.is_empty()) {
            names.push(format!("{prefix}@.{extension}.d"));
        }
        for (dash, _) in prefix.match_indices('-').collect::<Vec<_>>().into_iter().rev() {
            let short = &prefix[..=dash];
            names.extend(instance.map(|_| format!("{short}@.{extension}.d")));
            names.push(format!("{short}.{extension}.d"));
        }
        names.push(format!("{extension}.d"));
        names
    }
}

/// Whether `name` can be that of a unit, its type included (systemd.unit(5)).
pub fn is_unit_name(name: &str) -> bool {
    name.len() <= 255 && name.rsplit_once('.').is_some_and(|(stem, kind)| is_name(stem) && !kind.is_empty())
}

fn is_name(stem: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    stem.bytes().all(allowed) && !stem.is_empty() && !stem.starts_with(['.', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        let kind = Kind::of(name).unwrap().unwrap();
        Source {
            name: name.into(),
            kind,
            path: format!("/q/{name}").into(),
            file: UnitFile::parse(text).unwrap(),
        }
    }

    #[test]
    fn names() {
        for (file, text, service, resource) in [
            ("web.container", "", "web.service", "systemd-web"),
            ("web.container", "[Container]\nServiceName=w\nContainerName=c\n", "w.service", "c"),
            ("web.container", "[Container]\nServiceName=w\n", "w.service", "systemd-w"),
            ("web@.container", "", "web@.service", "systemd-%p_%i"),
            ("web@1.container", "", "web@1.service", "systemd-web_1"),
            ("a.b.volume", "", "a.b-volume.service", "systemd-a.b"),
            ("data@.volume", "", "data-volume@.service", "systemd-data-%i"),
            ("data@1.volume", "[Volume]\nVolumeName=x\n", "data-volume@1.service", "x"),
            ("net.network", "", "net-network.service", "systemd-net"),
            ("i.image", "[Image]\nImage=a\n", "i-image.service", "a"),
            ("i.image", "[Image]\nImage=a\nImageTag=b\n", "i-image.service", "b"),
            ("b.build", "[Build]\nImageTag=a\nImageTag=b\n", "b-build.service", "a"),
            ("p.pod", "", "p-pod.service", "systemd-p"),
        ] {
            let source = source(file, text);
            assert_eq!(
                (source.service().unwrap().as_str(), source.resource().unwrap().as_str()),
                (service, resource)
            );
        }
        for bad in ["../x", "/x", "a/b", "x.service", "", ".x", "a b", "%i"] {
            assert!(
                source("a.volume", &format!("[Volume]\nServiceName=\"{bad}\"\n")).service().is_err()
                    || bad.is_empty()
            );
        }
        assert!(Kind::of("a.conf").unwrap().is_none() && Kind::of(".volume").unwrap().is_none());
        for bad in ["a.kube", "a b.container", "..volume", "\u{202e}.pod", "@.container"] {
            assert!(Kind::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn drop_in_directories() {
        for (file, expected) in [
            ("a.container", &["a.container.d", "container.d"][..]),
            ("a-b-c.pod", &["a-b-c.pod.d", "a-b-.pod.d", "a-.pod.d", "pod.d"]),
            ("a-b@.volume", &["a-b@.volume.d", "a-@.volume.d", "a-.volume.d", "volume.d"]),
            ("a@x-y.volume", &["a@x-y.volume.d", "a@.volume.d", "volume.d"]),
        ] {
            assert_eq!(source(file, "").drop_ins(), expected);
        }
    }
}
