//! What `ctr run` says of privileges: `--security-opt`, `--privileged`, `--cap-add` and `--cap-drop`.

use super::{
    option_value::{each, read_bounded},
    run_args::Args,
};
use crate::{
    container::{
        grammar::{self, SecurityOption},
        request::{self, SeccompChoice},
    },
    error::Explain,
    security::{CapSet, apparmor, capabilities},
};
use anyhow::{Result, anyhow};
use std::path::Path;

impl Args {
    /// The filter, the profile, and whether no program gains privileges.
    pub(super) fn security_options(&self) -> Result<(SeccompChoice, apparmor::Choice, bool)> {
        let hint = "--security-opt no-new-privileges or --security-opt seccomp=FILE";
        let (mut seccomp, mut apparmor) = match self.privileged {
            true => (SeccompChoice::Unconfined, apparmor::Choice::Unconfined),
            false => (SeccompChoice::Default, apparmor::Choice::Default),
        };
        let mut no_new_privileges = false;
        let options: Vec<SecurityOption> =
            each("--security-opt", &self.security_opt, hint, grammar::parse_security_option)?;
        for option in options {
            match option {
                SecurityOption::NoNewPrivileges(on) => no_new_privileges = on,
                SecurityOption::AppArmor(choice) => apparmor = choice,
                // As podman-run(1) has it: without SELinux there is nothing to label.
                SecurityOption::Label(true) if Path::new("/sys/fs/selinux/enforce").exists() => {
                    return Err(anyhow!("--security-opt label: SELinux labels are not built yet"))
                        .hint("--security-opt label=disable runs without a label of its own");
                }
                SecurityOption::Label(_) => {}
                SecurityOption::SeccompUnconfined => seccomp = SeccompChoice::Unconfined,
                SecurityOption::SeccompFile(path) => {
                    let json = read_bounded("--security-opt seccomp", &path, request::SECCOMP_LIMIT)?;
                    seccomp = SeccompChoice::File { path, json };
                }
            }
        }
        Ok((seccomp, apparmor, no_new_privileges))
    }

    /// Exactly what `--cap-add` names: dropping all first leaves nothing else.
    pub(super) fn added_capabilities(&self) -> Result<CapSet> {
        let all = self.cap_add.iter().any(|name| name.eq_ignore_ascii_case("all"));
        let nothing_else = ["ALL".to_owned()];
        capabilities::select(&self.cap_add, if all { &self.cap_drop } else { &nothing_else }, false)
    }
}
