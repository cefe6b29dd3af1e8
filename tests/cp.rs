//! Copying in and out, both ways and with streams: for a running and a stopped container and each kind of user.

mod support;

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};
use support::{Subject, User, feed};

#[test]
fn both_ways_as_podman_has_it() {
    let script = "mkdir -p /d/sub /srv; echo one > /d/f; echo two > /d/sub/g; ln -s /d /l; ln -s f /d/rel; ln -s /nowhere /dangling";
    for subject in Subject::all(&["--workdir", "/srv"], script) {
        let what = subject.what();
        subject.ctr.file("in/f", "three").file("in/sub/g", "four").file("file", "five").file("out/x", "");
        // From the container: to a new name, into a directory, its contents, over a file, a directory under a new name.
        for (from, to, result, text) in [
            ("c:/d/f", "new", "new", "one\n"),
            ("c:/d/f", "new", "new", "one\n"),
            ("c:/d/f", "out", "out/f", "one\n"),
            ("c:../d/f", "out/.", "out/f", "one\n"),
            ("c:/d", "out", "out/d/sub/g", "two\n"),
            ("c:/d/.", "out", "out/sub/g", "two\n"),
            ("c:/d", "newdir", "newdir/sub/g", "two\n"),
            ("c:/d/.", "newdir2", "newdir2/f", "one\n"),
            ("c:/l/", "out/l", "out/l/f", "one\n"),
            ("c:/d/rel", "followed", "followed", "one\n"),
        ] {
            subject.cp(&[from, to]).ok();
            assert_eq!(subject.text(result), text, "{from} {to} {what}");
        }
        assert_eq!(fs::read_link(subject.path("out/d/rel")).unwrap(), Path::new("f"), "{what}");
        // Into it, and back.
        for (from, to, result, text) in [
            ("file", "c:/tmp", "/tmp/file", "five"),
            ("file", "c:/tmp/new", "/tmp/new", "five"),
            ("file", "c:relative", "/srv/relative", "five"),
            ("in", "c:/tmp", "/tmp/in/sub/g", "four"),
            ("in/.", "c:/tmp", "/tmp/sub/g", "four"),
            ("in", "c:/tmp/newdir", "/tmp/newdir/f", "three"),
            ("file", "c:/l", "/d/file", "five"),
            ("file", "c:/l/f", "/d/f", "five"),
            ("file", "c:/d/rel", "/d/f", "five"),
            ("c:/d/sub", "c:/tmp/twice", "/tmp/twice/g", "two\n"),
        ] {
            subject.cp(&[from, to]).ok();
            subject.cp(&[&format!("c:{result}"), "back"]).ok();
            assert_eq!(subject.text("back"), text, "{from} {to} {what}");
        }
        if subject.live.is_some() {
            // Mounted there, so that no other file can take its place.
            subject.cp(&["file", "c:/etc/hosts"]).ok();
            subject.cp(&["c:/etc/hosts", "back"]).ok();
            assert_eq!(subject.text("back"), "five", "{what}");
        }
        // What is refused.
        for (from, to, said) in [
            ("missing", "c:/tmp", "\"missing\" could not be found on the host"),
            ("c:/missing", ".", "\"/missing\" could not be found on container c"),
            ("c:/dangling", ".", "could not be found on container c"),
            ("file", "c:/missing/", "\"/missing/\" could not be found on container c"),
            ("file", "c:/missing/file", "could not be found on container c"),
            ("c:/d/f", "missing/file", "could not be found on the host"),
            // More than a pipe takes: whoever sends hears that nobody listens, and the reason is the other's.
            ("c:/bin/busybox", "missing/file", "could not be found on the host"),
            ("/bin/busybox", "c:/missing/file", "could not be found on container c"),
            ("c:/bin", "file", "destination must be a directory"),
            ("in", "c:/d/f", "destination must be a directory when copying a directory"),
            ("c:/d", "file", "destination must be a directory when copying a directory"),
            ("c:/d/f", "/dev/stdout", "must be a directory or a regular file"),
            ("c:/d", "c:/d/sub", "in the directory that is copied"),
            ("c:/d", "c:/d/sub/new", "in the directory that is copied"),
            ("file", "out", "is a container"),
            ("c:", "out", "no path"),
        ] {
            subject.cp(&[from, to]).fails(said);
        }
        subject.cp(&["nothing:/x", "."]).exits(1);
        subject.cp(&["file", "nothing:/x"]).exits(1);
        // A file over a directory and the other way round, inside the target.
        subject.ctr.file("clash/sub", "file");
        subject.cp(&["clash/.", "c:/d"]).fails("in the way");
        subject.cp(&["--overwrite", "clash/.", "c:/d"]).ok();
        subject.cp(&["c:/d/sub", "back"]).ok();
        assert_eq!(subject.text("back"), "file", "{what}");
    }
}

#[test]
fn streams() {
    for subject in Subject::all(&[], "mkdir /d; echo one > /d/f") {
        let what = subject.what();
        assert_eq!(subject.members("/d"), ["d/", "d/f"], "{what}");
        assert_eq!(subject.members("/d/."), ["f"], "{what}");
        assert_eq!(subject.members("/d/f"), ["f"], "{what}");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, "a/b/file", &b"text"[..]).unwrap();
        let plain = builder.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for (name, archive) in [("p", plain), ("g", gzip.finish().unwrap()), ("z", zstd)] {
            let into = format!("c:/d/{name}");
            subject.cp(&["out-of-nothing", &into]).exits(125);
            feed(subject.ctr.command(["cp", "-", &into]), &archive).fails("destination must be a directory");
            subject.ctr.file(&format!("dirs/{name}/x"), "");
            subject.cp(&[&format!("dirs/{name}"), "c:/d"]).ok();
            feed(subject.ctr.command(["cp", "-", &into]), &archive).ok();
            feed(subject.ctr.command(["cp", "-a=false", "-", "c:/tmp"]), &archive).ok();
            assert_eq!(subject.owner(&format!("/d/{name}/a/b/file")), "640 0:0", "{what}");
            let kept = if subject.ctr.user() == User::Single { "640 0:0" } else { "640 7:8" };
            assert_eq!(subject.owner("/tmp/a/b/file"), kept, "{what}");
        }
        for junk in [&b""[..], b"junk", &[7; 4096], b"\x1f\x8b\x08 junk"] {
            feed(subject.ctr.command(["cp", "-", "c:/tmp"]), junk)
                .fails("source must be a (compressed) tar archive");
        }
    }
}

#[test]
fn whose_the_files_are() {
    let passwd = ["--user", "user"];
    for &user in User::all() {
        for running in [true, false] {
            if user == User::Single {
                continue;
            }
            let script = "cat /etc/passwd > /tmp/mine; chmod 6755 /tmp/mine";
            let subject = Subject::new(user, running, &passwd, script);
            let what = subject.what();
            subject.ctr.file("file", "x");
            subject.cp(&["file", "c:/tmp/archive"]).ok();
            subject.cp(&["--archive=false", "file", "c:/tmp/kept"]).ok();
            subject.cp(&["-a", "file", "c:/tmp/short"]).ok();
            assert_eq!(subject.owner("/tmp/archive"), "644 1000:1000", "{what}");
            assert_eq!(subject.owner("/tmp/short"), "644 1000:1000", "{what}");
            // The user's own file is root's inside.
            assert_eq!(subject.owner("/tmp/kept"), "644 0:0", "{what}");
            // What comes out belongs to the caller, and lends nobody his privileges.
            subject.cp(&["c:/tmp/mine", "mine"]).ok();
            let meta = fs::metadata(subject.path("mine")).unwrap();
            let me = user
                .ids()
                .unwrap_or((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()));
            assert_eq!((meta.uid(), meta.gid()), me, "{what}");
            assert_eq!(meta.permissions().mode() & 0o7777, 0o755, "{what}");
        }
    }
}

#[test]
fn what_survives() {
    let script = "mkdir -p /d/ro; echo x > /d/ro/f; chmod 555 /d/ro; ln /d/ro/f /d/hard; mkfifo /d/fifo; \
        dd if=/dev/zero of=/d/sparse bs=1 count=1 seek=1073741823 2>/dev/null; echo end >> /d/sparse; touch -d @1000000000 /d/ro/f; \
        touch -d @1100000000 /d/ro; n=$(printf %0200d 1); mkdir -p /d/$n; echo deep > /d/$n/$n; chmod 1777 /d/$n";
    for subject in Subject::all(&[], script) {
        let what = subject.what();
        subject.cp(&["c:/d", "out"]).ok();
        subject.cp(&["out", "c:/e"]).ok();
        subject.cp(&["c:/e", "c:/g"]).ok();
        subject.cp(&["c:/g", "again"]).ok();
        for copy in ["out", "again"] {
            let at = |name: &str| fs::symlink_metadata(subject.path(copy).join(name)).unwrap();
            let sparse = at("sparse");
            assert_eq!(sparse.len(), (1 << 30) + 4, "{what}");
            assert!(sparse.blocks() < 1 << 12, "{copy} {what}: {} blocks", sparse.blocks());
            assert_eq!(
                (at("ro/f").mtime(), at("ro").mtime()),
                (1_000_000_000, 1_100_000_000),
                "{copy} {what}"
            );
            assert_eq!(at("ro/f").ino(), at("hard").ino(), "{copy} {what}");
            assert_eq!((at("ro").mode() & 0o7777, at("fifo").mode() >> 12), (0o555, 1), "{copy} {what}");
            let long = "0".repeat(199) + "1";
            assert_eq!(subject.text(&format!("{copy}/{long}/{long}")), "deep\n", "{what}");
            assert_eq!(at(&long).mode() & 0o7777, 0o1777, "{what}");
        }
        // So that the home can be removed.
        for dir in ["out/ro", "again/ro"] {
            fs::set_permissions(subject.path(dir), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

#[test]
fn xattrs_of_the_user_survive_and_no_others() {
    let subject = Subject::new(User::Rootless, true, &[], "true");
    subject.ctr.file("dir/file", "x");
    let set = |name: &str, key: &str| {
        rustix::fs::setxattr(subject.path(name), key, b"value", rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("dir/file", "user.comment");
    set("dir", "user.dir");
    if rustix::process::getuid().is_root() {
        set("dir/file", "trusted.secret");
    }
    set("dir/file", "user.overlay.opaque");
    subject.cp(&["dir", "c:/tmp"]).ok();
    subject.cp(&["c:/tmp/dir", "back"]).ok();
    let get = |name: &str, key: &str| {
        let mut value = [0; 16];
        rustix::fs::getxattr(subject.path(name), key, &mut value[..]).map(|length| value[..length].to_vec())
    };
    assert_eq!(get("back/file", "user.comment").unwrap(), b"value");
    assert_eq!(get("back", "user.dir").unwrap(), b"value");
    assert!(get("back/file", "user.overlay.opaque").is_err() && get("back/file", "trusted.secret").is_err());
}
