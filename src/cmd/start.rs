//! `ctr start`: containers that were made earlier.

use super::{
    Globals, attach,
    container_filter::Filter,
    foreground,
    targets::{self, Choice, Selection},
};
use crate::{
    container::{claim::Claim, create::Container, find, record::Record, state::Status, userns::Join},
    error::Explain,
    monitor::{self, Manner, Readiness},
    namespaces::Mapping,
    storage::{ContainerDir, Store},
};
use anyhow::{Result, anyhow};

#[derive(clap::Args, Debug)]
#[command(mut_arg("all", |all| all.short(None)))]
pub struct Args {
    /// Show its output and pass signals on; the exit status is the container's
    #[arg(short, long)]
    attach: bool,
    /// Pass stdin on
    #[arg(short, long)]
    interactive: bool,
    /// Keys that detach from the container's terminal [default: the container's]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Pass signals on when attached [default: true]
    #[arg(long, default_value = "true", hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    sig_proxy: bool,
    #[command(flatten)]
    choice: Choice,
    /// Those with KEY=VALUE, as `ctr ps` has it
    #[arg(short, long, value_name = "FILTER", group = targets::WITHOUT_NAMES, conflicts_with = "latest")]
    filter: Vec<Filter>,
}

/// Start them. One that runs is left alone.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    if args.attach || args.interactive {
        if args.choice.all || !args.filter.is_empty() || args.choice.containers.len() > 1 {
            return Err(anyhow!("you cannot start and attach multiple containers at once"))
                .hint("start them without --attach, then `ctr attach` to one");
        }
        return attached(args, &store);
    }
    let Args { choice, filter, .. } = args;
    let selection = Selection { choice: choice.clone(), filter: filter.clone(), ..Selection::default() };
    let rests = |status: &Status| status.process().is_none();
    targets::for_each(&store, &selection, false, &rests, &mut |dir| in_background(&store, dir))
}

/// Start it and leave it alone.
pub fn in_background(store: &Store, dir: &ContainerDir) -> Result<()> {
    match prepare(dir)? {
        Some(container) => {
            others(store, &container.record)?;
            monitor::begin(store, container, &Mapping::detect(), None, Manner::BACKGROUND).map(drop)
        }
        None => Ok(()),
    }
}

/// Start those whose namespaces the container of `record` has.
pub fn others(store: &Store, record: &Record) -> Result<()> {
    let user = match &record.join {
        Some(Join::Container(id)) => Some(id.as_str()),
        _ => None,
    };
    record.sharing.containers().chain(user).try_for_each(|id| {
        let dir = find::find(store, id)?;
        in_background(store, &dir)
    })
}

/// `ctr init`: set them up, so that `start` has nothing left to do but to let them go.
pub fn init(choice: &Choice, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let selection = Selection { choice: choice.clone(), ..Selection::default() };
    targets::for_each(&store, &selection, false, &|status| *status == Status::Created, &mut |dir| {
        let status = Status::of(dir)?;
        if status != Status::Created {
            return Err(anyhow!("container {} is {}, not created", dir.id().short(), status.word()))
                .hint("init is for containers that have never been started");
        }
        let manner = Manner { hold: true, ..Manner::BACKGROUND };
        match prepare(dir)? {
            Some(container) => monitor::begin(&store, container, &Mapping::detect(), None, manner).map(drop),
            None => Ok(()),
        }
    })
}

/// The container, ours to start; None when it runs.
///
/// # Errors
/// It is paused; or a copy of its files takes long.
fn prepare(dir: &ContainerDir) -> Result<Option<Container>> {
    match monitor::settled(dir)? {
        Status::Initialized(_) => {
            monitor::go(dir)?;
            Ok(None)
        }
        Status::Running(_) | Status::Restarting(_) => Ok(None),
        Status::Paused(_) => {
            let short = dir.id().short();
            Err(anyhow!("container {short} is paused: container state improper"))
                .hint(Status::of(dir)?.hint(short))
        }
        Status::Created | Status::Exited(_) => match Claim::of(dir)? {
            Claim::Ours(lock) => Container::load(dir.clone(), lock).map(Some),
            Claim::Gone => Err(anyhow!("container {} was removed", dir.id().short()))
                .hint("`ctr ps -a` lists those that there are"),
            Claim::Alive(_) => Ok(None),
        },
    }
}

fn attached(args: &Args, store: &Store) -> Result<u8> {
    let found = targets::one(store, args.choice.containers.first(), args.choice.latest)?;
    let keys = foreground::keys(args.detach_keys.as_deref().or(found.record.detach_keys.as_deref()))?;
    if let Status::Initialized(_) = found.status {
        let manner = attach::Manner {
            stdin: args.interactive && found.record.interactive,
            sig_proxy: args.sig_proxy,
            start: true,
        };
        return attach::to(store, &found, manner, keys);
    }
    let Some(container) = prepare(&found.dir)? else {
        return Err(anyhow!("container {} is running", found.dir.id().short()))
            .hint(format!("`ctr attach {}` shows its output", found.dir.id().short()));
    };
    others(store, &container.record)?;
    let mut record = container.record.clone();
    record.detach_keys = args.detach_keys.clone().or(record.detach_keys);
    let stdin = args.interactive && record.interactive;
    let readiness = Readiness::new(record.tty && stdin)?;
    let begun = monitor::begin(store, container, &Mapping::detect(), None, Manner::foreground(stdin))?;
    foreground::attend(begun, &record, stdin, args.sig_proxy, &readiness)
}
