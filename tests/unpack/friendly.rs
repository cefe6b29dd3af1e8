//! What archives say becomes what is in the directory: contents, owners, attributes, whiteouts.

use super::ground::{Archive, Ground, is_root};
use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

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
