//! Short ways to run something in a container of `box`, Debian's busybox as an image.

use super::{Ctr, Layer, Live, Outcome, Registry, TestImage, User};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Once,
};

impl Ctr {
    /// A home whose store has the image `box`.
    pub fn with_box(user: User) -> Ctr {
        static PUSHED: Once = Once::new();
        PUSHED.call_once(|| {
            drop(TestImage::new([Layer::busybox()]).push(Registry::plain(), "library/box:latest"))
        });
        let ctr = Ctr::new(user).with_hub();
        ctr.run(["pull", "-q", "box"]).ok();
        ctr
    }

    /// Its Docker Hub is the test registry.
    pub fn with_hub(self) -> Ctr {
        self.registries(&Registry::plain().as_docker_hub());
        self
    }

    /// Push `image` as `name`, pull it, and have it in the store.
    pub fn with_image(self, name: &str, image: TestImage) -> Ctr {
        image.push(Registry::plain(), &format!("library/{name}:latest"));
        self.run(["pull", "-q", name]).ok();
        self
    }

    /// Run `command` in a container of `box` that vanishes and has no network, with more `options`.
    pub fn payload(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.payload_of("box", options, command)
    }

    /// The same with another image.
    pub fn payload_of(&self, image: &str, options: &[&str], command: &[&str]) -> Outcome {
        self.run(arguments(image, options, command))
    }

    /// A shell script in the same place as [`Ctr::payload`]; it exits 0; what it prints.
    #[track_caller]
    pub fn script(&self, options: &[&str], script: &str) -> String {
        self.payload(options, &["sh", "-c", script]).ok()
    }

    /// [`Ctr::payload`], left running, with its stdin open.
    pub fn live(&self, options: &[&str], command: &[&str]) -> Live {
        self.start(arguments("box", &[options, &["-i"]].concat(), command))
    }

    /// A root file system of busybox in the home, for `--rootfs`: what is written there would be written for real.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        let dir = self.home().join(name);
        self.file(&format!("{name}/bin/busybox"), fs::read("/bin/busybox").expect("read busybox"));
        let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        mode(&dir.join("bin/busybox"));
        for applet in ["sh", "cat", "grep", "id", "true", "find", "ls", "stat"] {
            symlink("busybox", dir.join("bin").join(applet)).expect("make a link");
        }
        dir
    }
}

fn arguments<'a>(image: &'a str, options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--rm", "--network=none"], options, &[image], command].concat()
}
