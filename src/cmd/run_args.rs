//! The options of `ctr run`, spelled as podman-run(1) spells them. What they mean is decided in [`super::run_request`].

use super::{
    health_args::HealthArgs,
    limit_args::{GroupArgs, LimitArgs},
};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

/// Run a command in a new container.
#[derive(clap::Args, Debug)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "ctr run [OPTIONS] IMAGE [COMMAND [ARG]...]",
    mut_args = takes_a_truth_value
)]
pub struct Args {
    /// Map a host name to an address in /etc/hosts
    #[arg(long, value_name = "NAME[;NAME]:IP|host-gateway")]
    pub add_host: Vec<String>,
    /// Attach an annotation to the container
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Only these streams: stdin, stdout, stderr
    #[arg(
        short,
        long,
        value_name = "STREAM",
        value_delimiter = ',',
        ignore_case = true,
        hide_possible_values = true
    )]
    pub attach: Vec<Stream>,
    /// Credentials file for the pull
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Add capabilities (ALL for every one)
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_add: Vec<String>,
    /// Drop capabilities (ALL for every one)
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_drop: Vec<String>,
    /// Look for specifications of CDI devices here, not in /etc/cdi and /var/run/cdi
    #[arg(long, value_name = "DIR")]
    pub cdi_spec_dir: Vec<PathBuf>,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Print the container's id and let it run in the background
    #[arg(short, long, conflicts_with = "attach")]
    pub detach: bool,
    /// Keys that detach from the container's terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Write the process id of the container's monitor to a file
    #[arg(long, value_name = "FILE")]
    pub conmon_pidfile: Option<PathBuf>,
    /// End with the process that started ctr
    #[arg(long, conflicts_with = "detach")]
    pub die_with_parent: bool,
    /// Make a device of the host available, all of a directory, or vendor.com/class=NAME of CDI. Rights are file modes: root
    /// of a container can do more, as no cgroup holds it to them
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]", value_delimiter = ',')]
    pub device: Vec<String>,
    /// Use these DNS servers; `none` keeps the image's resolv.conf
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub dns: Vec<String>,
    /// Set an option of /etc/resolv.conf in place of the host's
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Search these domains in place of the host's; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Replace the image's entrypoint: a program, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Set a variable; without a value it is taken from here, PREFIX* takes all that start so
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// A port that --publish-all publishes, beside the image's
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    pub expose: Vec<String>,
    /// Map group ids, as --uidmap
    #[arg(long, value_name = "CONTAINER:FROM:AMOUNT", conflicts_with = "userns")]
    pub gidmap: Vec<String>,
    /// Run with additional groups; keep-groups keeps yours
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub group_add: Vec<String>,
    /// Line for /etc/group, with $GROUPNAME, $GID and $USERLIST
    #[arg(long, value_name = "LINE")]
    pub group_entry: Option<String>,
    #[command(flatten)]
    pub groups: GroupArgs,
    #[command(flatten)]
    pub health: HealthArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// What /etc/hosts begins with: a file, `image` for the image's, or `none` [default: none]
    #[arg(long, value_name = "FILE")]
    pub hosts_file: Option<String>,
    /// Host name inside the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// What becomes of the image's volumes: bind (anonymous volumes), tmpfs or ignore [default: bind]
    #[arg(long, value_name = "MODE")]
    pub image_volume: Option<String>,
    /// Add a user of the host to /etc/passwd
    #[arg(long, value_name = "USER")]
    pub hostuser: Vec<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long)]
    pub init: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub interactive: bool,
    /// The address in its network
    #[arg(long, value_name = "IP")]
    pub ip: Option<Ipv4Addr>,
    /// The same of IPv6
    #[arg(long, value_name = "IP")]
    pub ip6: Option<Ipv6Addr>,
    /// Shared memory and queues: private, shareable, none, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Attach a label to the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Where output is kept: k8s-file, json-file, journald, none or passthrough [default: k8s-file]
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// max-size=SIZE of the log until a new one is begun, path=FILE of the log, tag=TEXT of a journal entry
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<String>,
    /// The Ethernet address in its network
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// Mount type=bind, volume, tmpfs, image, glob, devpts or ramfs: src=, dst=, ro, U, idmap, subpath= …
    #[arg(long, value_name = "type=TYPE,KEY=VALUE")]
    pub mount: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Network: private[:host-loopback], none, host, pasta[:OPTION,…], container:NAME, ns:PATH or NAME[:ip=IP,ip6=IP,mac=MAC,alias=NAME,interface_name=NAME], several of them
    #[arg(long, alias = "net", value_name = "MODE")]
    pub network: Vec<String>,
    /// A name that other containers of its networks find it by
    #[arg(long, value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Leave the image's /etc/hostname as it is
    #[arg(long)]
    pub no_hostname: bool,
    /// Leave the image's /etc/hosts as it is
    #[arg(long)]
    pub no_hosts: bool,
    /// Add the user to /etc/passwd and /etc/group where it isn't there [default: true]
    #[arg(long, default_value = "true", hide_default_value = true)]
    pub passwd: bool,
    /// Line for /etc/passwd, with $USERNAME, $UID, $GID, $NAME and $HOME
    #[arg(long, value_name = "LINE")]
    pub passwd_entry: Option<String>,
    /// Processes: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// Write the process id of the container's first process to a file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Choose the image for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// The pod that it is to belong to
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// How gladly the kernel kills the container when memory is used up, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i32>,
    /// Hand these descriptors to the container's first process
    #[arg(long, value_name = "FD[,FD]", value_delimiter = ',', conflicts_with = "preserve_fds")]
    pub preserve_fd: Vec<u8>,
    /// Hand so many descriptors from 3 on to the container's first process
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub preserve_fds: u8,
    /// Give all capabilities and devices this user has; lift masks and the system call filter
    #[arg(long)]
    pub privileged: bool,
    /// Offer a port of the container at one of the host
    #[arg(short, long, value_name = "[[IP:][HOST]:]PORT[/PROTOCOL]")]
    pub publish: Vec<String>,
    /// Offer all ports that the image names at free ones of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// When to pull the image: always, missing, never or newer
    #[arg(long, value_name = "POLICY")]
    pub pull: Option<String>,
    /// Print no pull progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Make the root file system read-only; /run, /tmp and /var/tmp become writable tmpfs
    #[arg(long)]
    pub read_only: bool,
    /// With --read-only, make those tmpfs [default: true]
    #[arg(long, default_value = "true", hide_default_value = true)]
    pub read_only_tmpfs: bool,
    /// Remove a container that has the name
    #[arg(long, requires = "name")]
    pub replace: bool,
    /// When to start it again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Remove the container when it exits, and its image unless others use it
    #[arg(long)]
    pub rmi: bool,
    /// IMAGE is a directory to run in; with :O changes to it are thrown away
    #[arg(long)]
    pub rootfs: bool,
    /// Who tells systemd that the service is ready: container, conmon, healthy or ignore [default: container]
    #[arg(long, value_name = "WHO")]
    pub sdnotify: Option<String>,
    /// Hand a secret in: as the file /run/secrets/NAME, or with type=env as a variable
    #[arg(long, value_name = "NAME[,type=mount|env,target=,uid=,gid=,mode=]")]
    pub secret: Vec<String>,
    /// no-new-privileges, seccomp=FILE or seccomp=unconfined
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Size of /dev/shm in bytes, or with a unit of b, k, m or g; 0 for no limit [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Pass signals on to the container when there is no terminal [default: true]
    #[arg(long, default_value = "true", hide_default_value = true)]
    pub sig_proxy: bool,
    /// Signal that asks the container to stop [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub stop_timeout: u32,
    /// Map the ranges that this name has in /etc/subgid [default: the one of --subuidname]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["userns", "uidmap", "gidmap"])]
    pub subgidname: Option<String>,
    /// Map the ranges that this name has in /etc/subuid
    #[arg(long, value_name = "NAME", conflicts_with_all = ["userns", "uidmap", "gidmap"])]
    pub subuidname: Option<String>,
    /// Set a kernel parameter of the container's own namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Whether systemd is its first process: true (if the command looks so), false or always [default: true]
    #[arg(long, value_name = "MODE", require_equals = true, num_args = 0..=1, default_missing_value = "true")]
    pub systemd: Option<String>,
    /// Kill the container after so many seconds; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
    pub timeout: u32,
    /// Require HTTPS and verify certificates when pulling
    #[arg(long, require_equals = true, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub tls_verify: Option<bool>,
    /// Mount a tmpfs
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Time zone by name, or `local`
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Map user ids: AMOUNT of them from FROM on, in yours or with @ in the host's; + adds to the default map
    #[arg(long, value_name = "CONTAINER:FROM:AMOUNT", conflicts_with = "userns")]
    pub uidmap: Vec<String>,
    /// Set a resource limit; `host` keeps this session's limits
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_delimiter = ',')]
    pub ulimit: Vec<String>,
    /// File mode creation mask, in octal [default: 0022]
    #[arg(long, value_name = "MODE")]
    pub umask: Option<String>,
    /// User namespace: host, keep-id[:uid=N,gid=N,size=N], nomap, auto[:size=N,uidmapping=MAP,gidmapping=MAP], container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// User and group to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Host name: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Mount a directory or file of the host, or a volume: ro, z, Z, U, O, [no]copy, [no]dev, [no]suid, [no]exec, [r]bind,
    /// [r]shared, [r]slave, [r]private, idmap
    #[arg(short, long, value_name = "[SOURCE:]DIR[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount what another container has mounted; ro or rw
    #[arg(long, value_name = "CONTAINER[:OPTIONS]")]
    pub volumes_from: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The image, then the command and its arguments as they are: options of ctr end at the image
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND [ARG]...]")]
    pub image_and_command: Vec<String>,
}

/// `--attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl Args {
    /// The defaults of them all.
    pub fn of_nothing() -> Result<Args, clap::Error> {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("run").no_binary_name(true));
        <Args as clap::FromArgMatches>::from_arg_matches(&command.try_get_matches_from(["nothing"])?)
    }
}

/// Podman's flags take a value after an equals sign: `--rm=false`, `-i=true`.
pub fn takes_a_truth_value(arg: clap::Arg) -> clap::Arg {
    use clap::ArgAction::{Set, SetTrue};
    if !matches!(arg.get_action(), SetTrue) {
        return arg;
    }
    let preset = arg.get_default_values().first().cloned().unwrap_or_else(|| "false".into());
    arg.action(Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(preset)
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_name("BOOL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches};

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let command = Args::augment_args(clap::Command::new("run").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace())?;
        Args::from_arg_matches(&matches)
    }

    #[test]
    fn spellings() {
        for line in ["-it a", "-ti a", "-i -t a", "--interactive --tty a", "-i=true -t=true a", "-ite A=b a"]
        {
            let args = parse(line).unwrap();
            assert!(args.interactive && args.tty && args.image_and_command == ["a"], "{line}");
        }
        assert!(parse("--rm a").unwrap().rm);
        assert!(!parse("--rm=false a").unwrap().rm);
        assert!(!parse("--rm --rm=false a").unwrap().rm);
        assert!(parse("a").unwrap().sig_proxy);
        assert!(!parse("--sig-proxy=false a").unwrap().sig_proxy);
        assert_eq!(parse("--tls-verify a").unwrap().tls_verify, Some(true));
        assert_eq!(parse("a").unwrap().tls_verify, None);
        assert_eq!(parse("--name=x a").unwrap().name, parse("--name x a").unwrap().name);
        assert_eq!(parse("--name=x --name y a").unwrap().name.as_deref(), Some("y"));
        assert_eq!(parse("-h box a").unwrap().hostname.as_deref(), Some("box"));
        assert_eq!(parse("--net none a").unwrap().network, ["none"]);
        assert_eq!(parse("-eA -e B=c,d a").unwrap().env, ["A", "B=c,d"]);
        assert_eq!(parse("--cap-add a,b --cap-add c x").unwrap().cap_add, ["a", "b", "c"]);
    }

    #[test]
    fn options_stop_at_the_image() {
        let args = parse("--rm a --rm=false -it -- -x --name=y").unwrap();
        assert_eq!(args.image_and_command, ["a", "--rm=false", "-it", "--", "-x", "--name=y"]);
        assert!(args.rm && !args.tty && args.name.is_none());
        assert_eq!(parse("-- a -x").unwrap().image_and_command, ["a", "-x"]);
    }

    #[test]
    fn refused_by_name() {
        for (line, named) in [
            ("--pids x a", "--pids"),
            ("--rm=maybe a", "maybe"),
            ("--timeout x a", "--timeout"),
            ("", "IMAGE"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
