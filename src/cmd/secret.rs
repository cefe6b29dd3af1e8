//! `ctr secret`: small files that containers may read and nothing else tells (podman-secret(1)).

use super::{
    Globals, each, output,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
};
use crate::{
    error::Explain,
    storage::{SECRET_LIMIT, Secret, Store},
};
use anyhow::{Context, Result, anyhow, bail};
use regex::Regex;
use serde_json::{Value, json};
use std::{
    env,
    fs::File,
    io::{Read, stdin},
    os::unix::ffi::OsStringExt,
    str::FromStr,
};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct CreateArgs {
    /// How it is kept: file is the only way
    #[arg(short, long, value_name = "DRIVER", default_value = "file")]
    driver: String,
    /// FILE is the name of a variable that holds the secret
    #[arg(long)]
    env: bool,
    /// Attach a label to the secret
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Take the place of a secret that has the name
    #[arg(long)]
    replace: bool,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// What is secret; `-`: standard input
    #[arg(value_name = "FILE")]
    source: String,
}

/// Keep one and print its id.
pub fn create(args: &CreateArgs, globals: &Globals) -> Result<u8> {
    if args.driver != "file" {
        return Err(anyhow!("--driver {}: there is no such secret driver", args.driver))
            .hint("--driver file");
    }
    let name = args.name.parse().context("secret create").hint("ctr secret create NAME FILE")?;
    let mut labels = std::collections::BTreeMap::new();
    for text in &args.label {
        let (key, value) = crate::container::grammar::parse_label(text)
            .with_context(|| format!("--label {text}"))
            .hint("--label team=web")?;
        labels.insert(key, value);
    }
    let mut secret = Secret::new(name, &data(args)?, labels)?;
    let store = globals.store()?;
    if let (true, Some(old)) = (args.replace, store.secret(&secret.name)?) {
        secret.created = old.created;
    }
    store.create_secret(&secret, args.replace)?;
    output::line(&secret.id)?;
    Ok(0)
}

/// One byte more than a secret may have at most.
fn data(args: &CreateArgs) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    let mut read = |from: &mut dyn Read| from.take(SECRET_LIMIT as u64 + 1).read_to_end(&mut data);
    match args.source.as_str() {
        variable if args.env => {
            return env::var_os(variable)
                .map(OsStringExt::into_vec)
                .ok_or_else(|| {
                    anyhow!("cannot create store secret data: environment variable {variable} is not set")
                })
                .hint(format!("{variable}=… ctr secret create --env {} {variable}", args.name));
        }
        "-" => read(&mut stdin().lock()).context("read the secret from standard input")?,
        path => File::open(path)
            .and_then(|mut file| read(&mut file))
            .with_context(|| format!("read the secret from {path}"))
            .hint("name a file that you may read, or - for standard input")?,
    };
    Ok(data)
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct LsArgs {
    /// Only those with KEY=VALUE: name, id
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// `json`, a Go template, or `table` and a template
    #[arg(long)]
    format: Option<Format>,
    /// No line of headings
    #[arg(short, long)]
    noheading: bool,
    /// Nothing but ids
    #[arg(short, long)]
    quiet: bool,
}

/// `name=REGEX` or `id=START`.
#[derive(Clone, Debug)]
enum Filter {
    Name(Regex),
    Id(String),
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Filter> {
        match text.split_once('=') {
            Some(("name", pattern)) => Ok(Filter::Name(
                Regex::new(pattern).map_err(|_| anyhow!("{pattern:?} is no regular expression"))?,
            )),
            Some(("id", start)) => Ok(Filter::Id(start.to_owned())),
            _ => bail!("a filter is written name=REGEX or id=START"),
        }
    }
}

const ROW: &str = r"{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";
const HEADINGS: &[(&str, &str)] = &[("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED")];

/// Print the list.
pub fn ls(args: &LsArgs, globals: &Globals) -> Result<u8> {
    let mut secrets = globals.store()?.secrets()?;
    secrets.retain(|secret| {
        args.filter.is_empty()
            || args.filter.iter().any(|filter| match filter {
                Filter::Name(pattern) => pattern.is_match(secret.name.as_str()),
                Filter::Id(start) => secret.id.starts_with(start),
            })
    });
    if args.quiet && args.format.is_none() {
        output::print(&secrets.iter().map(|secret| format!("{}\n", secret.id)).collect::<String>())?;
        return Ok(0);
    }
    let ago = |then| format!("{} ago", output::since(then));
    let row = |secret: &Secret| {
        json!({
            "ID": secret.id,
            "Name": secret.name,
            "Driver": "file",
            "CreatedAt": ago(secret.created),
            "UpdatedAt": ago(secret.updated),
        })
    };
    let rows: Vec<Value> = secrets.iter().map(row).collect();
    let columns = Columns { row: ROW, headings: HEADINGS, noheading: args.noheading };
    args.format.clone().unwrap_or_default().print(&rows, &columns)?;
    Ok(0)
}

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct InspectArgs {
    /// `json` or a Go template
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// For people
    #[arg(long)]
    pretty: bool,
    /// Show what is secret, too
    #[arg(long)]
    showsecret: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "SECRET", required = true)]
    secrets: Vec<String>,
}

/// Print an array of what there is.
pub fn inspect(args: &InspectArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let mut found = Vec::new();
    let mut pretty = String::new();
    let status = each(&args.secrets, |given| {
        let secret = store.find_secret(given)?;
        pretty += &format!(
            "ID:              {}\nName:              {}\nDriver:            file\nCreated at:        {}\nUpdated at:        {}\n",
            secret.id, secret.name, secret.created, secret.updated
        );
        let mut value = value(&store, &secret);
        if args.showsecret {
            let data = secret.data()?;
            value["SecretData"] = String::from_utf8_lossy(&data).into();
        }
        found.push(value);
        Ok(())
    });
    if args.pretty {
        output::print(&pretty)?;
        return Ok(status);
    }
    let format = if matches!(args.format, Format::Default) { &Format::Json } else { &args.format };
    format.print(&found, &Columns { row: "", headings: &[], noheading: false })?;
    Ok(status)
}

fn value(store: &Store, secret: &Secret) -> Value {
    json!({
        "ID": secret.id,
        "CreatedAt": secret.created,
        "UpdatedAt": secret.updated,
        "Spec": {
            "Name": secret.name,
            "Driver": {"Name": "file", "Options": {"path": store.dirs().data.join("secrets")}},
            "Labels": secret.labels,
        },
    })
}

#[derive(clap::Args, Debug)]
pub struct RmArgs {
    /// All secrets
    #[arg(short, long)]
    all: bool,
    /// Don't complain about secrets that don't exist
    #[arg(short, long)]
    ignore: bool,
    /// Name, id or the beginning of an id
    #[arg(value_name = "SECRET", required_unless_present = "all", conflicts_with = "all")]
    secrets: Vec<String>,
}

/// Remove them and print their ids. Containers keep what they have.
pub fn remove(args: &RmArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let all = if args.all { store.secrets()? } else { Vec::new() };
    let names = all.into_iter().map(|secret| secret.name.to_string()).chain(args.secrets.clone());
    Ok(each(names, |given| {
        let secret = match store.find_secret(&given) {
            Err(_) if args.ignore => return Ok(()),
            found => found?,
        };
        store.remove_secret(&secret.name)?;
        output::line(&secret.id)
    }))
}

#[derive(clap::Args, Debug)]
pub struct ExistsArgs {
    /// Name, id or the beginning of an id
    #[arg(value_name = "SECRET")]
    secret: String,
}

/// Status 0 or 1.
pub fn exists(args: &ExistsArgs, globals: &Globals) -> Result<u8> {
    Ok(u8::from(globals.store()?.find_secret(&args.secret).is_err()))
}
