//! `ctr volume`: directories that outlive containers (podman-volume(1)).

use super::{
    Globals, each, output, rm,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
    volume_filter::{self, Filter},
    warn,
};
use crate::{
    container::{files::volume as archive, volumes},
    error::Explain,
    monitor,
    namespaces::{Mapping, run_inside},
    storage::{FRESH, Store, Volume, VolumeName},
    sys::signal,
};
use anyhow::{Context, Result, anyhow};
use rustix::{io::fcntl_dupfd_cloexec, stdio};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::IsTerminal,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct CreateArgs {
    /// The volume driver: local is the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// One that exists is no error
    #[arg(long)]
    ignore: bool,
    /// Attach a label to the volume
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// type=, device= and o= of mount(8): with o=bind and device=DIR it stands for a directory; o=uid=,gid= says whose it is
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name; without one it gets 64 hex digits
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Make one and print its name.
pub fn create(args: &CreateArgs, globals: &Globals) -> Result<u8> {
    if args.driver != "local" {
        return Err(anyhow!("--driver {}: there is no such volume driver", args.driver))
            .hint("--driver local");
    }
    let name = match &args.name {
        Some(name) => {
            name.parse().with_context(|| format!("volume create {name:?}")).hint("ctr volume create data")?
        }
        None => VolumeName::random()?,
    };
    let mut volume = Volume::new(name);
    for (option, list, into) in
        [("--label", &args.label, &mut volume.labels), ("--opt", &args.opt, &mut volume.options)]
    {
        for text in list {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            if key.is_empty() || option == "--opt" && value.is_empty() {
                return Err(anyhow!("{option} {text:?}: not of the form KEY=VALUE"))
                    .hint(format!("{option} key=value"));
            }
            into.insert(key.to_owned(), value.to_owned());
        }
    }
    let (store, mapping) = (globals.store()?, Mapping::detect());
    volumes::check_options(&volume, mapping.is_rootless())
        .context("--opt")
        .hint("--opt type=tmpfs --opt device=tmpfs")?;
    let lock = store.lock_volumes()?;
    if !store.create_volume(&volume, &lock)? && !args.ignore {
        return Err(anyhow!("volume with name {} already exists: volume already exists", volume.name))
            .hint(format!("--ignore takes it as it is; `ctr volume rm {}` removes it", volume.name));
    }
    give(&store, &volume, &mapping)?;
    output::line(&volume.name)?;
    Ok(0)
}

/// `o=uid=,gid=`.
fn give(store: &Store, volume: &Volume, mapping: &Mapping) -> Result<()> {
    let id = |key: &str| volume.mount_options().find_map(|word| word.strip_prefix(key)?.parse::<u32>().ok());
    let (uid, gid) = (id("uid="), id("gid="));
    if uid.or(gid).is_none() {
        return Ok(());
    }
    let data = store.volume_data(&volume.name);
    let given = run_inside(mapping, || {
        std::os::unix::fs::chown(&data, uid, gid)
            .with_context(|| format!("give {} to its user", data.display()))
    });
    let settled = given.and_then(|()| Ok(fs::remove_file(store.volume_dir(&volume.name).join(FRESH))?));
    settled.inspect_err(|_| drop(volumes::remove(store, &volume.name)))
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct LsArgs {
    /// Only those with KEY=VALUE: name, label, label!, dangling, driver, opt, scope, until, since, anonymous
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    format: Option<Format>,
    /// No line of headings
    #[arg(short, long)]
    noheading: bool,
    /// Nothing but names
    #[arg(short, long)]
    quiet: bool,
}

/// Print the list.
pub fn ls(args: &LsArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let shown = select(&store, &args.filter)?;
    if args.quiet && args.format.is_none() {
        output::print(&shown.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Value> = shown.iter().map(|volume| value(&store, volume)).collect();
    let columns = Columns {
        row: r"{{.Driver}}\t{{.Name}}",
        headings: &[("Name", "VOLUME NAME")],
        noheading: args.noheading,
    };
    args.format.clone().unwrap_or_default().print(&rows, &columns)?;
    Ok(0)
}

fn select(store: &Store, filters: &[Filter]) -> Result<Vec<Volume>> {
    let (mut volumes, damaged) = store.volumes()?;
    damaged.iter().for_each(warn);
    let users = store.volume_users()?;
    volumes.retain(|volume| volume_filter::passes(filters, volume, users.contains_key(&volume.name)));
    Ok(volumes)
}

/// As Podman and Docker have it.
fn value(store: &Store, volume: &Volume) -> Value {
    let fresh = store.volume_dir(&volume.name).join(FRESH).exists();
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": store.volume_data(&volume.name),
        "CreatedAt": volume.created,
        "Labels": volume.labels,
        "Scope": "local",
        "Options": volume.options,
        "Anonymous": volume.anonymous,
        "MountCount": 0,
        "NeedsCopyUp": fresh,
        "NeedsChown": fresh,
    })
}

#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// All volumes
    #[arg(short, long)]
    all: bool,
    /// `json` or a Go template
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Name, or the beginning of one
    #[arg(value_name = "VOLUME", required_unless_present = "all", conflicts_with = "all")]
    volumes: Vec<String>,
}

/// Print an array of what there is.
pub fn inspect(args: &InspectArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let mut found = Vec::new();
    if args.all {
        found.extend(select(&store, &[])?.iter().map(|volume| value(&store, volume)));
    }
    let status = each(&args.volumes, |name| {
        found.push(value(&store, &store.find_volume(name).status(125)?));
        Ok(())
    });
    let format = if matches!(args.format, Format::Default) { &Format::Json } else { &args.format };
    format.print(&found, &Columns { row: "", headings: &[], noheading: false })?;
    Ok(status)
}

#[derive(clap::Args, Debug)]
pub struct RmArgs {
    /// All volumes
    #[arg(short, long)]
    all: bool,
    /// Remove the containers that use it, too; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// Seconds that those containers have to end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, requires = "force")]
    time: Option<i64>,
    /// Name, or the beginning of one
    #[arg(value_name = "VOLUME", required_unless_present = "all", conflicts_with = "all")]
    volumes: Vec<String>,
}

/// Remove them and print what each was called by.
pub fn remove(args: &RmArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let all = if args.all { store.volumes()?.0 } else { Vec::new() };
    let names = all.into_iter().map(|volume| volume.name.to_string()).chain(args.volumes.clone());
    Ok(each(names, |given| {
        let volume = match store.find_volume(&given) {
            Err(missing) if args.force && crate::error::status(&missing) == 1 => return Ok(()),
            found => found?,
        };
        if args.force {
            for id in store.volume_in_use_by(&volume.name)? {
                let container = store.container(&id);
                if args.time.is_some() {
                    monitor::stop(&container, None, super::stop::grace(args.time))?;
                }
                rm::remove(&store, &container, true, false)?;
            }
        }
        volumes::remove(&store, &volume.name)?;
        output::line(given)
    }))
}

#[derive(clap::Args, Debug)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Of those only the ones with KEY=VALUE, as `ctr volume ls` has it
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Filter>,
}

/// Remove all that no container uses.
pub fn prune(args: &PruneArgs, globals: &Globals) -> Result<u8> {
    let question = "This removes all volumes that no container uses. Go on? [y/N] ";
    if !args.force && !output::confirm(question)? {
        return Ok(0);
    }
    let store = globals.store()?;
    Ok(each(unused(&store, &args.filter)?, |volume| match remove_unused(&store, &volume)? {
        true => output::line(&volume.name),
        false => Ok(()),
    }))
}

/// Those that no container uses and that pass.
pub fn unused(store: &Store, filters: &[Filter]) -> Result<Vec<Volume>> {
    let users = store.volume_users()?;
    let mut unused = select(store, filters)?;
    unused.retain(|volume| !users.contains_key(&volume.name));
    Ok(unused)
}

/// False: meanwhile there is a container that uses it.
pub fn remove_unused(store: &Store, volume: &Volume) -> Result<bool> {
    match volumes::remove(store, &volume.name) {
        Err(used) if crate::error::status(&used) == 2 => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[derive(clap::Args, Debug)]
pub struct OneArgs {
    /// Its name
    #[arg(value_name = "VOLUME")]
    volume: String,
}

/// Status 0 or 1.
pub fn exists(args: &OneArgs, globals: &Globals) -> Result<u8> {
    Ok(u8::from(globals.store()?.find_volume(&args.volume).is_err()))
}

#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    /// Write to FILE in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name, or the beginning of one
    #[arg(value_name = "VOLUME")]
    volume: String,
}

/// Write it as a tar archive.
pub fn export(args: &ExportArgs, globals: &Globals) -> Result<u8> {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(anyhow!("refusing to export to terminal. Use -o flag or redirect"))
            .hint(format!("ctr volume export -o FILE.tar {}", args.volume));
    }
    let store = globals.store()?;
    let data = volumes::data(&store, &store.find_volume(&args.volume)?.name)?;
    let Some(path) = &args.output else {
        let out = fcntl_dupfd_cloexec(stdio::stdout(), 3).context("open standard output")?;
        return archive::export(&store, &data, File::from(out)).map(|()| 0);
    };
    let writing = || format!("write {}", path.display());
    let new = !path.exists();
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(writing).hint("choose a file that you may write with -o")?;
    archive::export(&store, &data, file).with_context(writing).inspect_err(|_| {
        // Half an archive is none.
        if new {
            let _ = fs::remove_file(path);
        }
    })?;
    Ok(0)
}

#[derive(clap::Args, Debug)]
pub struct ImportArgs {
    /// Name, or the beginning of one
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// A tar archive, plain or compressed; `-`: standard input
    #[arg(value_name = "FILE", default_value = "-")]
    source: PathBuf,
}

/// Put what is in an archive into it.
pub fn import(args: &ImportArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let name = store.find_volume(&args.volume)?.name;
    let from = match args.source.as_os_str().as_encoded_bytes() {
        b"-" => File::from(fcntl_dupfd_cloexec(stdio::stdin(), 3).context("open standard input")?),
        _ => File::open(&args.source)
            .with_context(|| format!("open {}", args.source.display()))
            .hint("name a tar archive that you may read, or - for standard input")?,
    };
    // Who unpacks may be done, or have given up, before all is written: that is heard from its end.
    signal::survive_broken_pipes();
    archive::import(&store, &volumes::data(&store, &name)?, from)
        .with_context(|| format!("import into volume {name}"))?;
    // What is in it now is not to be mixed with what an image has.
    let _ = fs::remove_file(store.volume_dir(&name).join(FRESH));
    Ok(0)
}

#[derive(clap::Args, Debug)]
pub struct SomeArgs {
    /// Names, or their beginnings
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

/// Print where each is to be found, mounted if it has to be.
pub fn mount(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    Ok(each(&args.volumes, |given| {
        output::line(volumes::data(&store, &store.find_volume(given)?.name)?.display())
    }))
}

/// Unmount those that are file systems of their own.
pub fn unmount(args: &SomeArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    Ok(each(&args.volumes, |given| {
        let volume = store.find_volume(given)?;
        volumes::unmount(&store, &volume)?;
        output::line(&volume.name)
    }))
}
