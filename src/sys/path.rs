//! Where the host's programs are.

use std::{env, path::PathBuf};

/// The program `name` in PATH, or in a usual place that PATH lacks (cron's has no sbin).
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file())
}
