//! The tree of verbs, and which function each one is.

use super::{network_verbs::NetworkVerb, pod_verbs::PodVerb, *};
use crate::sys;
use clap::Subcommand;

// `defer`: only the verb that is asked for builds its options; the lines here are what `ctr --help` shows of the others.
#[derive(Subcommand)]
#[command(defer = true)]
pub enum Verb {
    #[command(flatten)]
    OfContainers(ContainerVerb),
    /// Fetch images from a registry
    Pull(pull::Args),
    /// Send an image to a registry
    Push(push::Args),
    /// Log in to a registry
    Login(login::Args),
    /// Log out of a registry
    Logout(login::LogoutArgs),
    /// Search registries for images
    Search(search::Args),
    /// List images
    Images(images::Args),
    /// Write images to an archive or a directory
    Save(save::Args),
    /// Read images from an archive or a directory
    Load(load::Args),
    /// Make an image of a root file system's archive
    Import(import::Args),
    /// List containers
    Ps(ps::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// Give an image more names
    Tag(tag::TagArgs),
    /// Take names away from an image
    Untag(tag::UntagArgs),
    /// Show the steps that made an image
    History(history::Args),
    /// Show all about containers and images as JSON
    Inspect(inspect::Args),
    /// Show what happens to containers and images
    Events(events::Args),
    /// Show how this host runs containers
    Info(info::Args),
    /// Show how well containers can run here, and what would make it better
    Doctor(doctor::Args),
    /// Show the version
    Version(version::Args),
    /// Check the health of containers
    Healthcheck(Group<HealthcheckVerb>),
    /// Manage lists of images for several platforms
    Manifest(Group<manifest::Verb>),
    /// Manage images
    Image(Group<ImageVerb>),
    /// Manage the store as a whole
    System(Group<system::SystemVerb>),
    /// Manage containers
    Container(Group<ContainerGroup>),
    /// Manage networks
    Network(Group<NetworkVerb>),
    /// Manage pods: containers with namespaces in common
    Pod(Group<PodVerb>),
    /// Manage volumes
    Volume(Group<VolumeVerb>),
    /// Manage secrets
    Secret(Group<SecretVerb>),
    /// Have systemd run containers, volumes, images … that files describe
    Quadlet(Group<quadlet::Verb>),
}

// What `ctr` and `ctr container` share.
#[derive(Subcommand)]
#[command(defer = true)]
pub enum ContainerVerb {
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Make a container without starting it
    Create(Box<run::Args>),
    /// Start containers
    Start(start::Args),
    /// Stop containers: their stop signal, then SIGKILL
    Stop(stop::Args),
    /// Stop and start containers
    Restart(stop::RestartArgs),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Stop all processes of containers
    Pause(targets::Selection),
    /// Let paused containers go on
    Unpause(targets::Selection),
    /// List the processes of a container
    Top(top::Args),
    /// Send containers a signal
    Kill(kill::Args),
    /// Wait until containers end
    Wait(wait::Args),
    /// Attach to a running container
    Attach(attach::Args),
    /// Show what containers have printed
    Logs(logs::Args),
    /// Set containers up so that `start` only lets them go
    Init(targets::Choice),
    /// Give a container another name
    Rename(rename::Args),
    /// Change a container's restart policy and health checks
    Update(Box<update::Args>),
    /// List a container's published ports
    Port(port::Args),
    /// Show what containers use
    Stats(stats::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Copy files between a container and the host
    Cp(cp::Args),
    /// Show what a container has changed in its files, or an image
    Diff(diff::Args),
    /// Make an image of what a container has changed
    Commit(commit::Args),
    /// Write a container's files as a tar archive
    Export(export::Args),
    /// Mount a container's files, as root
    Mount(mount::MountArgs),
    /// Unmount them
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum ContainerGroup {
    #[command(flatten)]
    Shared(ContainerVerb),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Remove all containers that don't run
    Prune(rm::PruneArgs),
    /// Show all about them as JSON
    Inspect(inspect::Args),
    /// Whether there is such a container: status 0 or 1
    Exists(port::ExistsArgs),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum ImageVerb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Fetch images from a registry
    Pull(pull::Args),
    /// Send an image to a registry
    Push(push::Args),
    /// Search registries for images
    Search(search::Args),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Write images to an archive or a directory
    Save(save::Args),
    /// Read images from an archive or a directory
    Load(load::Args),
    /// Make an image of a root file system's archive
    Import(import::Args),
    /// Show all about them as JSON
    Inspect(inspect::Args),
    /// Give an image more names
    Tag(tag::TagArgs),
    /// Take names away from an image
    Untag(tag::UntagArgs),
    /// Show the steps that made an image
    History(history::Args),
    /// Whether there is such an image: status 0 or 1
    Exists(tag::ExistsArgs),
    /// Remove images that serve nobody
    Prune(image_prune::Args),
    /// Show the layers of an image
    Tree(tree::Args),
    /// Show how images differ
    Diff(image_diff::Args),
    /// Mount an image's files, as root
    Mount(image_mount::MountArgs),
    /// Unmount them
    #[command(visible_alias = "umount")]
    Unmount(image_mount::UnmountArgs),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum VolumeVerb {
    /// Make a volume
    Create(volume::CreateArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(volume::LsArgs),
    /// Show all about them as JSON
    Inspect(volume::InspectArgs),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(volume::RmArgs),
    /// Remove all that no container uses
    Prune(volume::PruneArgs),
    /// Whether there is such a volume: status 0 or 1
    Exists(volume::OneArgs),
    /// Write what is in a volume as a tar archive
    Export(volume::ExportArgs),
    /// Put what is in a tar archive into a volume
    Import(volume::ImportArgs),
    /// Show where volumes are, mounted if they have to be
    Mount(volume::SomeArgs),
    /// Unmount them
    #[command(visible_alias = "umount")]
    Unmount(volume::SomeArgs),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum SecretVerb {
    /// Keep a secret
    Create(secret::CreateArgs),
    /// List secrets
    #[command(visible_alias = "list")]
    Ls(secret::LsArgs),
    /// Show all about them but what is secret
    Inspect(secret::InspectArgs),
    /// Remove secrets
    Rm(secret::RmArgs),
    /// Whether there is such a secret: status 0 or 1
    Exists(secret::ExistsArgs),
}

#[derive(Subcommand)]
#[command(defer = true)]
pub enum HealthcheckVerb {
    /// Run a container's health check now
    Run(healthcheck::Args),
}

#[derive(clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Group<V: Subcommand> {
    #[command(subcommand)]
    pub verb: V,
}

impl Verb {
    /// Do it; the exit status.
    pub fn run(self, globals: &Globals, early: Option<run::Early>) -> Result<u8> {
        use {ContainerGroup as C, ContainerVerb as V, ImageVerb as I, inspect::Kind};
        // All but these end like any program when nobody reads what they print: `run` and `start` pass SIGPIPE on to their
        // container, `cp` and `commit` hear from the other end of their pipe why that is gone.
        if !matches!(
            self,
            Verb::OfContainers(V::Run(_) | V::Start(_) | V::Exec(_) | V::Cp(_) | V::Commit(_) | V::Attach(_))
                | Verb::Container(Group {
                    verb: C::Shared(
                        V::Run(_) | V::Start(_) | V::Exec(_) | V::Cp(_) | V::Commit(_) | V::Attach(_)
                    )
                })
        ) {
            sys::signal::die_on_broken_pipe();
        }
        match self {
            Verb::OfContainers(verb) | Verb::Container(Group { verb: C::Shared(verb) }) => {
                verb.run(globals, early)
            }
            Verb::Pull(args) | Verb::Image(Group { verb: I::Pull(args) }) => pull::run(&args, globals),
            Verb::Push(args) | Verb::Image(Group { verb: I::Push(args) }) => push::run(&args, globals),
            Verb::Search(args) | Verb::Image(Group { verb: I::Search(args) }) => search::run(&args, globals),
            Verb::Manifest(group) => manifest::run(group, globals),
            Verb::Login(args) => login::run(&args, globals),
            Verb::Logout(args) => login::logout(&args, globals),
            Verb::Images(args) | Verb::Image(Group { verb: I::Ls(args) }) => images::run(&args, globals),
            Verb::Save(args) | Verb::Image(Group { verb: I::Save(args) }) => save::run(&args, globals),
            Verb::Load(args) | Verb::Image(Group { verb: I::Load(args) }) => load::run(&args, globals),
            Verb::Import(args) | Verb::Image(Group { verb: I::Import(args) }) => import::run(&args, globals),
            Verb::Ps(args) | Verb::Container(Group { verb: C::Ls(args) }) => ps::run(&args, globals),
            Verb::Rmi(args) | Verb::Image(Group { verb: I::Rm(args) }) => rmi::run(&args, globals),
            Verb::Tag(args) | Verb::Image(Group { verb: I::Tag(args) }) => tag::tag(&args, globals),
            Verb::Untag(args) | Verb::Image(Group { verb: I::Untag(args) }) => tag::untag(&args, globals),
            Verb::History(args) | Verb::Image(Group { verb: I::History(args) }) => {
                history::run(&args, globals)
            }
            Verb::Image(Group { verb: I::Exists(args) }) => tag::exists(&args, globals),
            Verb::Image(Group { verb: I::Prune(args) }) => image_prune::run(&args, globals),
            Verb::Image(Group { verb: I::Tree(args) }) => tree::run(&args, globals),
            Verb::Image(Group { verb: I::Diff(args) }) => image_diff::run(&args, globals),
            Verb::Image(Group { verb: I::Mount(args) }) => image_mount::mount(&args, globals),
            Verb::Image(Group { verb: I::Unmount(args) }) => image_mount::unmount(&args, globals),
            Verb::System(Group { verb }) => verb.run(globals),
            Verb::Inspect(args) => inspect::run(&args, globals),
            Verb::Image(Group { verb: I::Inspect(args) }) => inspect::run(&args.only(Kind::Image), globals),
            Verb::Container(Group { verb: C::Inspect(args) }) => {
                inspect::run(&args.only(Kind::Container), globals)
            }
            Verb::Container(Group { verb: C::Prune(args) }) => rm::prune(&args, globals),
            Verb::Container(Group { verb: C::Exists(args) }) => port::exists(&args, globals),
            Verb::Events(args) => events::run(&args, globals),
            Verb::Healthcheck(Group { verb: HealthcheckVerb::Run(args) }) => healthcheck::run(&args, globals),
            Verb::Network(Group { verb }) => verb.run(globals),
            Verb::Pod(Group { verb }) => verb.run(globals),
            Verb::Volume(Group { verb }) => verb.run(globals),
            Verb::Secret(Group { verb }) => verb.run(globals),
            Verb::Quadlet(group) => quadlet::run(group, globals),
            Verb::Info(args) => info::run(&args, globals),
            Verb::Doctor(args) => doctor::run(&args, globals),
            Verb::Version(args) => version::run(&args),
        }
    }
}

impl VolumeVerb {
    fn run(self, globals: &Globals) -> Result<u8> {
        match self {
            VolumeVerb::Create(args) => volume::create(&args, globals),
            VolumeVerb::Ls(args) => volume::ls(&args, globals),
            VolumeVerb::Inspect(args) => volume::inspect(&args, globals),
            VolumeVerb::Rm(args) => volume::remove(&args, globals),
            VolumeVerb::Prune(args) => volume::prune(&args, globals),
            VolumeVerb::Exists(args) => volume::exists(&args, globals),
            VolumeVerb::Export(args) => volume::export(&args, globals),
            VolumeVerb::Import(args) => volume::import(&args, globals),
            VolumeVerb::Mount(args) => volume::mount(&args, globals),
            VolumeVerb::Unmount(args) => volume::unmount(&args, globals),
        }
    }
}

impl SecretVerb {
    fn run(self, globals: &Globals) -> Result<u8> {
        match self {
            SecretVerb::Create(args) => secret::create(&args, globals),
            SecretVerb::Ls(args) => secret::ls(&args, globals),
            SecretVerb::Inspect(args) => secret::inspect(&args, globals),
            SecretVerb::Rm(args) => secret::remove(&args, globals),
            SecretVerb::Exists(args) => secret::exists(&args, globals),
        }
    }
}

impl ContainerVerb {
    fn run(self, globals: &Globals, early: Option<run::Early>) -> Result<u8> {
        match self {
            ContainerVerb::Run(args) => run::run(*args, globals, early.unwrap_or_default()),
            ContainerVerb::Create(args) => run::create(*args, globals),
            ContainerVerb::Start(args) => start::run(&args, globals),
            ContainerVerb::Stop(args) => stop::run(&args, globals),
            ContainerVerb::Restart(args) => stop::restart(args, globals),
            ContainerVerb::Exec(args) => exec::run(args, globals),
            ContainerVerb::Pause(args) => pause::pause(&args, globals),
            ContainerVerb::Unpause(args) => pause::unpause(&args, globals),
            ContainerVerb::Top(args) => top::run(&args, globals),
            ContainerVerb::Kill(args) => kill::run(&args, globals),
            ContainerVerb::Wait(args) => wait::run(&args, globals),
            ContainerVerb::Attach(args) => attach::run(&args, globals),
            ContainerVerb::Logs(args) => logs::run(&args, globals),
            ContainerVerb::Init(args) => start::init(&args, globals),
            ContainerVerb::Rename(args) => rename::run(&args, globals),
            ContainerVerb::Update(args) => update::run(&args, globals),
            ContainerVerb::Port(args) => port::run(&args, globals),
            ContainerVerb::Stats(args) => stats::run(&args, globals),
            ContainerVerb::Rm(args) => rm::run(&args, globals),
            ContainerVerb::Cp(args) => cp::run(&args, globals),
            ContainerVerb::Diff(args) => diff::run(&args, globals),
            ContainerVerb::Commit(args) => commit::run(&args, globals),
            ContainerVerb::Export(args) => export::run(&args, globals),
            ContainerVerb::Mount(args) => mount::mount(&args, globals),
            ContainerVerb::Unmount(args) => mount::unmount(&args, globals),
        }
    }
}
