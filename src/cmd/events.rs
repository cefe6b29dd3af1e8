//! `ctr events`: what happened, and what happens.

use super::{
    Globals,
    container_filter::moment,
    output,
    template::{Columns, Format},
};
use crate::{
    container::events::Event,
    monitor::{log_follow, log_line, log_reader::LogReader},
};
use anyhow::{Result, anyhow, bail};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::{
    fmt::Write,
    str::FromStr,
    time::{Duration, Instant},
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only those that fit: container, event, image, label or type, as KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// `json` or a Go template
    #[arg(long)]
    format: Option<Format>,
    /// Whole ids [default: true]
    #[arg(long, default_value = "true", hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    no_trunc: bool,
    /// From this moment on: 10m (ago), RFC 3339, a date or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Wait for more [default: true]
    #[arg(long, default_value = "true", hide_default_value = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    stream: bool,
    /// Up to this moment
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    until: Option<Timestamp>,
}

/// Print them.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let file = globals.store()?.events_file();
    // Before the first look: nothing happens in between unseen.
    let changes = log_follow::Changes::of(&file)?;
    let only_new = args.stream && args.since.is_none() && args.until.is_none();
    let mut reader = LogReader::open(file, log_line::Format::Docker, only_new.then_some(0))?;
    let due = args.until.map(|until| {
        let left = until.duration_since(Timestamp::now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    });
    loop {
        let over = !args.stream || due.is_some_and(|due| due <= Instant::now());
        while let Some(line) = reader.line()? {
            if let Ok(event) = serde_json::from_slice::<Event>(line)
                && fits(args, &event)
            {
                print(args, &event)?;
            }
        }
        if over {
            return Ok(0);
        }
        changes.wait(due)?;
    }
}

fn fits(args: &Args, event: &Event) -> bool {
    let time = i128::from(event.time_nano);
    // Of one key any value will do, of several keys all must.
    let fits = |key: Key| args.filter.iter().any(|filter| filter.key == key && filter.matches(event));
    args.since.is_none_or(|since| time > since.as_nanosecond())
        && args.until.is_none_or(|until| time < until.as_nanosecond())
        && args.filter.iter().all(|filter| fits(filter.key))
}

fn print(args: &Args, event: &Event) -> Result<()> {
    match args.format.clone().unwrap_or_default() {
        Format::Default => output::line(output::printable(&text(event, args.no_trunc))),
        Format::Json => output::line(json!(event)),
        format => format.print(&[fields(event)], &Columns { row: "", headings: &[], noheading: true }),
    }
}

/// As Podman words it.
fn text(event: &Event, whole: bool) -> String {
    let time = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
    let time = time.to_zoned(TimeZone::system());
    let time = time.strftime("%Y-%m-%d %H:%M:%S%.f %z %Z");
    let id = if whole { &event.id } else { event.id.get(..12).unwrap_or(&event.id) };
    let mut text = format!("{time} {} {} {id}", event.kind, event.status);
    if event.kind == "image" {
        let _ = write!(text, " {}", event.name);
        return text;
    }
    let _ = write!(text, " (image={}, name={}", event.image, event.name);
    if !event.health_status.is_empty() {
        let _ = write!(text, ", health_status={}", event.health_status);
    }
    for (key, value) in &event.attributes {
        let _ = write!(text, ", {key}={value}");
    }
    text + ")"
}

/// What templates see: every field, also of the kinds of event that lack it.
fn fields(event: &Event) -> Value {
    json!({
        "Attributes": event.attributes,
        "ContainerExitCode": event.container_exit_code,
        "Error": "",
        "HealthStatus": event.health_status,
        "ID": event.id,
        "Image": event.image,
        "Name": event.name,
        "Network": "",
        "PodID": "",
        "Status": event.status,
        "Time": event.time,
        "TimeNano": event.time_nano,
        "Type": event.kind,
    })
}

/// `--filter`.
#[derive(Clone, Debug)]
struct Filter {
    key: Key,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Container,
    Event,
    Image,
    Label,
    Type,
}

impl Filter {
    fn matches(&self, event: &Event) -> bool {
        let named = |kind: &str| {
            event.kind == kind && (event.name == self.value || event.id.starts_with(&self.value))
        };
        match self.key {
            Key::Container => named("container"),
            Key::Event => event.status == self.value,
            Key::Image => named("image"),
            Key::Label => {
                let (key, value) =
                    self.value.split_once('=').map_or((&*self.value, None), |(k, v)| (k, Some(v)));
                event.attributes.get(key).is_some_and(|have| value.is_none_or(|value| have == value))
            }
            Key::Type => event.kind == self.value,
        }
    }
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("a filter is written KEY=VALUE"))?;
        let key = match key.to_ascii_lowercase().as_str() {
            "container" => Key::Container,
            "event" | "status" => Key::Event,
            "image" => Key::Image,
            "label" => Key::Label,
            "type" => Key::Type,
            _ => bail!("the filter {key:?} is not built: container, event, image, label and type are"),
        };
        // Docker's word.
        let value = if (key, value) == (Key::Event, "die") { "died" } else { value };
        Ok(Filter { key, value: value.to_owned() })
    }
}
