//! `--secret` (podman-run(1)): a secret is copied when a container is made, into a file of its directory. Nothing else that is
//! kept of the container tells it.

use super::{environment, grammar::parse_mode, plan::path_c_string, user_mount::parse_target};
use crate::{
    error::Explain,
    namespaces::{
        mount::Operation,
        target::{Kind, Links, Target},
        volume,
    },
    storage::{ContainerDir, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One secret of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Its name.
    pub name: String,
    /// Its id; empty until the container is made.
    #[serde(default)]
    pub id: String,
    /// What it becomes.
    #[serde(flatten)]
    pub form: Form,
}

/// What a secret becomes in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Form {
    /// A file.
    Mount {
        /// Its place.
        target: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
    /// A variable.
    Env {
        /// Its name.
        variable: String,
    },
}

/// `NAME[,type=mount|env][,target=TARGET][,uid=][,gid=][,mode=]`.
pub fn parse(text: &str) -> Result<Given> {
    let mut fields = text.split(',');
    let first = fields.next().unwrap_or_default();
    let (mut name, mut kind, mut target) = (None, "mount", None);
    let (mut uid, mut gid, mut mode) = (None, None, None);
    if !first.contains('=') {
        name = Some(first);
    } else {
        fields = text.split(',');
    }
    for field in fields {
        let (key, value) =
            field.split_once('=').with_context(|| format!("{field:?} is not of the form KEY=VALUE"))?;
        let number = || value.parse::<u32>().with_context(|| format!("{key}={value}: no number"));
        match key {
            "source" | "src" if name.is_none() => name = Some(value),
            "type" if matches!(value, "mount" | "env") => kind = value,
            "type" => bail!("type {value:?} is invalid: mount and env are"),
            "target" if !value.is_empty() => target = Some(value),
            "uid" => uid = Some(number()?),
            "gid" => gid = Some(number()?),
            "mode" => mode = Some(parse_mode(value, 0o7777).context("mode")?),
            _ => bail!("{field:?}: no such option of a secret"),
        }
    }
    let name = name.filter(|name| !name.is_empty()).context("it names no secret")?;
    // A file's name too.
    name.parse::<crate::storage::Name>()?;
    let form = match kind {
        "env" if uid.or(gid).or(mode).is_some() => bail!("uid, gid and mode are of secrets that are mounted"),
        "env" => {
            let variable = target.unwrap_or(name);
            if variable.contains(['=', '\0']) {
                bail!("{variable:?} is no name of a variable");
            }
            Form::Env { variable: variable.to_owned() }
        }
        _ => {
            let target = Path::new("/run/secrets").join(target.unwrap_or(name));
            let target = parse_target(&target.to_string_lossy())?;
            Form::Mount { target, uid: uid.unwrap_or(0), gid: gid.unwrap_or(0), mode: mode.unwrap_or(0o444) }
        }
    };
    Ok(Given { name: name.to_owned(), id: String::new(), form })
}

/// Copy them into the container's directory.
///
/// # Errors
/// There is no such secret; one that is to be a variable isn't text.
pub fn copy(store: &Store, given: &[Given], dir: &ContainerDir) -> Result<Vec<Given>> {
    let copy_one = |(number, given): (usize, &Given)| {
        let secret = store.find_secret(&given.name)?;
        let data = secret.data()?;
        if matches!(given.form, Form::Env { .. })
            && (data.contains(&0) || std::str::from_utf8(&data).is_err())
        {
            return Err(anyhow!("--secret {}: it is no text, so it can't be a variable", given.name))
                .hint(format!("--secret {},type=mount makes it a file", given.name));
        }
        dir.write(&file_name(number), &data)?;
        Ok(Given { id: secret.id, ..given.clone() })
    };
    given.iter().enumerate().map(copy_one).collect()
}

/// What makes the files. `stage` is a directory of the host that is of no use inside.
pub fn operations(dir: &ContainerDir, given: &[Given], stage: &Path) -> Result<Vec<Operation>> {
    let mut operations = Vec::new();
    for (number, given) in given.iter().enumerate() {
        let Form::Mount { target, uid, gid, mode } = &given.form else { continue };
        let at = Target::new(&target.to_string_lossy(), Kind::File, Links::Follow);
        operations.push(Operation::Secret(volume::Secret {
            content: read(dir, number, given)?,
            uid: *uid,
            gid: *gid,
            mode: *mode,
            stage: path_c_string(stage)?,
            held: None,
            at: at.with_context(|| format!("place secret {}", given.name))?,
        }));
    }
    Ok(operations)
}

/// Put those that are variables into the environment of `spec`, which is not written anywhere any more.
pub fn reveal(spec: &mut Spec, dir: &ContainerDir, given: &[Given]) -> Result<()> {
    for (number, secret) in given.iter().enumerate() {
        let Form::Env { variable } = &secret.form else { continue };
        let value = String::from_utf8_lossy(&read(dir, number, secret)?).into_owned();
        let Some(process) = spec.process_mut() else { continue };
        let split =
            |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut env = process.env().iter().flatten().filter_map(split).collect();
        environment::set(&mut env, variable, &value);
        process.set_env(Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()));
    }
    Ok(())
}

fn read(dir: &ContainerDir, number: usize, given: &Given) -> Result<Vec<u8>> {
    let data = dir.read(&file_name(number)).with_context(|| format!("read secret {}", given.name))?;
    data.ok_or_else(|| anyhow!("the container's copy of secret {} is gone", given.name))
}

fn file_name(number: usize) -> String {
    format!("secret-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let file = |target: &str, uid, gid, mode| Form::Mount { target: target.into(), uid, gid, mode };
        for (text, name, form) in [
            ("s", "s", file("/run/secrets/s", 0, 0, 0o444)),
            ("s,target=x/y,mode=0400,uid=1,gid=2", "s", file("/run/secrets/x/y", 1, 2, 0o400)),
            ("source=s,type=mount,target=/my/place", "s", file("/my/place", 0, 0, 0o444)),
            ("s,type=env", "s", Form::Env { variable: "s".into() }),
            ("s,type=env,target=KEY", "s", Form::Env { variable: "KEY".into() }),
        ] {
            let given = parse(text).unwrap();
            assert_eq!((given.name.as_str(), given.form), (name, form), "{text}");
        }
        for bad in [
            "",
            ",type=env",
            "s,type=file",
            "s,mode=9",
            "s,uid=-1",
            "s,uid=x",
            "s,foo=1",
            "s,foo",
            "s,target=",
            "s,target=../../etc/x",
            "s,target=/proc/1",
            "s,type=env,uid=1",
            "s,type=env,target=A=B",
            "type=env",
            "../s",
            "a/b",
            "s\n",
            "source=",
            "source=a,source=b",
            "s,source=t",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
