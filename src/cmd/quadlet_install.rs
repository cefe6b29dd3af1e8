//! `ctr quadlet install` and `ctr quadlet rm`.

use super::{
    output,
    quadlet::{is_user, plan},
    quadlet_status::{reload, statuses, stop},
    run_args::takes_a_truth_value,
};
use crate::{
    error::Explain,
    quadlet::{self, Installed, Item, Kind},
};
use anyhow::{Context, Result, anyhow, ensure};
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct InstallArgs {
    /// Have systemd look at them [default: true]
    #[arg(long, default_value = "true", hide_default_value = true)]
    reload_systemd: bool,
    /// Take the place of files that have the names
    #[arg(short, long)]
    replace: bool,
    /// A Quadlet file, a directory of them, or a .quadlets file; then other files that belong to it
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<String>,
}

/// Install files and print where they are. What could not become a service is refused before anything changes.
pub fn install(args: &InstallArgs) -> Result<u8> {
    let user = is_user();
    let installed = Installed::at(quadlet::install_dir(user)?);
    let (app, items) = collect(&args.paths)?;
    check(&installed, &items, user)?;
    for path in installed.install(&app, &items, args.replace)? {
        output::line(path.display())?;
    }
    if args.reload_systemd {
        reload(user)?;
    }
    Ok(0)
}

/// The files that `paths` name, and what they are called together.
fn collect(paths: &[String]) -> Result<(String, Vec<Item>)> {
    let mut items = Vec::new();
    for (at, text) in paths.iter().enumerate() {
        if text.contains("://") {
            return Err(anyhow!("{text}: files are not fetched from the network")).hint("download it first");
        }
        let path = Path::new(text);
        let kind = Kind::of(&name(path)?).with_context(|| text.clone())?;
        if path.is_dir() {
            let mut entries =
                fs::read_dir(path).with_context(|| format!("list {text}"))?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                items.push(item(&entry.path())?);
            }
        } else if path.extension().is_some_and(|extension| extension == "quadlets") {
            let bundle = quadlet::read(path)?.unwrap_or_default();
            let parts = quadlet::split(&bundle).with_context(|| text.clone())?;
            items.extend(
                parts.into_iter().map(|part| Item { name: part.name, content: part.text.into_bytes() }),
            );
        } else if at == 0 && kind.is_none() {
            return Err(anyhow!("{text} is not a supported Quadlet file type"))
                .hint("name a .container, .volume, .network, .image, .build, .pod or .quadlets file first");
        } else {
            items.push(item(path)?);
        }
    }
    let first = Path::new(&paths[0]);
    let bundle = first.extension().is_some_and(|extension| extension == "quadlets");
    let app = if bundle { name(&first.with_extension(""))? } else { name(first)? };
    Ok((app, items))
}

const ASSET: u64 = 64 << 20;

fn item(path: &Path) -> Result<Item> {
    let name = name(path)?;
    let mut content = Vec::new();
    ensure!(path.metadata().is_ok_and(|meta| meta.is_file()), "{} is no regular file", path.display());
    File::open(path)
        .and_then(|file| file.take(ASSET + 1).read_to_end(&mut content))
        .with_context(|| format!("read {}", path.display()))?;
    ensure!(content.len() as u64 <= ASSET, "{} is larger than {ASSET} bytes", path.display());
    Ok(Item { name, content })
}

fn name(path: &Path) -> Result<String> {
    let real = if path.file_name().is_none() { fs::canonicalize(path).ok() } else { None };
    let name = real.as_deref().unwrap_or(path).file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| !name.contains(char::is_control) && !name.starts_with('.'));
    Ok(name.with_context(|| format!("{:?} can't be installed under this name", path))?.to_owned())
}

/// Make services of them, together with what is installed.
fn check(installed: &Installed, items: &[Item], user: bool) -> Result<()> {
    let dirs = quadlet::search(user)?;
    let (mut sources, _) = quadlet::load(&dirs);
    let mut new = Vec::new();
    for item in items.iter().filter(|item| Kind::of(&item.name).is_ok_and(|kind| kind.is_some())) {
        let text = std::str::from_utf8(&item.content).with_context(|| item.name.clone())?;
        new.push(quadlet::from_text(&installed.path(&item.name), text, &dirs)?);
    }
    sources.retain(|source| items.iter().all(|item| item.name != source.name));
    sources.extend(new);
    let failures = plan(&sources, user)?.failures;
    let ours = |failure: &anyhow::Error| {
        items.iter().any(|item| failure.to_string().split(':').next() == Some(&item.name))
    };
    match failures.into_iter().find(ours) {
        Some(failure) => {
            Err(failure).hint("`ctr quadlet generate --dryrun` shows what becomes of those that are there")
        }
        None => Ok(()),
    }
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct RmArgs {
    /// All that are installed
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Stop their services first
    #[arg(short, long)]
    force: bool,
    /// Don't complain about what doesn't exist
    #[arg(short, long)]
    ignore: bool,
    /// Have systemd forget them [default: true]
    #[arg(long, default_value = "true", hide_default_value = true)]
    reload_systemd: bool,
    /// Names of Quadlet files, or of what was installed together
    #[arg(value_name = "QUADLET", required_unless_present = "all")]
    names: Vec<String>,
}

/// Remove files, with all that was installed with them, and print their names.
pub fn remove(args: &RmArgs) -> Result<u8> {
    let user = is_user();
    let dir = quadlet::install_dir(user)?;
    let installed = Installed::at(dir.clone());
    let (sources, _) = quadlet::load(&quadlet::search(user)?);
    let ours =
        || sources.iter().filter(|source| source.path.parent().is_some_and(|parent| same(parent, &dir)));
    let mut going = Vec::new();
    let named: Vec<String> =
        if args.all { ours().map(|source| source.name.clone()).collect() } else { args.names.clone() };
    for name in &named {
        match installed.belonging(name) {
            Some(names) => going.extend(names),
            None if args.ignore => {}
            None => match sources.iter().find(|source| source.name == *name) {
                Some(other) => {
                    return Err(anyhow!("{name} is not yours to remove"))
                        .hint(format!("it is {}", other.path.display()));
                }
                None => {
                    return Err(anyhow!("no such quadlet: {name}"))
                        .hint("`ctr quadlet list` shows which there are");
                }
            },
        }
    }
    going.sort();
    going.dedup();
    let services: Vec<String> = ours()
        .filter(|source| going.contains(&source.name))
        .map(quadlet::Source::service)
        .collect::<Result<_>>()?;
    let states = statuses(user, &services).into_iter().zip(services);
    let live = |state: &str| {
        ["active/", "activating/", "reloading/", "deactivating/"].iter().any(|s| state.starts_with(s))
    };
    let running: Vec<String> = states.filter(|(state, _)| live(state)).map(|(_, service)| service).collect();
    match running.first() {
        Some(service) if !args.force => {
            return Err(anyhow!("{service} is running")).hint("--force stops it first");
        }
        Some(_) => stop(user, &running)?,
        None => {}
    }
    installed.remove(&going)?;
    going.iter().try_for_each(output::line)?;
    if args.reload_systemd && !going.is_empty() {
        reload(user)?;
    }
    Ok(0)
}

fn same(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).ok() == fs::canonicalize(other).ok()
}
