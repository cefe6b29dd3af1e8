//! `--mount type=TYPE,KEY=VALUE,…` (podman-run(1)). Pure: globs are not expanded, relative paths stay so.

use super::{
    grammar::parse_mode,
    limits::parse_size,
    tmpfs::{self, Tmpfs},
    user_mount::{Source, UserMount, complete, parse_subpath, parse_target},
    volume_option::size_option,
};
use anyhow::{Context, Result, anyhow, bail};
use std::path::PathBuf;

/// One `--mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountOption {
    /// Something that is mounted as it is.
    Mount(UserMount),
    /// An empty file system in memory.
    Tmpfs(Tmpfs),
    /// All files and directories of this pattern, in the directory `target` or, without one, each at its own place.
    Glob {
        /// As glob(7) has it.
        pattern: String,
        /// Where to.
        target: Option<PathBuf>,
        /// Of each of them.
        options: Vec<String>,
    },
}

/// One `--mount`.
///
/// # Errors
/// There is no such type; the type has no such key; a value can't be; a key comes twice.
pub fn parse(text: &str) -> Result<MountOption> {
    let fields = split(text)?;
    let mut fields: Vec<(&str, Option<&str>)> = fields
        .iter()
        .map(|field| field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value))))
        .collect();
    let types = fields.iter().filter(|(key, _)| *key == "type").count();
    // Docker's default; Podman wants it said.
    let kind = match (types, fields.iter().position(|(key, _)| *key == "type")) {
        (1, Some(at)) => fields.remove(at).1.unwrap_or_default(),
        (0, _) => "volume",
        _ => bail!("type is given twice"),
    };
    match kind {
        "bind" => Keys::read(kind, &fields)?.bind(),
        "volume" => Keys::read(kind, &fields)?.volume(),
        "glob" => Keys::read(kind, &fields)?.glob(),
        "image" => Keys::read(kind, &fields)?.image(),
        "tmpfs" => Keys::read(kind, &fields)?.tmpfs(),
        "ramfs" => Keys::read(kind, &fields)?.ramfs(),
        "devpts" => Keys::read(kind, &fields)?.devpts(),
        "artifact" | "npipe" | "cluster" => bail!("mounts of type {kind} are not built yet"),
        _ => bail!("invalid filesystem type {kind:?}"),
    }
}

/// What all types share, and the words of mount(8) that each makes of its keys.
#[derive(Default)]
struct Keys {
    source: Option<String>,
    target: Option<PathBuf>,
    subpath: Option<PathBuf>,
    words: Vec<String>,
}

impl Keys {
    fn read(kind: &str, fields: &[(&str, Option<&str>)]) -> Result<Keys> {
        let mut keys = Keys::default();
        for &(key, value) in fields {
            keys.field(kind, key, value)?;
        }
        Ok(keys)
    }

    fn field(&mut self, kind: &str, key: &str, value: Option<&str>) -> Result<()> {
        let of_host = matches!(kind, "bind" | "glob");
        let stored = of_host || kind == "volume";
        let memory = matches!(kind, "tmpfs" | "ramfs");
        let needed =
            || value.filter(|value| !value.is_empty()).with_context(|| format!("{key} needs a value"));
        let flag = || match value {
            None => Ok(true),
            Some(word) if word.eq_ignore_ascii_case("true") || word == "1" => Ok(true),
            Some(word) if word.eq_ignore_ascii_case("false") || word == "0" => Ok(false),
            Some(word) => Err(anyhow!("{key}={word}: neither true nor false")),
        };
        match key {
            "src" | "source" if !memory && kind != "devpts" => {
                once(key, &mut self.source, needed()?.to_owned())?
            }
            "dst" | "destination" | "target" => once(key, &mut self.target, parse_target(needed()?)?)?,
            "subpath" | "volume-subpath" | "image-subpath" if matches!(kind, "volume" | "image") => {
                once(key, &mut self.subpath, parse_subpath(needed()?)?)?;
            }
            "ro" | "readonly" if kind != "image" => {
                self.words.push(if flag()? { "ro" } else { "rw" }.to_owned())
            }
            "rw" | "readwrite" => self.words.push(if flag()? { "rw" } else { "ro" }.to_owned()),
            "U" | "chown" if stored || memory => self.words.extend(flag()?.then(|| "U".to_owned())),
            "idmap" if stored || kind == "image" => match value {
                None | Some("true") => self.words.push("idmap".to_owned()),
                Some("false") => {}
                Some(map) => self.words.push(format!("idmap={map}")),
            },
            "bind-propagation" if of_host => {
                let word = needed()?;
                let known = super::user_mount::class(word).is_some_and(|class| class.contains("private"));
                self.words.push(
                    known
                        .then(|| word.to_owned())
                        .with_context(|| format!("{key}={word}: no such propagation"))?,
                );
            }
            "bind-nonrecursive" if of_host => {
                self.words.push(if flag()? { "bind" } else { "rbind" }.to_owned())
            }
            "relabel" if stored => self.words.push(match value {
                Some("shared") => "z".to_owned(),
                Some("private") => "Z".to_owned(),
                _ => bail!("relabel is shared or private"),
            }),
            "volume-nocopy" | "nocopy" if kind == "volume" => {
                self.words.extend(flag()?.then(|| "nocopy".to_owned()))
            }
            "copy" if kind == "volume" => self.words.push("copy".to_owned()),
            "suid" | "nosuid" | "dev" | "nodev" | "exec" | "noexec" if value.is_none() => {
                self.words.push(key.to_owned())
            }
            "z" | "Z" | "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable"
            | "runbindable"
                if value.is_none() && of_host =>
            {
                self.words.push(key.to_owned());
            }
            "tmpfs-size" | "size" if memory => self.words.push(size_option(needed()?)?),
            "tmpfs-mode" | "mode" if memory => {
                let mode = parse_mode(needed()?, 0o7777).context(key.to_owned())?;
                self.words.push(format!("mode={mode:o}"));
            }
            "tmpcopyup" | "notmpcopyup" if memory && value.is_none() => self.words.push(key.to_owned()),
            "noswap" if kind == "tmpfs" && value.is_none() => self.words.push(key.to_owned()),
            "uid" | "gid" if kind == "devpts" => {
                let id: u32 = needed()?.parse().with_context(|| format!("{key} is a number"))?;
                self.words.push(format!("{key}={id}"));
            }
            "mode" if kind == "devpts" => {
                self.words.push(format!("mode={:o}", parse_mode(needed()?, 0o777).context("mode")?));
            }
            "max" if kind == "devpts" => {
                self.words.push(format!("max={}", parse_size(needed()?).context("max")?))
            }
            // Docker's word for Macs, of no meaning elsewhere.
            "consistency" => {}
            "no-dereference" if of_host => self.words.extend(flag()?.then(|| "no-dereference".to_owned())),
            _ => bail!("{key}: invalid mount option for type={kind}"),
        }
        Ok(())
    }

    fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    fn target(&mut self) -> Result<PathBuf> {
        self.target.take().context("it names no destination: must set volume destination")
    }

    fn bind(mut self) -> Result<MountOption> {
        let path = self.source.take().context("it names no source")?.into();
        self.mount(Source::Bind { path }, false)
    }

    fn volume(mut self) -> Result<MountOption> {
        let name = self.source.take().map(|name| name.parse()).transpose()?;
        let source = Source::Volume {
            anonymous: name.is_none(),
            name,
            subpath: self.subpath.take(),
            path: PathBuf::new(),
        };
        self.mount(source, true)
    }

    fn image(mut self) -> Result<MountOption> {
        let name = self.source.take().context("it names no image")?;
        if !self.words.iter().any(|word| word == "rw") {
            self.words.retain(|word| word != "ro");
            self.words.push("ro".to_owned());
        }
        let source = Source::Image { name, subpath: self.subpath.take(), layers: Vec::new(), view: None };
        self.mount(source, false)
    }

    fn mount(mut self, source: Source, named: bool) -> Result<MountOption> {
        let (target, options) = (self.target()?, complete(&self.words(), named)?);
        Ok(MountOption::Mount(UserMount { source, target, options }))
    }

    fn glob(mut self) -> Result<MountOption> {
        let pattern = self.source.take().context("it names no source")?;
        let options = complete(&self.words(), false)?;
        Ok(MountOption::Glob { pattern, target: self.target.take(), options })
    }

    fn tmpfs(mut self) -> Result<MountOption> {
        let target = self.target()?;
        if target.to_string_lossy().contains(':') {
            bail!("a tmpfs can't go to a place with a colon");
        }
        let chown = self.words.iter().any(|word| word == "U");
        self.words.retain(|word| word != "U");
        let swap = self.words.iter().any(|word| word == "noswap");
        self.words.retain(|word| word != "noswap");
        let mut tmpfs = tmpfs::parse(&format!("{}:{}", target.display(), self.words.join(",")))?;
        tmpfs
            .options
            .extend(chown.then(|| "U".to_owned()).into_iter().chain(swap.then(|| "noswap".to_owned())));
        Ok(MountOption::Tmpfs(tmpfs))
    }

    fn ramfs(mut self) -> Result<MountOption> {
        let target = self.target()?;
        if let Some(word) = self
            .words
            .iter()
            .find(|word| !word.starts_with("mode=") && !word.contains("cop") && **word != "U")
        {
            bail!("{word}: a ramfs has no such option");
        }
        let options = std::mem::take(&mut self.words);
        Ok(MountOption::Mount(UserMount { source: Source::Ramfs, target, options }))
    }

    fn devpts(mut self) -> Result<MountOption> {
        let target = self.target()?;
        let options = std::mem::take(&mut self.words);
        Ok(MountOption::Mount(UserMount { source: Source::Devpts, target, options }))
    }
}

fn once<T>(key: &str, slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(anyhow!("{key} is given twice")),
    }
}

/// A line of comma-separated values (RFC 4180): a field in double quotes may hold commas, and a quote written twice.
fn split(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let end = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut field = String::new();
                let mut part = quoted;
                loop {
                    let (before, after) = part.split_once('"').context("a quote is not closed")?;
                    field.push_str(before);
                    match after.strip_prefix('"') {
                        Some(more) => (field.push('"'), part = more).1,
                        None => {
                            part = after;
                            break;
                        }
                    }
                }
                fields.push(field);
                part
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                fields.push(rest[..end].to_owned());
                &rest[end..]
            }
        };
        match end.strip_prefix(',') {
            Some(more) => rest = more,
            None if end.is_empty() => return Ok(fields),
            None => bail!("something follows a closing quote"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let bind = |text| match parse(text).unwrap() {
            MountOption::Mount(mount) => {
                format!("{:?} {} {}", mount.source, mount.target.display(), mount.options.join(","))
            }
            other => format!("{other:?}"),
        };
        for (text, expected) in [
            ("type=bind,src=/a,dst=/b", r#"Bind { path: "/a" } /b rw,rprivate,rbind"#),
            ("type=bind,source=a,target=/b,ro=true", r#"Bind { path: "a" } /b ro,rprivate,rbind"#),
            ("type=bind,\"src=/a,b\",dst=/b,readonly", r#"Bind { path: "/a,b" } /b ro,rprivate,rbind"#),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-nonrecursive,relabel=shared,U=true,idmap=false",
                r#"Bind { path: "/a" } /b rslave,bind,z,U,rw"#,
            ),
            (
                "src=v,dst=/b,volume-nocopy",
                r#"Volume { name: Some(VolumeName("v")), anonymous: false, path: "", subpath: None } /b nocopy,rw,rprivate,nosuid,nodev,rbind"#,
            ),
            (
                "type=volume,dst=/b,subpath=x/y",
                r#"Volume { name: None, anonymous: true, path: "", subpath: Some("x/y") } /b rw,rprivate,nosuid,nodev,rbind"#,
            ),
            (
                "type=image,src=box,dst=/b",
                r#"Image { name: "box", subpath: None, layers: [], view: None } /b ro,rprivate,rbind"#,
            ),
            ("type=devpts,dst=/dev/pts,max=10,mode=0620,gid=5", "Devpts /dev/pts max=10,mode=620,gid=5"),
        ] {
            assert_eq!(bind(text), expected, "{text}");
        }
        let tmpfs = parse("type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1777,notmpcopyup,noexec").unwrap();
        let MountOption::Tmpfs(tmpfs) = tmpfs else { panic!("{tmpfs:?}") };
        assert_eq!(tmpfs.options.join(","), "rprivate,rw,nosuid,nodev,size=2097152,mode=1777,noexec");
        assert!(matches!(parse("type=glob,src=/a*").unwrap(), MountOption::Glob { target: None, .. }));
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "type=bind",
            "type=bind,src=/a",
            "type=bind,dst=/b",
            "type=foo,src=/a,dst=/b",
            "type=bind,src=/a,dst=b",
            "type=bind,src=/a,dst=/b,foo=1",
            "type=bind,src=/a,src=/b,dst=/c",
            "type=bind,type=bind,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,ro,rw",
            "type=bind,src=/a,dst=/b,ro=maybe",
            "type=tmpfs,src=/a,dst=/b",
            "type=tmpfs,dst=/b,tmpfs-size=x",
            "type=volume,src=a/b,dst=/c",
            "type=volume,src=v,dst=/c,bind-propagation=shared",
            "type=image,dst=/b",
            "type=volume,src=a,dst=/b,no-dereference",
            "type=bind,src=/a,dst=/b,relabel=x",
            "type=volume,src=v,dst=/b,subpath=../x",
            "type=devpts,dst=/dev/pts,src=x",
            "type=devpts,dst=/dev/pts,uid=-1",
            "type=bind,\"src=/a,dst=/b",
            "\"type=bind\"x,src=/a,dst=/b",
            "type=bind,src=,dst=/b",
            "type=bind,src=/a,dst=/b,bind-propagation=ro",
            "type=ramfs,dst=/x,tmpfs-size=1m",
            "type=artifact,src=a,dst=/b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn comma_separated() {
        assert_eq!(split(r#"a,"b,""c""",,d"#).unwrap(), ["a", "b,\"c\"", "", "d"]);
        assert!(split("\"a").is_err() && split("\"a\"b").is_err());
    }
}
