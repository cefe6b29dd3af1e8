//! What a container of one user and one group needs beside its filter (`security::seccomp`): apt(8) looks whether it really is
//! another user once it has become one, so it is told to stay root. Nothing of this is in the image, the record or a commit.

use super::etc_files::EtcFile;
use crate::namespaces::Mapping;
use oci_spec::runtime::{Mount, Process};
use std::path::Path;

/// The file, and where the container finds it: in /dev, which is the container's own.
pub fn file() -> EtcFile {
    EtcFile { name: NAME, contents: b"APT::Sandbox::User \"root\";\n".to_vec() }
}

/// Its mount, from directory `etc`.
pub fn mount(etc: &Path) -> Mount {
    let mut mount = Mount::default();
    let options = ["bind", "rprivate", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    mount
        .set_destination(PLACE.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(etc.join(NAME)))
        .set_options(Some(options.to_vec()));
    mount
}

/// `process` as it starts in a container with this mapping (apt.conf(5), `APT_CONFIG`).
pub fn prepare(mut process: Process, single: bool) -> Process {
    let mut env = process.env().clone().unwrap_or_default();
    if single && !env.iter().any(|entry| entry.starts_with("APT_CONFIG=")) {
        env.push(format!("APT_CONFIG={PLACE}"));
        process.set_env(Some(env));
    }
    process
}

/// Whether `mapping` is such a one.
pub fn is_single(mapping: &Mapping) -> bool {
    matches!(mapping, Mapping::Single { .. })
}

const NAME: &str = "apt.conf";
const PLACE: &str = "/dev/.apt.conf";
