//! The unpacker on real directories: friendly archives give what GNU tar gives, hostile ones never leave their directory.
//! As root, and once more as the root of a user namespace.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ctr::storage::unpack::{Policy, Unpacked, unpack};
use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// An archive, written byte by byte: the tar crate refuses to write what these tests need.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(
        mut self,
        name: &str,
        kind: u8,
        link: &str,
        data: &[u8],
        set: impl FnOnce(&mut tar::Header),
    ) -> Archive {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        set(&mut header);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &str) -> Archive {
        self.add(name, b'0', "", data.as_bytes(), |_| {})
    }

    fn dir(self, name: &str) -> Archive {
        self.add(name, b'5', "", b"", |_| {})
    }

    fn symlink(self, name: &str, target: &str) -> Archive {
        self.add(name, b'2', target, b"", |_| {})
    }

    fn hard_link(self, name: &str, target: &str) -> Archive {
        self.add(name, b'1', target, b"", |_| {})
    }

    fn owned(self, name: &str, kind: u8, uid: u64, mode: u32) -> Archive {
        self.add(name, kind, "", b"", |header| {
            header.set_uid(uid);
            header.set_mode(mode);
        })
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut all = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|n| n.to_string().len() + rest == *n).unwrap();
            all.extend(format!("{length} {key}=").bytes());
            all.extend(*value);
            all.push(b'\n');
        }
        self.add("pax", b'x', "", &all, |_| {})
    }
}

/// A directory to unpack into, beside a canary that must survive.
struct Ground {
    temp: TempDir,
    policy: Policy,
}

impl Ground {
    fn new() -> Ground {
        Ground::with(Policy::of_process().unwrap())
    }

    /// As if only root had an id.
    fn single() -> Ground {
        Ground::with(Policy::from_maps("0 1000 1\n", "0 1000 1\n").unwrap())
    }

    fn with(policy: Policy) -> Ground {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("root")).unwrap();
        fs::create_dir(temp.path().join("canary")).unwrap();
        fs::write(temp.path().join("canary/file"), "unharmed").unwrap();
        Ground { temp, policy }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("root").join(name)
    }

    fn unpack(&self, archive: &[u8]) -> anyhow::Result<Unpacked> {
        unpack(archive, File::open(self.path("")).unwrap().as_fd(), &self.policy)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn xattr(&self, name: &str, xattr: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let length = rustix::fs::lgetxattr(self.path(name), xattr, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn opaque(&self, name: &str) -> bool {
        ["user.overlay.opaque", "trusted.overlay.opaque"]
            .iter()
            .any(|x| self.xattr(name, x).as_deref() == Some(b"y"))
    }

    fn is_whiteout(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
    }

    fn assert_unharmed(&self, what: &str) {
        let names = |dir: PathBuf| {
            let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.temp.path().into()), ["canary", "root"], "{what}");
        assert_eq!(names(self.temp.path().join("canary")), ["file"], "{what}");
        let canary = self.temp.path().join("canary/file");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "unharmed", "{what}");
        let meta = fs::metadata(&canary).unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (1, 0o644), "{what}");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything here again, where root is the root of a user namespace and no other id exists.
#[test]
fn in_a_user_namespace() {
    let mut child = Command::new("unshare");
    child.args(["-Ur"]).arg(std::env::current_exe().unwrap());
    let output = child.args(["--skip", "in_a_user_namespace"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn friendly_archives_give_what_gnu_tar_gives() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    let script = r#"
        set -e; umask 022; mkdir -p "$1/dir/sub" "$1/sticky"; cd "$1"
        long=$(printf 'n%.0s' $(seq 200)); mkdir "$long"; echo long > "$long/$long"
        echo hello > dir/file; ln dir/file hard; ln -s dir/file soft; ln -s "$long/$long" "long-link"
        mkfifo fifo; printf 'a\nb' > "new
line"; : > empty; chmod 4755 empty; chmod 1777 sticky; chmod 2755 dir/sub; chmod 0 dir/file
        truncate -s 1M sparse; printf x | dd of=sparse bs=1 seek=300000 conv=notrunc 2>/dev/null
        truncate -s 3M hole
        for i in $(seq 0 40); do printf y | dd of=holey bs=1 seek=$((i * 20000)) conv=notrunc 2>/dev/null; done
        head -c 700000 /dev/urandom > big
        touch -d '2001-02-03 04:05:06.123456789' dir/sub dir/file soft -h; touch -d '1960-01-01' old; touch -d 2002-02-02 dir
    "#;
    fn run(command: &mut Command) {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    run(Command::new("bash").args(["-c", script, "bash"]).arg(&tree));
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "-S"],
        &["--format=pax"],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
    ] {
        let archive = temp.path().join("archive.tar");
        run(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).args(options).arg("."));
        let reference = temp.path().join("reference");
        fs::create_dir(&reference).unwrap();
        run(Command::new("tar").arg("-C").arg(&reference).arg("-xpf").arg(&archive));
        let ground = Ground::new();
        ground.unpack(&fs::read(&archive).unwrap()).unwrap();
        assert_eq!(listing(&ground.path("")), listing(&reference), "{options:?}");
        let blocks = |dir: &Path| fs::metadata(dir.join("hole")).unwrap().blocks();
        assert_eq!(blocks(&ground.path("")), blocks(&reference), "{options:?}");
        fs::remove_dir_all(&reference).unwrap();
    }
}

/// Type, mode, owner, links, time, target and contents of everything in `dir`.
fn listing(dir: &Path) -> String {
    let script = r#"cd "$1"; find . -printf '%y %m %U %G %n %T@ %p -> %l\n' | sed 's/^d \(.*\) [0-9]* \([-0-9.]* \)/d \1 \2/' | sort
        find . -type f -exec sha256sum {} + | sort"#;
    let output = Command::new("bash").args(["-c", script, "bash"]).arg(dir).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_climbs_out() {
    if !is_root() {
        return;
    }
    let probe = Ground::new();
    let canary = probe.temp.path().join("canary").to_str().unwrap().to_owned();
    let new = Archive::default;
    // The path by which the canary is reached from each ground is not known to the archive: `..` and the absolute path.
    let archives: &[(&str, Archive, bool)] = &[
        ("dotdot", new().file("../canary/file", "x"), false),
        ("inner dotdot", new().dir("a").file("a/../../canary/file", "x"), false),
        ("absolute", new().file("/canary/file", "x"), true),
        ("absolute dotdot", new().file("/../canary/file", "x"), false),
        ("symlink parent", new().symlink("a", "../canary").file("a/file", "x"), true),
        ("absolute symlink parent", new().symlink("a", &canary).file("a/file", "x"), true),
        ("symlink chain", new().symlink("a", "b").symlink("b", "../canary").file("a/file", "x"), true),
        ("symlink loop", new().symlink("a", "b").symlink("b", "a").file("a/file", "x"), false),
        ("through dangling links", new().symlink("a", "x/../../../canary").file("a/file", "x"), true),
        ("write through a link", new().symlink("a", "../canary/file").file("a", "x"), true),
        ("mkdir through a link", new().symlink("a", "../canary").dir("a").file("a/file", "x"), true),
        ("chmod through a link", new().symlink("a", "../canary/file").owned("a", b'0', 0, 0o777), true),
        (
            "chmod of a directory through a link",
            new().symlink("a", "../canary").owned("a", b'5', 0, 0o777),
            true,
        ),
        ("hard link dotdot", new().hard_link("a", "../canary/file").file("a", "x"), false),
        ("hard link absolute", new().hard_link("a", &format!("{canary}/file")), false),
        ("hard link through a parent", new().symlink("a", "../canary").hard_link("b", "a/file"), false),
        (
            "hard link to a link",
            new().symlink("a", "../canary/file").hard_link("b", "a").file("b", "x"),
            true,
        ),
        ("hard link to a directory", new().dir("a").hard_link("b", "a"), false),
        ("root as a link", new().symlink(".", "../canary").file("file", "x"), false),
        ("root as a file", new().file("./", "x"), false),
        ("root removed", new().hard_link("", "../canary/file"), false),
        ("whiteout dotdot", new().file("../canary/.wh.file", ""), false),
        ("whiteout through a link", new().symlink("a", "../canary").file("a/.wh.file", ""), true),
        ("opaque through a link", new().symlink("a", "../canary").file("a/.wh..wh..opq", ""), true),
        ("whiteout of dotdot", new().dir("a").file("a/.wh...", ""), false),
        ("whiteout of nothing", new().dir("a").file("a/.wh.", ""), false),
        ("replace a tree with links", new().dir("a").symlink("a/l", "../../canary").file("a", "x"), true),
        ("pax path", new().pax(&[("path", b"../canary/file")]).file("a", "x"), false),
        ("pax path with NUL", new().pax(&[("path", b"a\0b")]).file("a", "x"), false),
        ("pax linkpath", new().pax(&[("linkpath", b"../canary/file")]).hard_link("a", "b"), false),
        ("GNU long name", new().add("", b'L', "", b"../canary/file\0", |_| {}).file("a", "x"), false),
        ("proc", new().symlink("a", "/proc/self/cwd").file("a/file", "x"), true),
        ("file as a parent", new().file("a", "x").file("a/b", "x"), false),
        ("device through a link", new().symlink("a", "../canary/file").owned("a", b'3', 0, 0o666), true),
    ];
    for (what, archive, good) in archives {
        let ground = Ground::new();
        let outcome = ground.unpack(&archive.0);
        assert_eq!(outcome.is_ok(), *good, "{what}: {:?}", outcome.err().map(|e| format!("{e:#}")));
        ground.assert_unharmed(what);
        probe.assert_unharmed(what);
    }
}

#[test]
fn links_lead_where_they_will_in_the_container() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let archive = Archive::default()
        .dir("usr/bin")
        .symlink("bin", "usr/bin")
        .file("bin/a", "a")
        .symlink("var/run", "/run")
        .file("var/run/lock/b", "b")
        .symlink("up", "../../../usr/bin")
        .file("up/c", "c")
        .hard_link("d", "bin/a");
    ground.unpack(&archive.0).unwrap();
    assert_eq!(
        ["usr/bin/a", "run/lock/b", "usr/bin/c", "d"].map(|name| ground.read(name)),
        ["a", "b", "c", "a"]
    );
    assert!(fs::symlink_metadata(ground.path("bin")).unwrap().is_symlink());
}

#[test]
fn later_entries_replace_earlier_ones() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let archive = Archive::default()
        .file("a", "long contents")
        .hard_link("a2", "a")
        .file("a", "b")
        .dir("dir")
        .dir("dir/sub")
        .file("dir/sub/file", "x")
        .file("dir", "now a file")
        .symlink("link", "usr")
        .dir("usr")
        .dir("link")
        .file("link/file", "y")
        .file("kept/file", "z")
        .owned("kept", b'5', 0, 0o700)
        .hard_link("kept/file", "kept/file");
    ground.unpack(&archive.0).unwrap();
    assert_eq!(
        ["a", "a2", "dir", "link/file"].map(|name| ground.read(name)),
        ["b", "long contents", "now a file", "y"]
    );
    assert!(!ground.path("usr/file").exists());
    assert_eq!(ground.read("kept/file"), "z");
    let mode = |name: &str| fs::metadata(ground.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("kept"), mode("")), (0o700, 0o755));
    assert_eq!(fs::metadata(ground.path("dir")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(ground.path("usr")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn whiteouts() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let archive = Archive::default()
        .dir("a")
        .file("a/.wh.gone", "")
        .file("a/.wh..wh..opq", "")
        .file("kept", "x")
        .file(".wh.kept", "")
        .dir("both")
        .file(".wh.both", "")
        .file(".wh.later", "")
        .dir("later")
        .file(".wh.implied", "")
        .file("implied/file", "x")
        .file(".wh.file", "")
        .file("file", "y")
        .file(".wh..wh.plnk/1.2", "z")
        .file(".wh..wh.aufs", "z");
    ground.unpack(&archive.0).unwrap();
    assert!(ground.is_whiteout("a/gone") && !ground.is_whiteout("kept"));
    for (dir, opaque) in [("a", true), ("both", true), ("later", true), ("implied", true), ("", false)] {
        assert_eq!(ground.opaque(dir), opaque, "{dir}");
    }
    assert_eq!((ground.read("kept"), ground.read("file")), ("x".into(), "y".into()));
    assert!(!ground.path(".wh..wh.plnk").exists() && !ground.path(".wh..wh.aufs").exists());
}

#[test]
fn owners_without_an_id_and_devices_are_recorded() {
    if !is_root() {
        return;
    }
    let ground = Ground::single();
    let archive = Archive::default()
        .owned("file", b'0', 70_000, 0o4755)
        .owned("dir", b'5', 70_000, 0o2750)
        .owned("fifo", b'6', 70_000, 0o600)
        .add("link", b'2', "file", b"", |header| header.set_uid(70_000))
        .add("null", b'3', "", b"", |header| {
            header.set_mode(0o666);
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .owned("disk", b'4', 5, 0o660)
        .owned("setuid", b'0', 0, 0o4755);
    ground.unpack(&archive.0).unwrap();
    let record =
        |name| ground.xattr(name, "user.containers.override_stat").map(|v| String::from_utf8(v).unwrap());
    assert_eq!(record("file").unwrap(), "70000:0:4755:file");
    assert_eq!(record("dir").unwrap(), "70000:0:2750:dir");
    assert_eq!(record("null").unwrap(), "0:0:0666:char-1-3");
    assert_eq!(record("disk").unwrap(), "5:0:0660:block-0-0");
    assert_eq!(record("setuid"), None);
    for (name, mode) in [("file", 0o755), ("dir", 0o750), ("setuid", 0o4755)] {
        let meta = fs::metadata(ground.path(name)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, mode), "{name}");
    }
    assert!(fs::metadata(ground.path("null")).unwrap().is_file());
    assert!(fs::symlink_metadata(ground.path("link")).unwrap().is_symlink());
}

#[test]
fn real_root_makes_devices_and_gives_owners() {
    let everyone = fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
    if !is_root() || !everyone {
        return;
    }
    let ground = Ground::new();
    let archive = Archive::default()
        .add("null", b'3', "", b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .owned("file", b'0', 70_000, 0o6711)
        .owned("dir", b'5', 70_000, 0o2711)
        .file("dir/below", "x")
        .add("link", b'2', "file", b"", |header| header.set_gid(7));
    ground.unpack(&archive.0).unwrap();
    let meta = |name| fs::symlink_metadata(ground.path(name)).unwrap();
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!((meta("file").uid(), meta("file").mode() & 0o7777), (70_000, 0o6711));
    assert_eq!((meta("dir").uid(), meta("dir").mode() & 0o7777), (70_000, 0o2711));
    assert_eq!((meta("dir/below").uid(), meta("link").gid()), (0, 7));
}

#[test]
fn extended_attributes() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    // cap_net_raw=ep, with a newline in the middle.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
    let xattrs: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.comment", b"a\nb"),
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.containers.override_stat", b"0:0:0777:file"),
    ];
    let archive = Archive::default().pax(xattrs).file("file", "x").pax(xattrs).dir("dir");
    ground.unpack(&archive.0).unwrap();
    for name in ["file", "dir"] {
        assert_eq!(ground.xattr(name, "user.comment").unwrap(), b"a\nb");
        assert_eq!(ground.xattr(name, "user.containers.override_stat"), None);
        assert!(!ground.opaque(name));
    }
    assert_eq!(ground.xattr("file", "security.capability").unwrap(), capability);
}

#[test]
fn the_root_directory_has_the_archives_mode_or_0755() {
    if !is_root() {
        return;
    }
    let mode = |ground: &Ground| fs::metadata(ground.path("")).unwrap().mode() & 0o7777;
    let plain = Ground::new();
    plain.unpack(&Archive::default().file("a", "").0).unwrap();
    assert_eq!(mode(&plain), 0o755);
    let own = Ground::new();
    own.unpack(&Archive::default().owned("./", b'5', 0, 0o1700).file("a", "").0).unwrap();
    assert_eq!((mode(&own), fs::metadata(own.path("")).unwrap().mtime()), (0o1700, 1_000_000_000));
}

#[test]
fn bombs_end_in_an_error() {
    if !is_root() {
        return;
    }
    let holes = |size: &[u8]| {
        let sparse: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", size)];
        let mut map = b"0\n".to_vec();
        map.resize(512, 0);
        Archive::default().pax(sparse).add("a", b'0', "", &map, |_| {})
    };
    for (archive, message) in [
        (holes(b"2199023255552"), "holes"),
        (holes(b"18446744073709551615"), "beyond"),
        (Archive::default().add("a", b'L', "", b"", |header| header.set_size(1 << 33)), "larger than"),
        (Archive::default().add("a", b'x', "", b"", |header| header.set_size(1 << 33)), "larger than"),
        (Archive::default().add("a", b'0', "", b"", |header| header.set_size(1 << 60)), "ends within"),
        (Archive::default().add("a", b'L', "", &[b'a'; 5000], |_| {}).file("a", ""), "longer than"),
    ] {
        let ground = Ground::new();
        let error = format!("{:#}", ground.unpack(&archive.0).unwrap_err());
        assert!(error.contains(message), "{error}");
    }
    // As many directories as a path can have, entered by links that double the depth: no descriptor is left behind.
    let mut archive = Archive::default();
    let deep = "d/".repeat(2000);
    for _ in 0..3 {
        archive = archive.add("", b'L', "", deep.as_bytes(), |_| {}).dir("x");
        archive =
            archive.add("", b'K', "", deep.as_bytes(), |_| {}).symlink("link", "x").file("link/e/f", "x");
    }
    let ground = Ground::new();
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    ground.unpack(&archive.0).unwrap();
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < before + 64);
    ctr::storage::delete_tree(&ground.path("d")).unwrap();
}

proptest::proptest! {
    /// Whatever the bytes are: an answer, and nobody is harmed.
    #[test]
    fn noise(flips in proptest::collection::vec((0usize..6000, 0u8..=255), 0..12), fix in proptest::bool::ANY) {
        if is_root() {
            let mut archive = Archive::default()
                .dir("a").file("a/b", "contents").symlink("l", "a").hard_link("h", "a/b").file("a/.wh.x", "")
                .pax(&[("path", b"p"), ("GNU.sparse.map", b"0,1,4,1"), ("GNU.sparse.size", b"9")]).file("s", "12").0;
            for (at, byte) in flips {
                if let Some(target) = archive.get_mut(at) { *target = byte; }
            }
            if fix {
                for block in archive.as_chunks_mut::<512>().0 {
                    let header = tar::Header::from_byte_slice(block);
                    if header.as_gnu().is_some() {
                        let mut header = header.clone();
                        header.set_cksum();
                        *block = *header.as_bytes();
                    }
                }
            }
            let ground = Ground::new();
            let _ = ground.unpack(&archive);
            ground.assert_unharmed("noise");
        }
    }
}
