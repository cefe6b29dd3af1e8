//! The files of a container: cp, diff, export, mount. Each for a running and a stopped container and for each kind of user.

mod support;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{Ctr, Layer, Live, Outcome, TestImage, User};

/// A container `c` that has run `script`, and waits or has ended.
struct Subject {
    ctr: Ctr,
    live: Option<Live>,
}

impl Subject {
    fn new(user: User, running: bool, options: &[&str], script: &str) -> Subject {
        Subject::of(Ctr::with_box(user), "box", running, options, script)
    }

    fn of(ctr: Ctr, image: &str, running: bool, options: &[&str], script: &str) -> Subject {
        let wait = if running { "; echo ready; read x; true" } else { "; true" };
        let script = format!("{script}{wait}");
        let line = [&["run", "-i", "--network=none", "--name", "c"], options, &[image, "sh", "-c", &script]]
            .concat();
        let mut live = ctr.start(line);
        let live = if running {
            live.says("ready");
            Some(live)
        } else {
            live.close_stdin();
            live.end().ok();
            None
        };
        Subject { ctr, live }
    }

    fn all(options: &[&str], script: &str) -> impl Iterator<Item = Subject> {
        let kinds = User::all().iter().flat_map(|user| [(*user, true), (*user, false)]);
        kinds.map(move |(user, running)| Subject::new(user, running, options, script))
    }

    fn cp(&self, arguments: &[&str]) -> Outcome {
        self.ctr.run([&["cp"], arguments].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.ctr.home().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}, {}", self.what()))
    }

    /// The names in `tar -t` of what `cp c:PATH -` writes.
    fn members(&self, path: &str) -> Vec<String> {
        names(self.cp(&[&format!("c:{path}"), "-"]).exits(0).bytes())
    }

    fn what(&self) -> String {
        format!("as {:?}, running: {}", self.ctr.user(), self.live.is_some())
    }

    /// Who and what `ls -ln` in the container would show for `path`: mode, uid:gid.
    fn owner(&self, path: &str) -> String {
        let archive = self.cp(&[&format!("c:{path}"), "-"]).exits(0);
        let mut archive = tar::Archive::new(archive.bytes());
        let mut entries = archive.entries().expect("a tar archive");
        let entry = entries.next().expect("a member").expect("a readable one");
        let header = entry.header();
        let number = |field: std::io::Result<u64>| field.expect("a number");
        let mode = header.mode().expect("a mode") & 0o7777;
        format!("{mode:o} {}:{}", number(header.uid()), number(header.gid()))
    }
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("a tar archive");
    let name = |entry: tar::Entry<'_, &[u8]>| String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    entries.map(|entry| name(entry.expect("a member"))).collect()
}

fn feed(mut command: Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let what = format!("{:?}", command.get_args());
    let mut child = command.spawn().expect("start ctr");
    // It may refuse before it has read all.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    Outcome::new(what, child.wait_with_output().expect("wait for ctr"))
}

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

/// Links of a container lead where they lead inside it; links and device nodes of a stream, or in its way, lead nowhere.
#[test]
fn hostile_links() {
    for &user in User::all() {
        for running in [true, false] {
            let ctr = Ctr::with_box(user);
            ctr.file("canary/secret", "canary").file("file", "payload").file("out/x", "");
            let home = ctr.home().display().to_string();
            let layer = Layer::busybox()
                .symlink("up", &format!("../../../../../..{home}/canary"))
                .symlink("abs", &format!("{home}/canary"))
                .symlink("secret", &format!("{home}/canary/secret"))
                .symlink("dir/evil", &format!("{home}/canary"))
                .dir("dir/then", 0o755)
                .symlink("dir/then/out", "../../../../../../../etc");
            let ctr = ctr.with_image("hostile", TestImage::new([Layer::busybox(), layer]));
            let script = "mkdir -p /proc/self/x 2>/dev/null; ln -s /proc/1/root/etc /magic; ln -s /proc/self/exe /exe; true";
            let subject = Subject::of(ctr, "hostile", running, &[], script);
            let what = subject.what();
            let untouched = || {
                assert_eq!(fs::read_dir(subject.path("canary")).unwrap().count(), 1, "{what}");
                assert_eq!(subject.text("canary/secret"), "canary", "{what}");
            };
            for link in ["up", "abs", "up/new", "abs/new"] {
                subject.cp(&["file", &format!("c:/{link}/")]).exits(125);
                untouched();
            }
            for link in ["secret", "up/secret", "abs/secret", "exe", "magic/passwd"] {
                let outcome = subject.cp(&[&format!("c:/{link}"), "-"]);
                let said = String::from_utf8_lossy(outcome.bytes()).into_owned();
                assert!(outcome.code() == 125 && !said.contains("canary"), "{link} {what}: {outcome}");
                subject.cp(&["file", &format!("c:/{link}")]).exits(125);
                untouched();
            }
            // The links themselves travel as links; where they were copied nothing is written through them.
            subject.cp(&["c:/dir", "out"]).ok();
            assert_eq!(
                fs::read_link(subject.path("out/dir/evil")).unwrap(),
                subject.path("canary"),
                "{what}"
            );
            // In the way on the host: a link where the stream has a directory.
            fs::remove_dir_all(subject.path("out/dir/then")).unwrap();
            symlink(subject.path("canary"), subject.path("out/dir/then")).unwrap();
            subject.cp(&["c:/dir", "out"]).fails("in the way");
            untouched();
            subject.cp(&["--overwrite", "c:/dir", "out"]).ok();
            untouched();
            assert!(fs::symlink_metadata(subject.path("out/dir/then")).unwrap().is_dir(), "{what}");
        }
    }
}

#[test]
fn hostile_archives() {
    for subject in Subject::all(&[], "true") {
        let what = subject.what();
        let entry = |kind: u8, name: &str, target: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let send = |entries: &[Vec<u8>]| {
            feed(subject.ctr.command(["cp", "-", "c:/tmp"]), &[entries.concat(), vec![0; 1024]].concat())
        };
        send(&[entry(b'0', "../x", "")]).fails("climbs out");
        send(&[entry(b'0', "a/../../../x", "")]).fails("climbs out");
        send(&[entry(b'1', "a", "../etc/passwd")]).fails("climbs out");
        send(&[entry(b'0', "good", ""), entry(b'Z', "x", "")]).fails("unknown type");
        // A link of the stream and a file through it: it stays in the container.
        let marker = format!("{}/marker", subject.ctr.home().display());
        send(&[entry(b'2', "l", &marker[..marker.len() - 7]), entry(b'0', "l/marker", "")]).exits(125);
        assert!(!Path::new(&marker).exists(), "{what}");
        if subject.ctr.user() != User::Root {
            send(&[entry(b'3', "null", "")]).fails("make \"null\"");
        }
    }
}

/// threats.md, row 18: directories and links change places while files are copied through them.
#[test]
fn a_race_of_links_never_leaves_the_root() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.file("canary/secret", "canary").file("canary/d/file", "canary").file("in/d/file", "payload");
        let canary = ctr.home().join("canary").display().to_string();
        // The payload swaps a directory and a link to the host's canary, all the time.
        let script = format!(
            "mkdir /work; cd /work; mkdir -p real/d; ln -s {canary} evil; (while true; do mv real x; ln -s {canary} real; rm real; mv x real; done) & true"
        );
        let subject = Subject::of(ctr, "box", true, &[], &script);
        let mut copied = 0;
        for _ in 0..200 {
            // Either may fail, at whatever it meets.
            subject.cp(&["in/.", "c:/work/real"]);
            let out = subject.cp(&["c:/work/real/d", "back"]);
            assert!(out.code() == 0 || out.code() == 125, "{out}");
            if let Ok(text) = fs::read_to_string(subject.path("back/file")) {
                assert_eq!(text, "payload", "as {user:?}");
                copied += 1;
            }
            let _ = fs::remove_dir_all(subject.path("back"));
        }
        assert!(copied > 0, "as {user:?}");
        assert_eq!(subject.text("canary/secret"), "canary");
        assert_eq!(subject.text("canary/d/file"), "canary");
        assert_eq!(fs::read_dir(subject.path("canary")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(subject.path("canary/d")).unwrap().count(), 1);
    }
}

/// Whoever is inside has nothing of the host, and nobody inside could name it.
#[test]
fn the_process_inside_holds_nothing_of_the_host() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for subject in Subject::all(&[], "true") {
        let what = subject.what();
        let mut command = subject.ctr.command(["cp", "c:/bin/busybox", "-"]);
        let leak = fs::File::open(subject.ctr.home()).expect("open the home");
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).expect("let it be inherited");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start ctr");
        // Its first byte is there, the rest doesn't fit in the pipe: the process inside stands still.
        child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("the stream");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let children = fs::read_to_string(children).expect("list children");
        let [inside] = children.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{children} {what}")
        };
        let mut open = Vec::new();
        for entry in fs::read_dir(format!("/proc/{inside}/fd")).expect("list descriptors") {
            let link = fs::read_link(entry.expect("a descriptor").path()).expect("read a link");
            open.push(link.display().to_string());
        }
        open.retain(|link| !link.starts_with("pipe:") && link != "/dev/null");
        open.sort();
        assert_eq!(open, ["/", "/bin/busybox"], "{what}");
        let status = fs::read_to_string(format!("/proc/{inside}/status")).expect("read its status");
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned()
        };
        // CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID MKNOD SETFCAP
        assert_eq!(
            (field("CapEff:"), field("NoNewPrivs:")),
            ("000000008800001f".to_owned(), "1".to_owned()),
            "{what}"
        );
        assert_eq!(fs::metadata(format!("/proc/{inside}/mem")).expect("look at it").uid(), 0, "{what}");
        let peak: u64 = field("VmHWM:").trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < 32 << 10, "{peak} kB, {what}");
        child.kill().expect("kill ctr");
        child.wait().expect("wait for ctr");
        support::wait_gone(inside.parse().expect("a number"));
    }
}

#[test]
fn diff() {
    let script = "rm /old/gone; rm -r /again; mkdir /again; echo y > /again/both; echo > /again/new; chmod 600 /deep/er/file; \
        mkdir -p /new/er; echo > /new/er/file; chmod 700 /alone; rm -r /var";
    for &user in User::all() {
        for running in [true, false] {
            let image = TestImage::new([Layer::busybox(), image_layer()]);
            let ctr = Ctr::with_box(user).with_image("differs", image);
            let subject = Subject::of(ctr, "differs", running, &[], script);
            let expected = "C /again\nD /again/before\nC /again/both\nA /again/new\nC /alone\nC /deep\nC /deep/er\nC /deep/er/file\nA /new\nA /new/er\n\
                A /new/er/file\nC /old\nD /old/gone\nD /var";
            assert_eq!(subject.ctr.run(["diff", "c"]).ok(), expected, "{}", subject.what());
            let json = subject.ctr.run(["container", "diff", "--format", "json", "c"]).ok();
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["deleted"], serde_json::json!(["/again/before", "/old/gone", "/var"]));
            assert_eq!(json["added"][0], "/again/new");
            subject.ctr.run(["diff", "nothing"]).exits(1);
        }
    }
    fn image_layer() -> Layer {
        Layer::new(support::Compression::Plain)
            .dir("old", 0o755)
            .file("old/kept", "x")
            .file("old/gone", "x")
            .dir("again", 0o755)
            .file("again/before", "x")
            .file("again/both", "x")
            .dir("deep", 0o755)
            .dir("deep/er", 0o755)
            .file("deep/er/file", "x")
            .dir("alone", 0o755)
            .file("alone/file", "x")
    }
}

#[test]
fn a_container_that_changed_nothing_differs_in_nothing() {
    for subject in Subject::all(&["--tmpfs", "/cache"], "true") {
        assert_eq!(subject.ctr.run(["diff", "c"]).ok(), "", "{}", subject.what());
    }
}

#[test]
fn export_is_the_root_file_system_and_always_the_same() {
    for subject in Subject::all(
        &["--tmpfs", "/cache"],
        "mkdir /a; echo text > /a/file; rm /etc/group; echo hidden > /cache/x",
    ) {
        let what = subject.what();
        let first = subject.ctr.run(["export", "c"]).exits(0);
        let members = names(first.bytes());
        let mut sorted = members.clone();
        sorted.sort_by(|a, b| a.trim_end_matches('/').split('/').cmp(b.trim_end_matches('/').split('/')));
        assert_eq!(members, sorted, "{what}");
        for there in
            ["a/", "a/file", "bin/busybox", "bin/sh", "etc/passwd", "proc/", "dev/", "sys/", "cache/"]
        {
            assert!(members.iter().any(|name| name == there), "{there} {what}: {members:?}");
        }
        for (gone, below) in [("etc/group", "proc/"), ("cache/x", "dev/")] {
            let inside = |name: &&String| name.starts_with(below) && name.len() > below.len();
            assert!(
                !members.iter().any(|name| name == gone) && members.iter().find(inside).is_none(),
                "{what}"
            );
        }
        assert_eq!(subject.ctr.run(["export", "c"]).exits(0).bytes(), first.bytes(), "{what}");
        subject.ctr.run(["export", "-o", "file.tar", "c"]).ok();
        assert_eq!(fs::read(subject.path("file.tar")).unwrap(), first.bytes(), "{what}");
        // GNU tar agrees that it is one.
        let listed = Command::new("tar").arg("-tf").arg(subject.path("file.tar")).output().unwrap();
        assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(), members, "{what}");
        subject.ctr.run(["export", "nothing"]).exits(1);
        subject.ctr.run(["export", "-o", "no/such/dir", "c"]).fails("no/such/dir");
    }
}

#[test]
fn mounts_are_roots() {
    for subject in Subject::all(&[], "echo inside > /file") {
        let what = subject.what();
        if subject.ctr.user() != User::Root {
            for verb in ["mount", "unmount", "umount"] {
                subject.ctr.run([verb, "c"]).fails("in rootless mode");
            }
            continue;
        }
        assert_eq!(subject.ctr.run(["mount"]).ok(), "");
        let place = subject.ctr.run(["mount", "c"]).ok();
        assert_eq!(subject.ctr.run(["mount", "c"]).ok(), place, "{what}");
        assert_eq!(fs::read_to_string(Path::new(&place).join("file")).unwrap(), "inside\n", "{what}");
        fs::write(Path::new(&place).join("written"), "outside").unwrap();
        let listed = subject.ctr.run(["container", "mount", "--no-trunc"]).ok();
        assert!(listed.ends_with(&place) && listed.len() == 64 + 2 + place.len(), "{listed}");
        if subject.live.is_some() {
            subject.cp(&["c:/written", "written"]).ok();
            assert_eq!(subject.text("written"), "outside");
        }
        subject.ctr.run(["unmount", "c"]).ok();
        assert!(!Path::new(&place).exists() && subject.ctr.run(["mount"]).ok().is_empty(), "{what}");
        subject.ctr.run(["unmount", "c"]).fails("not mounted");
        subject.cp(&["c:/written", "written"]).ok();
        subject.ctr.run(["mount", "-a"]).ok();
        subject.ctr.run(["umount", "--all", "--force"]).ok();
        assert_eq!(subject.ctr.run(["mount"]).ok(), "");
    }
}

#[test]
fn under_fuse_overlayfs() {
    for &user in User::all() {
        for running in [true, false] {
            let ctr = Ctr::with_box(user);
            let script =
                format!("echo one > /f; rm /etc/group{}", if running { "; echo ready; read x" } else { "" });
            let line = [
                "--storage-driver=fuse-overlayfs",
                "run",
                "-i",
                "--network=none",
                "--name",
                "c",
                "box",
                "sh",
                "-c",
            ];
            let mut live = ctr.start([&line[..], &[&script]].concat());
            let live = if running {
                live.says("ready");
                Some(live)
            } else {
                live.close_stdin();
                live.end().ok();
                None
            };
            let subject = Subject { ctr, live };
            let what = subject.what();
            subject.cp(&["c:/f", "f"]).ok();
            assert_eq!(subject.text("f"), "one\n", "{what}");
            subject.cp(&["f", "c:/g"]).ok();
            subject.cp(&["c:/g", "g"]).ok();
            assert_eq!(subject.text("g"), "one\n", "{what}");
            assert_eq!(subject.ctr.run(["diff", "c"]).ok(), "C /etc\nD /etc/group\nA /f\nA /g", "{what}");
            assert!(
                !names(subject.ctr.run(["export", "c"]).exits(0).bytes()).contains(&"etc/group".to_owned())
            );
        }
    }
}
