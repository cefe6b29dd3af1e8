//! `ctr quadlet`: the generator that systemd starts, and what it generates from (podman-quadlet(1), systemd.generator(7)).

use super::{
    Cli, Globals, each, output,
    quadlet_install::{self, InstallArgs, RmArgs},
    quadlet_status::statuses,
    report,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
    usage,
    verbs::{ContainerVerb, Group, Verb as AnyVerb},
};
use crate::{
    container::{grammar, limits, mount_option, secrets, userns, volume_option},
    error::Explain,
    quadlet::{self, Kind, Refusal, Settings, Source},
};
use anyhow::{Context, Error, Result, anyhow, bail};
use clap::{Parser, Subcommand, error::ContextKind, error::ErrorKind};
use regex::Regex;
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Write,
    iter,
    path::{Path, PathBuf},
    str::FromStr,
};

#[derive(Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Make services of systemd of all Quadlet files
    Generate(GenerateArgs),
    /// List Quadlet files
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show what is in a Quadlet file
    #[command(visible_alias = "cat")]
    Print(PrintArgs),
    /// Put Quadlet files where they are found
    Install(InstallArgs),
    /// Remove them
    Rm(RmArgs),
}

/// `ctr quadlet …`.
pub fn run(group: Group<Verb>, _: &Globals) -> Result<u8> {
    match group.verb {
        Verb::Generate(args) => generate(&args),
        Verb::List(args) => list(&args),
        Verb::Print(args) => print(&args),
        Verb::Install(args) => quadlet_install::install(&args),
        Verb::Rm(args) => quadlet_install::remove(&args),
    }
}

/// The command line; that of the generator if systemd calls us by its name.
pub fn command_line() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().and_then(|word| Path::new(word).file_name().map(ToOwned::to_owned));
    let as_generator: &[&str] = match name.as_ref().and_then(|name| name.to_str()) {
        Some("ctr-generator") => &["ctr", "quadlet", "generate", "--kmsg"],
        Some("ctr-user-generator") => &["ctr", "quadlet", "generate", "--user"],
        _ => return words,
    };
    words.splice(..1, as_generator.iter().map(OsString::from));
    words
}

#[derive(clap::Args, Debug)]
pub struct GenerateArgs {
    /// For `systemd --user`
    #[arg(long)]
    user: bool,
    /// Print the services
    #[arg(long)]
    dryrun: bool,
    /// Say what goes wrong in the kernel's log, as at boot there is no other
    #[arg(long, hide = true)]
    kmsg: bool,
    /// Where systemd wants them: only the first is used
    #[arg(value_name = "NORMAL [EARLY LATE]", num_args = 1..=3, required_unless_present = "dryrun")]
    dirs: Vec<PathBuf>,
}

// As systemd starts it: PID 1's child as root at boot, or the user's. No network, perhaps no disk but the root, and everybody
// waits: it reads the unit files and writes services.
fn generate(args: &GenerateArgs) -> Result<u8> {
    let dirs = quadlet::search(args.user).status(1)?;
    let (sources, mut failures) = quadlet::load(&dirs);
    let plan = plan(&sources, args.user)?;
    failures.extend(plan.failures);
    for service in &plan.services {
        match args.dirs.first() {
            Some(dir) if !args.dryrun => failures.extend(quadlet::write(dir, service).err()),
            dir => {
                let path = dir.map_or_else(|| service.name.clone().into(), |dir| dir.join(&service.name));
                output::print(&format!("---{}---\n{}\n", path.display(), service.text))?;
            }
        }
    }
    failures.iter().for_each(|failure| complain(failure, args.kmsg && !args.dryrun));
    Ok(u8::from(!failures.is_empty()))
}

fn complain(failure: &Error, kmsg: bool) {
    let line =
        format!("<3>ctr-generator[{}]: {}\n", std::process::id(), output::printable(&format!("{failure:#}")));
    let log = || OpenOptions::new().write(true).open("/dev/kmsg")?.write_all(line.as_bytes());
    if !kmsg || log().is_err() {
        report(failure);
    }
}

/// What becomes of `sources`.
pub fn plan(sources: &[Source], user: bool) -> Result<quadlet::Plan> {
    let program = std::env::current_exe().context("find our own program")?;
    let program = program.to_str().context("the path of our own program is not UTF-8")?;
    Ok(quadlet::plan(sources, &Settings { program, user, accepts: &accepts }))
}

/// Whether we take these words. Values with specifiers are systemd's to fill in.
fn accepts(words: &[String]) -> Result<(), Refusal> {
    let line = || iter::once("ctr").chain(words.iter().map(String::as_str));
    let complaint = match Cli::try_parse_from(line()) {
        Ok(cli) => return values(&cli),
        Err(complaint) => complaint,
    };
    let context = |kind| complaint.get(kind).map(ToString::to_string);
    let option =
        context(ContextKind::InvalidArg).and_then(|arg| Some(arg.split([' ', '=']).next()?.to_owned()));
    let verb = usage::verb(line().map(str::to_owned));
    let why = match (complaint.kind(), &option) {
        (ErrorKind::InvalidValue | ErrorKind::ValueValidation, _)
            if context(ContextKind::InvalidValue).is_some_and(|value| value.contains(['%', '$'])) =>
        {
            return Ok(());
        }
        (ErrorKind::UnknownArgument, Some(option)) => format!("`{verb}` has no option {option}"),
        (ErrorKind::InvalidSubcommand, _) => {
            let missing = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let group: Vec<&str> = line().take_while(|word| *word != missing).collect();
            format!("`{}` has no {missing}", group.join(" "))
        }
        _ => usage::shorten(&complaint.to_string(), &verb).0,
    };
    let value = context(ContextKind::InvalidValue);
    let word = option.map(|option| value.map_or(option.clone(), |value| format!("{option}={value}")));
    Err(Refusal { word, why })
}

/// The values that only `run` itself looks at, as far as nothing of the host is needed for it.
fn values(cli: &Cli) -> Result<(), Refusal> {
    let AnyVerb::OfContainers(ContainerVerb::Run(args)) = &cli.verb else { return Ok(()) };
    let check = |option: &str, values: &mut dyn Iterator<Item = &String>, parse: fn(&str) -> Result<()>| {
        values.filter(|text| !text.contains(['%', '$'])).try_for_each(|text| {
            let word = format!("{option}={text}");
            parse(text).map_err(|failure| Refusal { why: format!("{word}: {failure:#}"), word: Some(word) })
        })
    };
    check("--network", &mut args.network.iter(), |text| grammar::parse_network(text).map(drop))?;
    check("--security-opt", &mut args.security_opt.iter(), |text| {
        grammar::parse_security_option(text).map(drop)
    })?;
    check("--userns", &mut args.userns.iter(), |text| userns::parse(text).map(drop))?;
    check("--mount", &mut args.mount.iter(), |text| mount_option::parse(text).map(drop))?;
    check("--volume", &mut args.volume.iter(), |text| volume_option::parse(text).map(drop))?;
    check("--secret", &mut args.secret.iter(), |text| secrets::parse(text).map(drop))?;
    check("--ulimit", &mut args.ulimit.iter(), |text| limits::parse_ulimit(text).map(drop))?;
    check("--pull", &mut args.pull.iter(), |text| grammar::parse_pull_policy(text).map(drop))
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct ListArgs {
    /// Only those with KEY=REGEX: name, status, pod
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    format: Option<Format>,
    /// No line of headings
    #[arg(short, long)]
    noheading: bool,
}

/// A field, and what it has to match.
#[derive(Clone, Debug)]
struct Filter(&'static str, Regex);

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Filter> {
        let (key, pattern) = text.split_once('=').unwrap_or((text, ""));
        let known = [("name", "Name"), ("status", "Status"), ("pod", "Pod")];
        let Some((_, field)) = known.into_iter().find(|(known, _)| key == *known) else {
            bail!("a filter is written name=REGEX, status=REGEX or pod=REGEX");
        };
        Ok(Filter(field, Regex::new(pattern).map_err(|_| anyhow!("{pattern:?} is no regular expression"))?))
    }
}

const ROW: &str = r"{{.Name}}\t{{.UnitName}}\t{{.Path}}\t{{.Status}}\t{{.App}}\t{{.Pod}}";
const HEADINGS: &[(&str, &str)] =
    &[("UnitName", "UNIT NAME"), ("Path", "PATH ON DISK"), ("App", "APPLICATION")];

fn list(args: &ListArgs) -> Result<u8> {
    let user = is_user();
    let (sources, failures) = quadlet::load(&quadlet::search(user)?);
    failures.iter().for_each(super::warn);
    let apps = quadlet::Installed::at(quadlet::install_dir(user)?).apps();
    let services: Vec<String> = sources.iter().map(|source| source.service().unwrap_or_default()).collect();
    let statuses = statuses(user, &services);
    let rows = sources.iter().zip(&services).zip(statuses).map(|((source, service), status)| {
        json!({
            "Name": source.name,
            "UnitName": service,
            "Path": source.path.to_string_lossy(),
            "Status": status,
            "App": apps.get(&source.name).cloned().unwrap_or_default(),
            "Pod": if source.kind == Kind::Container { source.value("Pod").unwrap_or_default() } else { "" },
        })
    });
    // Of one key any, of all keys each.
    let passes = |row: &Value| {
        args.filter.iter().all(|Filter(field, _)| {
            let text = row[field].as_str().unwrap_or_default();
            args.filter.iter().any(|Filter(other, pattern)| other == field && pattern.is_match(text))
        })
    };
    let rows: Vec<Value> = rows.filter(passes).collect();
    let columns = Columns { row: ROW, headings: HEADINGS, noheading: args.noheading };
    args.format.clone().unwrap_or_default().print(&rows, &columns)?;
    Ok(0)
}

#[derive(clap::Args, Debug)]
pub struct PrintArgs {
    /// Names of Quadlet files
    #[arg(value_name = "QUADLET", required = true)]
    names: Vec<String>,
}

fn print(args: &PrintArgs) -> Result<u8> {
    let dirs = quadlet::search(is_user())?;
    Ok(each(&args.names, |name| {
        let mut paths = dirs.iter().map(|dir| dir.join(name)).filter(|path| path.is_file());
        let is_name = matches!(Kind::of(name), Ok(Some(_)));
        let path = paths.find(|_| is_name).with_context(|| format!("could not locate quadlet {name:?}"));
        output::print(
            &quadlet::read(&path.hint("`ctr quadlet list` shows which there are")?)?.unwrap_or_default(),
        )
    }))
}

/// Whose Quadlet files are meant: root's are the system's.
pub fn is_user() -> bool {
    !rustix::process::geteuid().is_root()
}
