//! A user without subordinate ids has one user id, and programs that want others go on all the same.

mod support;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};
use support::{Ctr, User, feed};

fn single() -> Option<Ctr> {
    User::all().contains(&User::Single).then(|| Ctr::with_box(User::Single))
}

#[test]
fn others_are_answered_and_stay_the_one() {
    let Some(ctr) = single() else { return };
    let script = "cd /tmp; touch f; chown 33:44 f && chown user f && chgrp -R 5 . && stat -c %u:%g f
        su -s /bin/sh user -c 'id -u'; mknod null c 1 3; echo $?; ls | wc -l
        chown 33 missing 2>/dev/null || echo missing; tar c f | tar x && echo unpacked";
    assert_eq!(ctr.script(&[], script), "0:0\n0\n0\n1\nmissing\nunpacked");
    assert_eq!(ctr.script(&["--privileged"], "touch /f; chown 33 /f; echo $?"), "0");
    let honest = ["--security-opt=seccomp=unconfined"];
    assert_eq!(
        ctr.script(&honest, "touch /f; chown 33 /f 2>/dev/null; echo $?"),
        "1",
        "who wants no filter gets none"
    );
    let map = "touch f; chown 33 f && id -u && cat /proc/self/uid_map";
    let (uid, _) = ctr.user().ids().expect("ids");
    let said = ctr.script(&["--userns=keep-id", "--workdir=/tmp"], map);
    let uid = uid.to_string();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), [&*uid, &*uid, &*uid, "1"]);
    ctr.payload(&["--userns=nomap"], &["true"]).fails("subordinate ids").hints("usermod");
    ctr.payload(&["--userns=auto"], &["true"]).fails("--userns=auto").hints("--userns=auto");
}

#[test]
fn with_subordinate_ids_nothing_is_made_up() {
    let ctr = Ctr::with_box(User::Rootless);
    assert_eq!(
        ctr.script(&[], "touch /f; chown 70000 /f 2>/dev/null; echo $?; chown 33 /f; stat -c %u /f"),
        "1\n33"
    );
    assert_eq!(ctr.script(&[], "env | grep -c APT_CONFIG; ls -a /dev | grep -c apt; true"), "0\n0");
}

/// What a package's installation does on Debian: a user, files of that user, a program run as that user.
const POSTINST: &str = "#!/bin/sh
set -e
useradd --system --home /var/lib/served served
chown -R served:served /var/lib/served
install -d -o served -g served -m 2750 /var/lib/served/data
su -s /bin/sh served -c 'touch /var/lib/served/data/made'
setpriv --reuid served --regid served --init-groups true
";

/// The files of Debian's image as the user has them who can give them to nobody else. Unpacked without `ctr`, whose pulls have
/// tests of their own.
fn debian(ctr: &Ctr) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image");
    let built = Command::new(scripts).args(["build", "debian"]).output().expect("run scripts/image");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let layout = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim());
    let read = |digest: &str| {
        fs::read(layout.join("blobs/sha256").join(&digest["sha256:".len()..])).expect("read a blob")
    };
    let parse = |json: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&json).expect("JSON");
    let first = |list: &serde_json::Value| list[0]["digest"].as_str().expect("a digest").to_owned();
    let index = parse(fs::read(layout.join("index.json")).expect("read the index"));
    let manifest = parse(read(&first(&index["manifests"])));
    let layer = read(&first(&manifest["layers"]));
    ctr.file("tree/keep", "");
    let (uid, gid) = ctr.user().ids().expect("ids");
    let mut tar = Command::new("tar");
    tar.args(["-xz", "--no-same-owner", "--exclude=./dev/*", "-C"])
        .arg(ctr.home().join("tree"))
        .uid(uid)
        .gid(gid);
    feed(tar, &layer).exits(0);
    ctr.home().join("tree")
}

#[test]
fn debians_packages_install() {
    let Some(ctr) = single() else { return };
    let tree = debian(&ctr);

    let package = ctr.home().join("package");
    let control = "Package: served\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: d\n";
    ctr.file("package/DEBIAN/control", control).file("package/DEBIAN/postinst", POSTINST);
    ctr.file("package/var/lib/served/file", "x").file("repo/empty", "");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(package.join("DEBIAN/postinst"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let deb = ctr.home().join("repo/served.deb");
    let built = Command::new("dpkg-deb").arg("-b").arg(&package).arg(&deb).output().expect("run dpkg-deb");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let size = fs::metadata(&deb).expect("the package").len();
    let sum = Command::new("sha256sum").arg(&deb).output().expect("run sha256sum").stdout;
    let sum = String::from_utf8_lossy(&sum).split(' ').next().unwrap_or_default().to_owned();
    ctr.file("repo/Packages", format!("{control}Filename: ./served.deb\nSize: {size}\nSHA256: {sum}\n"));

    let tree = tree.to_str().expect("a path");
    ctr.run(["run", "-d", "--network=none", "--name=c", "--rootfs", tree, "sleep", "100"]).ok();
    ctr.run(["cp", "repo", "c:/repo"]).ok();
    let install = "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list
        { apt-get update && apt-get install -y served; } >/tmp/log 2>&1 || cat /tmp/log
        dpkg-query -W -f '${Status}\\n' served; stat -c '%a %U' /var/lib/served/data; ls /var/lib/served/data
        dpkg -r served >/dev/null && userdel served && dpkg -i /repo/served.deb >/dev/null 2>&1; echo $?";
    let said = ctr.run(["exec", "c", "sh", "-c", install]).exits(0).stdout();
    assert_eq!(said, "install ok installed\n2750 root\nmade\n0\n");
    ctr.run(["rm", "-f", "-t0", "c"]).ok();
}
