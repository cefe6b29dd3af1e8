//! A static program that says what a payload can do, as an image and as a file. Its source is probe.c.

use super::{Ctr, Layer, TestImage, User};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The program, and the directory that goes with this test process.
pub fn probe() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/probe.c");
        compile(&["-static"], &fs::read_to_string(source).expect("the probe's source"))
    })
}

/// What `cc` with `options` makes of `source`.
pub fn compile(options: &[&str], source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("make a directory");
    let (input, output) = (dir.path().join("program.c"), dir.path().join("program"));
    fs::write(&input, source).expect("write a program");
    let status = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(&output)
        .arg(&input)
        .args(options)
        .status()
        .expect("run cc");
    assert!(status.success(), "cc {options:?}");
    fs::read(output).expect("read a program")
}

impl Ctr {
    /// A home whose store has the image `probe`: busybox and the probe.
    pub fn with_probe(user: User) -> Ctr {
        Ctr::new(user).with_hub().with_image("probe", TestImage::new([probe_layer()]))
    }

    /// The probe in the home, where its user may execute it.
    pub fn probe_file(&self) -> PathBuf {
        let path = self.home().join("probe");
        self.file("probe", probe());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("chmod the probe");
        path
    }
}

/// Busybox and the probe as `/bin/probe`.
pub fn probe_layer() -> Layer {
    Layer::busybox().mode_file("bin/probe", probe(), 0o755)
}
