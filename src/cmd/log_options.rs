//! `--log-driver` and `--log-opt` (podman-run(1)).

use super::{inspect_container, output, run_args::Args, template::Template};
use crate::{
    container::{
        limits,
        record::{LogConfig, LogDriver},
        state::{Container, Record, Status},
    },
    error::Explain,
    monitor::JOURNAL,
    storage::ContainerDir,
};
use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::path::{Path, PathBuf};

impl Args {
    /// What the two ask for.
    pub fn log_config(&self) -> Result<LogConfig> {
        let mut log = LogConfig::default();
        if let Some(name) = &self.log_driver {
            log.driver = driver(name)
                .with_context(|| format!("--log-driver {name}"))
                .hint("write it as --log-driver=k8s-file, json-file, journald, none or passthrough")?;
        }
        for text in &self.log_opt {
            option(text, &mut log)
                .with_context(|| format!("--log-opt {text}"))
                .hint("write it as --log-opt max-size=10m, path=FILE or tag=TEXT")?;
        }
        self.fits(&log)?;
        Ok(log)
    }

    fn fits(&self, log: &LogConfig) -> Result<()> {
        let is_file = matches!(log.driver, LogDriver::K8sFile | LogDriver::JsonFile);
        if !is_file && (log.path.is_some() || log.max_size > 0) {
            return Err(anyhow!("--log-opt path and max-size are for --log-driver=k8s-file and json-file"))
                .hint("drop one of the two");
        }
        if log.driver == LogDriver::Journald && !Path::new(JOURNAL).exists() {
            return Err(anyhow!("--log-driver journald: there is no systemd-journald at {JOURNAL}"))
                .hint("--log-driver=k8s-file keeps a file of the container's own");
        }
        if log.driver != LogDriver::Passthrough {
            return Ok(());
        }
        // A container could type into the terminal that it got (TIOCSTI).
        let terminal = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        if self.tty || terminal.into_iter().any(rustix::termios::isatty) {
            return Err(anyhow!("--log-driver passthrough: the streams of this process are a terminal"))
                .hint("it is for services; drop it, or redirect stdin, stdout and stderr");
        }
        if !self.attach.is_empty() {
            return Err(anyhow!("--attach can't be used with --log-driver=passthrough"))
                .hint("drop one of the two");
        }
        Ok(())
    }
}

/// Put what `--log-opt tag` takes from the container in its place, as `inspect --format` would.
pub fn fill_tag(dir: &ContainerDir, record: &mut Record) -> Result<()> {
    if !record.log.tag.contains("{{") {
        return Ok(());
    }
    let shown = Container { dir: dir.clone(), record: record.clone(), status: Status::Created };
    let tag = &mut record.log.tag;
    let filled = template(tag)?.render(&[inspect_container::value(&shown)], |text| text.into());
    *tag = filled.with_context(|| format!("--log-opt tag={tag}"))?.trim_end().to_owned();
    Ok(())
}

fn driver(name: &str) -> Result<LogDriver> {
    Ok(match name {
        "k8s-file" => LogDriver::K8sFile,
        "json-file" => LogDriver::JsonFile,
        "journald" => LogDriver::Journald,
        "none" => LogDriver::None,
        "passthrough" => LogDriver::Passthrough,
        "passthrough-tty" => bail!("not built: a container could type into the terminal that it got"),
        _ => bail!("no such log driver"),
    })
}

fn option(text: &str, log: &mut LogConfig) -> Result<()> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key {
        "max-size" => log.max_size = limits::parse_size(value)?,
        "path" => log.path = Some(log_file(value)?),
        "tag" => {
            template(value)?;
            log.tag = value.to_owned();
        }
        "label" => bail!("label is not built yet"),
        _ => bail!("no such log option: {}", output::clip(key, 40)),
    }
    Ok(())
}

/// A regular file, or a place for one: a monitor doesn't follow links, nor wait for a FIFO.
fn log_file(text: &str) -> Result<PathBuf> {
    if text.is_empty() || text.ends_with('/') {
        bail!("not the name of a file");
    }
    let path = std::path::absolute(text)?;
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => {
            return Err(anyhow!("a symbolic link, which is not followed"))
                .hint("name the file that it points to");
        }
        Ok(found) if !found.is_file() => bail!("not a regular file"),
        Ok(_) => writable(&path)?,
        Err(_) => match path.parent().filter(|directory| directory.is_dir()) {
            Some(directory) => writable(directory)?,
            None => bail!("there is no such directory"),
        },
    }
    Ok(path)
}

fn writable(path: &Path) -> Result<()> {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
        .with_context(|| format!("write to {}", path.display()))
}

fn template(text: &str) -> Result<Template> {
    Template::new(text, false).map_err(|fault| fault.explain(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        for (text, good) in [
            ("max-size=10mb", true),
            ("max-size=x", false),
            ("max-size", false),
            ("path=/tmp/log", true),
            ("path=log", true),
            ("path=/dev/null", false),
            ("path=/tmp", false),
            ("path=/proc/self/exe", false),
            ("path=/nonexistent/log", false),
            ("path=", false),
            ("tag={{.Name}}", true),
            ("tag={{", false),
            ("label=x", false),
            ("max-file=3", false),
        ] {
            assert_eq!(option(text, &mut LogConfig::default()).is_ok(), good, "{text}");
        }
    }
}
