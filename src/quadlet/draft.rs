//! A service while it is made of a Quadlet file: the file's own sections, to which its kind adds what calls us.

use super::{
    keys::{self, Word},
    quote,
    unit::{Kind, Source},
    unit_file::UnitFile,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

/// Whether our command line takes these words; asked of each command of each service.
pub type Accepts<'a> = dyn Fn(&[String]) -> Result<(), Refusal> + 'a;

/// Why it doesn't.
#[derive(Debug)]
pub struct Refusal {
    /// The word that it doesn't take, or the option that it begins with.
    pub word: Option<String>,
    /// What it says.
    pub why: String,
}

/// What all services have in common.
pub struct Settings<'a> {
    /// The absolute path of our binary.
    pub program: &'a str,
    /// For `systemd --user`.
    pub user: bool,
    /// Our command line.
    pub accepts: &'a Accepts<'a>,
}

/// One service.
pub struct Draft<'a> {
    pub source: &'a Source,
    pub all: &'a BTreeMap<&'a str, &'a Source>,
    pub settings: &'a Settings<'a>,
    /// What it will say.
    pub unit: UnitFile,
    /// The Quadlet files without which it can't be.
    pub needs: Vec<String>,
    /// The pod that starts it.
    pub pod: Option<String>,
}

/// For users the target that this waits for doesn't exist.
pub const USER_NETWORK: &str = "ctr-user-wait-network-online.service";

impl<'a> Draft<'a> {
    /// What every kind has. Nothing of `source` is ignored: a section or key that nobody knows is refused.
    pub fn new(
        source: &'a Source,
        all: &'a BTreeMap<&'a str, &'a Source>,
        settings: &'a Settings<'a>,
    ) -> Result<Draft<'a>> {
        let own = source.kind.section();
        for section in source.file.sections() {
            let known = [own, "Quadlet", "Unit", "Service", "Install"].contains(&section);
            ensure!(
                known || section.starts_with("X-"),
                "a .{} file has no section [{section}]",
                source.kind.extension()
            );
        }
        let path = source.path.to_str().filter(|path| !path.contains(|c: char| c == '$' || c.is_control()));
        let path = path.with_context(|| format!("{:?}: such a name can't be in a unit file", source.path))?;
        keys::check(&source.file, own, source.kind.keys())?;
        keys::check(&source.file, "Quadlet", &[keys::QUADLET])?;
        let mut draft =
            Draft { source, all, settings, unit: source.file.clone(), needs: Vec::new(), pod: None };
        draft.unit.rename(own, &format!("X-{own}"));
        draft.unit.rename("Quadlet", "X-Quadlet");
        draft.unit.first("Unit");
        draft.translate_dependencies()?;
        if source.file.truth("Quadlet", "DefaultDependencies")? != Some(false) {
            let target = if settings.user { USER_NETWORK } else { "network-online.target" };
            draft.unit.add_first("Unit", "After", target);
            draft.unit.add_first("Unit", "Wants", target);
        }
        draft.unit.add("Unit", "SourcePath", &quote::literal(path));
        draft.unit.behind("Service");
        Ok(draft)
    }

    /// `After=web.container` and the like name services from here on.
    fn translate_dependencies(&mut self) -> Result<()> {
        let all = self.all;
        for key in DEPENDENCIES {
            self.unit.change("Unit", key, |value| {
                let names: Result<Vec<String>> = value
                    .split_whitespace()
                    .map(|name| match Kind::of(name)? {
                        Some(_) => all.get(name).with_context(|| format!("there is no {name}"))?.service(),
                        None => Ok(name.to_owned()),
                    })
                    .collect();
                Ok(names?.join(" "))
            })?;
        }
        Ok(())
    }

    /// A value of its own section, unless it is empty.
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.source.value(key)
    }

    /// All values of a key of its own section.
    pub fn values(&self, key: &str) -> Vec<&'a str> {
        self.source.file.all(self.source.kind.section(), key)
    }

    /// A truth value of its own section.
    pub fn truth(&self, key: &str) -> Result<Option<bool>> {
        self.source.file.truth(self.source.kind.section(), key)
    }

    /// The words of a key of its own section.
    pub fn arguments(&self, key: &str) -> Result<Vec<String>> {
        keys::arguments(&self.source.file, self.source.kind.section(), key).with_context(|| format!("{key}="))
    }

    /// The options that the tables of its kind make of its section.
    pub fn options(&self) -> Result<Vec<Word>> {
        keys::words(&self.source.file, self.source.kind.section(), self.source.kind.keys())
    }

    /// `PodmanArgs=`.
    pub fn extra(&self) -> Result<Vec<Word>> {
        Ok(self.arguments("PodmanArgs")?.into_iter().map(|text| of("PodmanArgs", text)).collect())
    }

    /// Add `key=PREFIX PROGRAM WORDS`, if our command line takes the words.
    pub fn command(&mut self, key: &str, prefix: &str, words: Vec<Word>) -> Result<()> {
        let modules = self.values("ContainersConfModule").into_iter();
        let mut line: Vec<Word> =
            modules.map(|file| of("ContainersConfModule", format!("--module={file}"))).collect();
        line.extend(self.arguments("GlobalArgs")?.into_iter().map(|text| of("GlobalArgs", text)));
        line.extend(words);
        let texts: Vec<String> = line.iter().map(|word| word.text.clone()).collect();
        (self.settings.accepts)(&texts).map_err(|Refusal { word, why }| {
            let is = |own: &&Word| {
                let rest = word.as_deref().and_then(|word| own.text.strip_prefix(word));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            match line.iter().find(is).map(|word| word.key).filter(|key| !key.is_empty()) {
                Some(key) => anyhow!("{key}=: {why}"),
                None => anyhow!(why),
            }
        })?;
        let program = quote::quote(&quote::literal(self.settings.program));
        self.unit.add("Service", key, &format!("{prefix}{program} {}", quote::line(&texts)));
        Ok(())
    }

    /// The name of what another Quadlet file makes, as this service has to write it, and the name of its service.
    pub fn other(&mut self, name: &str) -> Result<(String, String)> {
        let other = self.all.get(name).with_context(|| format!("there is no {name}"))?;
        self.needs.push(name.to_owned());
        if other.is_template() && self.source.stem().1.is_none() {
            bail!("{name} is a template, and {} has no instance", self.source.name);
        }
        let resource = other.resource()?.replace("%N", other.service()?.trim_end_matches(".service"));
        // Each service has specifiers of its own; only the instance is the same in both.
        let resource = resource.replace("%p", other.stem().0);
        let odd = resource.replace("%%", "").replace("%i", "");
        ensure!(!odd.contains('%'), "{name} calls itself {resource}, which means another thing here");
        Ok((resource, other.service()?))
    }

    /// The same, and its service has to run first.
    pub fn depend(&mut self, name: &str) -> Result<String> {
        let (resource, service) = self.other(name)?;
        self.unit.add("Unit", "Requires", &service);
        self.unit.add("Unit", "After", &service);
        Ok(resource)
    }

    /// The source of a mount: a Quadlet file, a path that has to be mounted first, or what it is.
    pub fn mount_source(&mut self, text: &str) -> Result<String> {
        match text {
            "" => bail!("the source is empty"),
            name if is_of(name, &[Kind::Volume, Kind::Image, Kind::Build]) => self.depend(name),
            path if path.starts_with(['/', '.']) => {
                let path = self.absolute(path);
                self.unit.add("Unit", "RequiresMountsFor", &quote::quote(&path));
                Ok(path)
            }
            other => Ok(other.to_owned()),
        }
    }

    /// `Volume=`.
    pub fn volumes(&mut self) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        for value in self.values("Volume") {
            let text = match value.split_once(':') {
                Some((source, rest)) => {
                    let source = self.mount_source(source).with_context(|| format!("Volume={value}"))?;
                    format!("--volume={source}:{rest}")
                }
                None => format!("--volume={value}"),
            };
            words.push(of("Volume", text));
        }
        Ok(words)
    }

    /// `Network=`.
    pub fn networks(&mut self) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        for value in self.values("Network") {
            let (name, options) =
                value.split_once(':').map_or((value, None), |(name, rest)| (name, Some(rest)));
            let resolve = |draft: &mut Draft| match options {
                _ if !is_of(name, &[Kind::Network, Kind::Container]) => Ok(value.to_owned()),
                Some(_) if name.ends_with(".container") => {
                    bail!("another container's network takes no options")
                }
                None if name.ends_with(".container") => Ok(format!("container:{}", draft.depend(name)?)),
                Some(options) => Ok(format!("{}:{options}", draft.depend(name)?)),
                None => draft.depend(name),
            };
            let text = resolve(self).with_context(|| format!("Network={value}"))?;
            words.push(of("Network", format!("--network={text}")));
        }
        Ok(words)
    }

    /// `Image=`: what a `.image` or `.build` file names, or itself.
    pub fn image(&mut self, value: &str) -> Result<String> {
        if is_of(value, &[Kind::Image, Kind::Build]) {
            return self.depend(value).with_context(|| format!("Image={value}"));
        }
        Ok(value.to_owned())
    }

    /// A path relative to the file's directory, unless a specifier is its beginning.
    pub fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') || path.starts_with('%') && !path.starts_with("%%") {
            return path.to_owned();
        }
        let directory = self.source.path.parent().unwrap_or(Path::new("/")).to_string_lossy();
        let joined = Path::new(&quote::literal(&directory)).join(path);
        let clean = joined.components().fold(PathBuf::new(), |mut clean, part| {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(clean.pop()),
                part => clean.push(part),
            }
            clean
        });
        clean.to_string_lossy().into_owned()
    }

    /// What a service has that runs once and whose work stays.
    pub fn once(&mut self, remains: bool) {
        self.unit.add_default("Service", "Type", "oneshot");
        if remains {
            self.unit.add_default("Service", "RemainAfterExit", "yes");
        }
        self.unit.add_default("Service", "SyslogIdentifier", "%N");
    }
}

/// The keys of `[Unit]` that name units.
const DEPENDENCIES: [&str; 15] = [
    "After",
    "Before",
    "BindsTo",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "PartOf",
    "PropagatesReloadTo",
    "PropagatesStopTo",
    "ReloadPropagatedFrom",
    "Requires",
    "Requisite",
    "StopPropagatedFrom",
    "Upholds",
    "Wants",
];

fn is_of(name: &str, kinds: &[Kind]) -> bool {
    matches!(Kind::of(name), Ok(Some(kind)) if kinds.contains(&kind) && !name.contains('/'))
}

/// Words that no key made.
pub fn own<const N: usize>(words: [&str; N]) -> Vec<Word> {
    words.into_iter().map(|text| of("", text)).collect()
}

/// One word that a key made.
pub fn of(key: &'static str, text: impl Into<String>) -> Word {
    Word { key, text: text.into() }
}
