//! `ctr pull`: images from registries into the store.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints image ids, and the reason of a fallback"
)]

use super::{Globals, progress};
use crate::{
    container::events,
    error::Explain,
    namespaces::{Mapping, run_inside},
    registry::{self, Progress, PullOptions, PullPolicy},
    storage::{Image, Store},
};
use anyhow::{Result, anyhow};
use std::path::PathBuf;

/// Pull images from registries
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Show nothing but the image ids
    #[arg(short, long)]
    quiet: bool,
    /// The variant to pull, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["os", "arch"])]
    platform: Option<String>,
    /// The architecture to pull, in place of this machine's
    #[arg(long)]
    arch: Option<String>,
    /// The operating system to pull, in place of linux
    #[arg(long)]
    os: Option<String>,
    /// Whether registries must prove who they are
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    tls_verify: Option<bool>,
    /// Directory of certificates, in place of certs.d
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Credentials for the registry; better kept in a file
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<String>,
    /// File with credentials
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// When to pull: always, missing, never or newer
    #[arg(long, value_name = "POLICY", default_value = "always")]
    policy: PullPolicy,
    /// What to pull
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Pull each image and print its id.
pub fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let options = options(args)?;
    let store = globals.store()?;
    // Here: the caller's own process, no thread yet. Inside: root of the user namespace that owns the layers' files, with
    // the caller's network; tokio and all threads live and end there.
    run_inside(&Mapping::detect(), || {
        let pulled = all(&store, args, &options);
        // Whole layers of an image that failed, and what an interrupted pull left.
        let collected = store.collect_garbage();
        pulled.and(collected.map(drop))
    })?;
    Ok(0)
}

fn all(store: &Store, args: &Args, options: &PullOptions) -> Result<()> {
    let progress = progress::choose(args.quiet);
    for name in &args.images {
        let image = one(store, name, args.policy, options, progress.as_ref())?;
        events::image(store, "pull", &image.reference, &image.config);
        println!("{}", image.config.hex());
    }
    Ok(())
}

fn one(
    store: &Store,
    name: &str,
    policy: PullPolicy,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    if policy == PullPolicy::Always {
        return registry::pull(store, name, options, progress);
    }
    let here = registry::find(store, store.dirs(), name)?;
    match (policy, here) {
        (PullPolicy::Missing | PullPolicy::Never, Some(image)) => Ok(image),
        (PullPolicy::Never, None) => {
            Err(anyhow!("image {name:?} is not in the store")).hint(format!("ctr pull {name}"))
        }
        (PullPolicy::Newer, Some(image)) => registry::pull(store, name, options, progress).or_else(|error| {
            eprintln!("warning: what is in the store is used: {error:#}");
            Ok(image)
        }),
        _ => registry::pull(store, name, options, progress),
    }
}

fn options(args: &Args) -> Result<PullOptions> {
    let platform = match (&args.platform, &args.os, &args.arch) {
        (Some(platform), ..) => Some(platform.clone()),
        (None, None, None) => None,
        (None, os, arch) => {
            let arch = arch.as_deref().unwrap_or(std::env::consts::ARCH);
            Some(format!("{}/{arch}", os.as_deref().unwrap_or("linux")))
        }
    };
    let credentials = match args.creds.as_deref().map(|text| text.split_once(':')) {
        None => None,
        Some(Some((user, password))) => Some((user.to_owned(), password.to_owned())),
        Some(None) => {
            return Err(anyhow!("--creds has no password, and asking for it is not built yet"))
                .hint("--creds USER:PASSWORD, or put credentials into ~/.config/containers/auth.json");
        }
    };
    Ok(PullOptions {
        platform,
        tls_verify: args.tls_verify,
        cert_dir: args.cert_dir.clone(),
        credentials,
        auth_file: args.authfile.clone(),
    })
}
