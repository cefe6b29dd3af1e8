//! `ctr logs`: what containers have printed, and what they print.

use super::{Globals, container_filter::moment, targets};
use crate::{
    container::{record::LogDriver, state::Container},
    error::Explain,
    monitor::{
        journal_reader::JournalReader,
        log,
        log_follow::{self, Follow},
        log_line::{Entry, Format, Kind},
        log_reader::LogReader,
    },
};
use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use std::{
    io::{BufWriter, Stderr, Stdout, Write, stderr, stdout},
    path::PathBuf,
    time::Instant,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// The newest container
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    containers: Vec<String>,
}

// No doc: a verb that flattens it would show it as its own help. How logs are shown, of containers and of pods.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Each container in a colour of its own
    #[arg(long)]
    color: bool,
    /// Taken for Docker's sake: there are no more details
    #[arg(long, hide = true)]
    details: bool,
    /// Go on with what they print, until they end
    #[arg(short, long)]
    follow: bool,
    /// With several containers, name them in place of their ids
    #[arg(short, long)]
    names: bool,
    /// Only what was printed after this moment: 10m (ago), RFC 3339, a date or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Only so many of the last lines; negative for all
    #[arg(long, value_name = "LINES", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    tail: i64,
    /// The time in front of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only what was printed before this moment
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    until: Option<Timestamp>,
}

/// Print them, merged by time.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let names = args.containers.iter().map(Some).chain(args.latest.then_some(None));
    let containers: Vec<Container> =
        names.map(|name| targets::one(&store, name, args.latest)).collect::<Result<_>>()?;
    print(&args.options, &containers)
}

/// Those of `containers`, merged by time, as `args` want it.
pub fn print(args: &Options, containers: &[Container]) -> Result<u8> {
    let mut sources: Vec<Source> =
        containers.iter().map(|container| Source::open(container, args)).collect::<Result<_>>()?;
    let mut printer = Printer::new(args, containers);
    let due = args.until.map(|until| {
        let left = until.duration_since(Timestamp::now());
        Instant::now() + std::time::Duration::try_from(left).unwrap_or_default()
    });
    let mut follows = Vec::new();
    if args.follow {
        let follow = |(container, source): (&Container, &Source)| {
            Follow::begin(container.dir.clone(), source.path.as_deref())
        };
        follows = containers.iter().zip(&sources).map(follow).collect::<Result<_>>()?;
    }
    let mut due = due;
    let mut finishes = false;
    loop {
        // Asked before the rest is read: what was printed last is in the log by then.
        let ended = follows.iter().all(Follow::has_ended);
        if ended && args.follow && !finishes {
            finishes = true;
            sources.iter_mut().for_each(Source::finish);
            let last = Instant::now() + PATIENCE;
            due = Some(due.map_or(last, |due| due.min(last)));
        }
        drain(&mut sources, &mut printer)?;
        let waits = args.follow && sources.iter().any(|source| source.journal().is_some());
        if (ended && !waits) || due.is_some_and(|due| due <= Instant::now()) {
            break;
        }
        let journals: Vec<_> = sources.iter().filter_map(Source::journal).collect();
        log_follow::wait(&mut follows, &journals, due)?;
    }
    for (at, (source, container)) in sources.iter_mut().zip(containers).enumerate() {
        if !container.dir.is_alive().unwrap_or(true) && source.rest() {
            printer.print(at, &source.entry)?;
        }
    }
    printer.flush()?;
    Ok(0)
}

/// Print what there is, the oldest first; a line that has begun is brought to its end.
fn drain(sources: &mut [Source], printer: &mut Printer) -> Result<()> {
    let mut last = None;
    loop {
        for source in &mut *sources {
            source.fetch()?;
        }
        let going_on = last.filter(|at: &usize| sources[*at].ready && printer.has_begun(*at));
        let alone = (sources.len() == 1).then_some(0);
        let ready = (0..sources.len()).filter(|at| sources[*at].ready);
        let next = match going_on.or(alone) {
            Some(at) => Some(at).filter(|at| sources[*at].ready),
            None => ready.min_by_key(|at| sources[*at].entry.time()),
        };
        let Some(at) = next else { return printer.flush() };
        printer.print(at, &sources[at].entry)?;
        sources[at].ready = false;
        last = Some(at);
    }
}

/// Longer than that journald is not waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The log of one container.
struct Source {
    feed: Feed,
    path: Option<PathBuf>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    entry: Entry,
    /// `entry` has not been printed yet.
    ready: bool,
}

enum Feed {
    File(LogReader),
    Journal(JournalReader),
}

impl Source {
    fn open(container: &Container, args: &Options) -> Result<Source> {
        let Container { dir, record, .. } = container;
        let path = log::path(dir, &record.log);
        let tail = u64::try_from(args.tail).ok();
        let file = |format| LogReader::open(path.clone(), format, tail).map(Feed::File);
        let nothing = |driver: &str| {
            Err(anyhow!(
                "container {} is using the {driver:?} log driver: its output is not kept",
                record.name
            ))
            .hint("run it with --log-driver=k8s-file")
        };
        let feed = match record.log.driver {
            LogDriver::K8sFile => file(Format::Kubernetes)?,
            LogDriver::JsonFile => file(Format::Docker)?,
            LogDriver::Journald => Feed::Journal(JournalReader::open(&record.id, args.follow, tail)?),
            LogDriver::None => return nothing("none"),
            LogDriver::Passthrough => return nothing("passthrough"),
        };
        let path = matches!(feed, Feed::File(_)).then_some(path);
        Ok(Source { feed, path, since: args.since, until: args.until, entry: Entry::default(), ready: false })
    }

    /// Its container has ended.
    fn finish(&mut self) {
        if let Feed::Journal(reader) = &mut self.feed {
            reader.finish();
        }
    }

    fn journal(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match &self.feed {
            Feed::File(_) => None,
            Feed::Journal(reader) => reader.fd(),
        }
    }

    /// The next entry that is asked for, if there is one.
    fn fetch(&mut self) -> Result<()> {
        while !self.ready {
            let more = match &mut self.feed {
                Feed::File(reader) => reader.next(&mut self.entry)?,
                Feed::Journal(reader) => reader.next(&mut self.entry)?,
            };
            if !more {
                return Ok(());
            }
            self.ready = self.fits();
        }
        Ok(())
    }

    fn fits(&self) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let time = self.entry.time();
        time.is_some_and(|time| {
            self.since.is_none_or(|since| time > since) && self.until.is_none_or(|until| time < until)
        })
    }

    fn rest(&mut self) -> bool {
        match &mut self.feed {
            Feed::File(reader) => reader.rest(&mut self.entry) && self.fits(),
            Feed::Journal(_) => false,
        }
    }
}

/// stdout and stderr, each as it was.
struct Printer {
    stdout: BufWriter<Stdout>,
    stderr: BufWriter<Stderr>,
    /// What stands in front of the lines of each container.
    heads: Vec<String>,
    color: bool,
    timestamps: bool,
    /// Whose line is not complete, on stdout and on stderr.
    begun: [Option<usize>; 2],
    last: Kind,
}

impl Printer {
    fn new(args: &Options, containers: &[Container]) -> Printer {
        // As Podman's.
        const COLORS: [u8; 7] = [37, 31, 33, 34, 35, 36, 32];
        let head = |(at, container): (usize, &Container)| {
            let color =
                if args.color { format!("\x1b[{}m", COLORS[at % COLORS.len()]) } else { String::new() };
            match containers.len() {
                ..2 => color,
                _ if args.names => format!("{color}{} ", container.record.name),
                _ => format!("{color}{} ", container.record.id.short()),
            }
        };
        Printer {
            stdout: BufWriter::with_capacity(64 << 10, stdout()),
            stderr: BufWriter::with_capacity(8 << 10, stderr()),
            heads: containers.iter().enumerate().map(head).collect(),
            color: args.color,
            timestamps: args.timestamps,
            begun: [None; 2],
            last: Kind::Stdout,
        }
    }

    fn has_begun(&self, at: usize) -> bool {
        self.begun.contains(&Some(at))
    }

    fn print(&mut self, at: usize, entry: &Entry) -> Result<()> {
        if self.last != entry.kind {
            self.flush()?;
            self.last = entry.kind;
        }
        let out: &mut dyn Write = match entry.kind {
            Kind::Stdout => &mut self.stdout,
            Kind::Stderr => &mut self.stderr,
        };
        let begun = &mut self.begun[entry.kind as usize];
        let mut print = || -> std::io::Result<()> {
            if *begun != Some(at) {
                // Another's line that has no end yet.
                out.write_all(if begun.is_some() { b"\n" } else { b"" })?;
                out.write_all(self.heads[at].as_bytes())?;
                if self.timestamps {
                    let stamp = entry.stamp.strip_suffix("+00:00");
                    match stamp {
                        Some(stamp) => write!(out, "{stamp}Z ")?,
                        None => write!(out, "{} ", entry.stamp)?,
                    }
                }
            }
            out.write_all(&entry.text)?;
            if entry.whole && self.color {
                out.write_all(b"\x1b[0m")?;
            }
            out.write_all(if entry.whole { b"\n" } else { b"" })
        };
        print().context("write the log to standard output")?;
        *begun = (!entry.whole).then_some(at);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.stdout.flush().and_then(|()| self.stderr.flush()).context("write the log to standard output")
    }
}
