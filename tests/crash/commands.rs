//! What is interrupted: a command a line, with the store that it finds and what is true when it has said that it is done.

use super::ground::{Ground, Said};

/// A command.
pub struct Case {
    /// In reports.
    pub name: &'static str,
    /// The store before it: one of [`super::ground::STATES`].
    pub state: &'static str,
    /// Run before it, uninterrupted.
    pub prepare: &'static [&'static str],
    /// The command; REGISTRY stands for where it listens.
    pub line: &'static [&'static str],
    /// The command once more, where it may have been done already.
    pub again: &'static [&'static str],
    /// What is true when it has exited 0.
    pub done: Done,
    /// That is true after a power cut, too.
    pub durable: bool,
    /// What it leaves alone of what is not its own.
    pub spares: Spares,
}

/// What has to be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spares {
    /// The image `kept` and the container `other`.
    All,
    /// The image alone: all containers that don't run go.
    Images,
    /// Nothing: it empties the store.
    Nothing,
}

/// What a command has brought about.
#[derive(Clone, Copy, Debug)]
pub enum Done {
    /// There is such an image.
    Image(&'static str),
    /// There is none.
    NoImage(&'static str),
    /// There is such a container.
    Container(&'static str),
    /// There is none.
    NoContainer(&'static str),
    /// This command says so.
    Says(&'static [&'static str], i32),
    /// Nothing that stays.
    Nothing,
}

impl Done {
    /// Whether that is so.
    pub fn holds(self, ground: &Ground) -> Said {
        let (verb, name, expected): (&[&str], _, _) = match self {
            Done::Image(name) => (&["inspect", "--type=image"], name, 0),
            Done::NoImage(name) => (&["inspect", "--type=image"], name, 125),
            Done::Container(name) => (&["container", "exists"], name, 0),
            Done::NoContainer(name) => (&["container", "exists"], name, 1),
            Done::Says(line, status) => return ground.exits(line, status),
            Done::Nothing => return Ok(String::new()),
        };
        ground.exits(&[verb, &[name]].concat(), expected)
    }
}

const fn case(name: &'static str, state: &'static str, line: &'static [&'static str], done: Done) -> Case {
    Case { name, state, prepare: &[], line, again: line, done, durable: false, spares: Spares::All }
}

impl Case {
    const fn again(self, again: &'static [&'static str]) -> Case {
        Case { again, ..self }
    }

    const fn after(self, prepare: &'static [&'static str]) -> Case {
        Case { prepare, ..self }
    }

    const fn durable(self) -> Case {
        Case { durable: true, ..self }
    }

    const fn spares(self, spares: Spares) -> Case {
        Case { spares, ..self }
    }
}

/// All of them.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("first pull", "none", &["pull", "-q", "image"], Done::Image("image")).durable(),
    case("pull", "kept", &["pull", "-q", "image"], Done::Image("image")).durable(),
    case("run --rm", "both", &["run", "--rm", "--network=none", "image", "touch"], Done::Nothing),
    case("run", "both", &["run", "--name=job", "--network=none", "image", "touch"], Done::Container("job"))
        .again(&["run", "--network=none", "image", "touch"]),
    case("run from a copy", "both", &["run", "--storage-driver=plain", "--name=job", "--network=none", "image", "touch"], Done::Container("job"))
        .again(&["run", "--storage-driver=plain", "--network=none", "image", "touch"]),
    case("run with a view", "both", &["run", "--userns=keep-id", "--name=job", "--network=none", "image", "true"], Done::Container("job"))
        .again(&["run", "--userns=keep-id", "--network=none", "image", "true"]),
    case("create", "both", &["create", "--name=job", "--network=none", "image", "touch"], Done::Container("job"))
        .again(&["create", "--network=none", "image", "touch"]),
    case("start", "made", &["start", "job"], Done::Container("job")).again(&["start", "-a", "job"]),
    case("stop", "made", &["stop", "-t0", "w"], Done::Container("w")).after(&["start", "w"]),
    case("rm", "ended", &["rm", "job"], Done::NoContainer("job")).again(&["rm", "-i", "job"]),
    case("rm -f", "made", &["rm", "-f", "w"], Done::NoContainer("w")).after(&["start", "w"]),
    case("container prune", "ended", &["container", "prune", "-f"], Done::NoContainer("job"))
        .spares(Spares::Images),
    case("rmi", "both", &["rmi", "image"], Done::NoImage("image")).again(&["rmi", "-i", "image"]).durable(),
    case("rmi -f", "ended", &["rmi", "-f", "image"], Done::NoImage("image")).again(&["rmi", "-f", "-i", "image"]).durable(),
    case("load", "kept", &["load", "-q", "-i", "image.tar"], Done::Image("image")).durable(),
    case("import", "kept", &["import", "-q", "image.tar", "new"], Done::Image("new")).durable(),
    case("commit", "ended", &["commit", "-q", "job", "new"], Done::Image("new")).durable(),
    case("save", "both", &["save", "-q", "-o", "copy.tar", "image"], Done::Image("image")),
    case("tag", "both", &["tag", "image", "new"], Done::Image("new")).durable(),
    case("untag", "both", &["untag", "image"], Done::NoImage("image")).again(&["rmi", "-i", "image"]).durable(),
    case("image prune", "dangling", &["image", "prune", "-f"], Done::Nothing),
    case("system prune", "ended", &["system", "prune", "-f"], Done::NoContainer("job")).spares(Spares::Images),
    case("system prune -a", "ended", &["system", "prune", "-af"], Done::NoImage("image")).spares(Spares::Nothing),
    case("system reset", "ended", &["system", "reset", "-f"], Done::Says(&["network", "exists", "back"], 1))
        .after(&["network", "create", "back"]).spares(Spares::Nothing),
    case("system check", "both", &["system", "check", "--repair"], Done::Image("image")),
    case("run with volumes", "both", &["run", "--name=job", "--network=none", "-v", "data:/data", "-v", "/more", "image", "touch"], HAS_VOLUME)
        .again(&["run", "--network=none", "-v", "data:/data", "-v", "/more", "image", "touch"]),
    case("run --rm with a volume", "both", &["run", "--rm", "--network=none", "-v", "/data", "image", "touch"], Done::Nothing),
    case("volume create", "kept", &["volume", "create", "data"], HAS_VOLUME)
        .again(&["volume", "create", "--ignore", "data"]).durable(),
    case("volume import", "both", &["volume", "import", "data", "image.tar"], HAS_VOLUME).after(&["volume", "create", "data"]),
    case("volume rm", "kept", &["volume", "rm", "data"], Done::Says(&["volume", "exists", "data"], 1))
        .after(&["volume", "create", "data"]).again(&["volume", "rm", "-f", "data"]).durable(),
    case("volume prune", "kept", &["volume", "prune", "-f"], Done::Says(&["volume", "exists", "data"], 1))
        .after(&["volume", "create", "data"]).durable(),
    case("secret create", "both", &["secret", "create", "key", "image.tar"], Done::Says(&["secret", "exists", "key"], 0))
        .again(&["secret", "create", "--replace", "key", "image.tar"]).durable(),
    case("run with a secret", "both", &["run", "--name=job", "--network=none", "--secret=key", "image", "touch"], Done::Container("job"))
        .after(&["secret", "create", "key", "image.tar"]).again(&["run", "--network=none", "--secret=key", "image", "touch"]),
    case("secret rm", "both", &["secret", "rm", "key"], Done::Says(&["secret", "exists", "key"], 1))
        .after(&["secret", "create", "key", "image.tar"]).again(&["secret", "rm", "-i", "key"]).durable(),
    case("network create", "kept", &["network", "create", "back"], Done::Says(&["network", "exists", "back"], 0))
        .again(&["network", "create", "--ignore", "back"]).durable(),
    case("network rm", "kept", &["network", "rm", "back"], Done::Says(&["network", "exists", "back"], 1))
        .after(&["network", "create", "back"]).again(&["network", "rm", "-f", "back"]).durable(),
    case("manifest create", "both", &["manifest", "create", "list", "image"], Done::Says(&["manifest", "exists", "list"], 0))
        .again(&["manifest", "create", "-a", "list", "image"]).durable(),
    case("manifest rm", "both", &["manifest", "rm", "list"], Done::Says(&["manifest", "exists", "list"], 1))
        .after(&["manifest", "create", "list", "image"]).again(&["manifest", "rm", "-i", "list"]).durable(),
    case("push", "both", &["push", "-q", "--tls-verify=false", "image", "REGISTRY/library/pushed"], Done::Image("image")),
];

const HAS_VOLUME: Done = Done::Says(&["volume", "exists", "data"], 0);
