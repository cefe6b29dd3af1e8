//! AppArmor, where the kernel has it (apparmor(7)): the profile of a payload.

use crate::error::Explain;
use anyhow::{Result, anyhow};
use rustix::{
    fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, openat2},
    io::{Errno, write},
};
use std::{ffi::CStr, fs};

/// The profile of containers that ask for no other, used where it is loaded. Its source is contrib/apparmor/ctr-default.
pub const DEFAULT: &str = "ctr-default";

/// What `--security-opt apparmor=` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// [`DEFAULT`] where it is loaded, else none.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one.
    Profile(String),
}

impl Choice {
    /// The profile to apply on this host.
    ///
    /// # Errors
    /// One was asked for by name and AppArmor is off, or it is not loaded.
    pub fn profile(&self) -> Result<Option<String>> {
        match self {
            Choice::Unconfined => Ok(None),
            Choice::Default => Ok(is_loaded(DEFAULT).then(|| DEFAULT.to_owned())),
            Choice::Profile(name) if !is_enabled() => Err(anyhow!(
                "apply the AppArmor profile {name}: AppArmor is off on this host"
            ))
            .hint("drop --security-opt apparmor, or start the kernel with apparmor=1 security=apparmor"),
            Choice::Profile(name) if !is_loaded(name) => {
                Err(anyhow!("apply the AppArmor profile {name}: it is not loaded"))
                    .hint("load it: `sudo apparmor_parser -r FILE`")
            }
            Choice::Profile(name) => Ok(Some(name.clone())),
        }
    }
}

/// Does the kernel enforce profiles?
pub fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// The directory has an entry `NAME.NUMBER` for each profile, whose slashes are dots there.
fn is_loaded(name: &str) -> bool {
    let name = name.trim_start_matches('/').replace('/', ".");
    let entries =
        fs::read_dir("/sys/kernel/security/apparmor/policy/profiles").into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.any(|entry| entry.rsplit_once('.').is_some_and(|(profile, _)| profile == name))
}

/// The next execve(2) of this process puts it under `profile`. For a container's root: /proc is looked at before it is
/// believed, as an image may have put something in its place (CVE-2019-16884).
///
/// # Errors
/// ENOENT: it is not loaded; ENODEV: /proc is not the proc file system; EACCES: the present profile doesn't allow it.
pub fn on_exec(profile: &CStr) -> rustix::io::Result<()> {
    const PROC_ROOT_INO: u64 = 1;
    let proc = openat(
        CWD,
        c"/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if fstatfs(&proc)?.f_type != PROC_SUPER_MAGIC || fstat(&proc)?.st_ino != PROC_ROOT_INO {
        return Err(Errno::NODEV);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let open = |path| openat2(&proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve);
    // Before Linux 5.8 there was one file for whichever module is the first.
    let file = match open(c"thread-self/attr/apparmor/exec") {
        Err(Errno::NOENT) => open(c"thread-self/attr/exec"),
        file => file,
    }?;
    let words = [b"exec ", profile.to_bytes()].concat();
    if write(&file, &words)? == words.len() { Ok(()) } else { Err(Errno::IO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_is_asked_for_is_there() {
        assert!(Choice::Profile("no-such-profile".to_owned()).profile().is_err());
        assert_eq!(Choice::Unconfined.profile().unwrap(), None);
    }
}
