//! What mends a host on which user namespaces are refused.

use std::{fs, path::Path};

/// What to do where the kernel or an administrator refuses user namespaces.
pub fn mend() -> String {
    apparmor().unwrap_or_else(|| REFUSED.to_owned())
}

const REFUSED: &str = "allow user namespaces: `sudo sysctl user.max_user_namespaces=65536` (Debian before 11: \
    kernel.unprivileged_userns_clone=1; Ubuntu 24.04 and later: kernel.apparmor_restrict_unprivileged_userns=0; \
    inside another container: start that one with --security-opt seccomp=unconfined)";

/// What an administrator has to do for this program where AppArmor takes the capabilities of unprivileged user namespaces
/// away (Ubuntu 23.10 and later, "unprivileged_userns").
fn apparmor() -> Option<String> {
    let restricts = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").ok()?;
    let label = fs::read_to_string("/proc/self/attr/apparmor/current").unwrap_or_default();
    let program = std::env::current_exe().ok()?;
    unrestricted(&restricts, &label, &program)
}

fn unrestricted(restricts: &str, label: &str, program: &Path) -> Option<String> {
    if restricts.trim() != "1" || label.trim() != "unconfined" {
        return None;
    }
    let program =
        program.to_str().filter(|path| !path.contains(['"', '\\', '\n', '*', '?', '[', '{', '@']))?;
    Some(format!(
        "AppArmor keeps user namespaces from programs without a profile; give this one a profile that only allows them:\n\
         sudo tee /etc/apparmor.d/ctr <<'EOF'\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile ctr \"{program}\" flags=(unconfined) {{\n  \
           userns,\n  \
           include if exists <local/ctr>\n\
         }}\n\
         EOF\n\
         sudo apparmor_parser -r /etc/apparmor.d/ctr"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_for_our_own_path() {
        let program = Path::new("/home/me/bin/ctr");
        let advice = unrestricted("1\n", "unconfined\n", program).unwrap();
        assert!(
            advice.contains("profile ctr \"/home/me/bin/ctr\" flags=(unconfined) {\n  userns,\n"),
            "{advice}"
        );
        for (restricts, label, program) in [
            ("0\n", "unconfined\n", "/usr/bin/ctr"),
            ("1\n", "ctr (unconfined)\n", "/usr/bin/ctr"),
            ("", "", "/usr/bin/ctr"),
            ("1", "unconfined", "/home/\"{/ctr"),
        ] {
            assert_eq!(unrestricted(restricts, label, Path::new(program)), None);
        }
    }
}
