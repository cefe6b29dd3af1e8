//! `ctr pull`: images from registries into the store.
#![expect(clippy::print_stderr, reason = "prints the reason of a fallback")]

use super::{
    Globals, interrupt::Interrupt, output, progress, push::pause, registry_args::RegistryArgs, report,
    run_args::takes_a_truth_value,
};
use crate::{
    container::events,
    error::{Explain, already_reported},
    namespaces::Mapping,
    registry::{Interrupted, Platform, PullOptions, PullPolicy, Puller, Retry},
    storage::{Image, Store},
};
use anyhow::{Result, anyhow};
use std::time::Duration;

/// Pull images from registries
#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct Args {
    /// Show nothing but the image ids
    #[arg(short, long)]
    quiet: bool,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The platform to pull, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["os", "arch", "variant"])]
    platform: Option<String>,
    /// The architecture to pull, in place of this machine's
    #[arg(long)]
    arch: Option<String>,
    /// The operating system to pull, in place of linux
    #[arg(long)]
    os: Option<String>,
    /// The variant of the architecture to pull, such as v7
    #[arg(long)]
    variant: Option<String>,
    /// How often to try again after a failure that may pass
    #[arg(long, value_name = "COUNT", default_value_t = Retry::default().count, hide_default_value = true)]
    retry: u32,
    /// The pause before each time, in place of 1s, 2s, 4s …
    #[arg(long, value_name = "TIME", value_parser = pause)]
    retry_delay: Option<Duration>,
    /// Accepted, as in Docker
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    #[command(flatten)]
    registry: RegistryArgs,
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
    let interrupt = Interrupt::hold()?;
    // Here: the caller's own process, no thread yet. Inside: root of the user namespace that owns the layers' files, with
    // the caller's network; tokio and all threads live and end there.
    interrupt.run_inside(&Mapping::detect(), |interrupt| {
        let progress = progress::choose(args.quiet);
        let puller = Puller::new(&store, &options, progress.as_ref(), Some(interrupt))?;
        let pulled = all(&store, args, &puller);
        // Whole layers of an image that failed, and what a pull that was killed has left.
        let collected = store.collect_garbage_but(&puller.wanted_again());
        pulled.and(collected.map(drop))
    })?;
    Ok(0)
}

/// One that fails doesn't keep the others from being pulled.
fn all(store: &Store, args: &Args, puller: &Puller<'_>) -> Result<()> {
    let mut outcome = Ok(());
    let mut heed = |pulled: Result<()>| match pulled {
        Err(failure) if failure.is::<Interrupted>() => Err(failure),
        Err(failure) => {
            report(&failure);
            outcome = Err(already_reported());
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    let pull = |name: &str| -> Result<()> {
        let image = one(puller, name, args.policy)?;
        events::image(store, "pull", &image.reference, &image.config);
        output::line(image.config.hex())
    };
    for name in &args.images {
        if !args.all_tags {
            heed(pull(name))?;
            continue;
        }
        let mut tagged = Vec::new();
        heed(puller.tagged(name).map(|found| tagged = found))?;
        for reference in tagged {
            heed(pull(&reference.to_string()))?;
        }
    }
    outcome
}

fn one(puller: &Puller<'_>, name: &str, policy: PullPolicy) -> Result<Image> {
    if policy == PullPolicy::Always {
        return puller.pull(name);
    }
    match (policy, puller.here(name)?) {
        (PullPolicy::Missing | PullPolicy::Never, Some(image)) => Ok(image),
        (PullPolicy::Never, None) => {
            Err(anyhow!("image {name:?} is not in the store")).hint(format!("ctr pull {name}"))
        }
        (PullPolicy::Newer, Some(image)) => puller.pull(name).or_else(|failure| {
            if failure.is::<Interrupted>() {
                return Err(failure);
            }
            eprintln!("warning: what is in the store is used: {failure:#}");
            Ok(image)
        }),
        _ => puller.pull(name),
    }
}

fn options(args: &Args) -> Result<PullOptions> {
    let Args { platform, os, arch, variant, .. } = args;
    let parts = [os, arch, variant].map(Option::as_deref);
    let platform = match (platform, parts) {
        (Some(platform), _) => Some(platform.clone()),
        (None, [None, None, None]) => None,
        (None, [os, arch, variant]) => Some(Platform::like_host(os, arch, variant).to_string()),
    };
    let retry = Retry { count: args.retry, delay: args.retry_delay };
    Ok(PullOptions { platform, retry, ..args.registry.options()? })
}
