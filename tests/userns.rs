//! User namespaces of a container's own (podman-run(1), `--userns`, `--uidmap`): who is who inside, whose files are written
//! outside, and that no mapping copies an image.

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use support::{Compression, Ctr, Layer, Subject, TestImage, User};

/// A large file, and files of several owners, one of them for its owner alone.
fn owned() -> TestImage {
    let files = Layer::new(Compression::Gzip)
        .dir("owned", 0o755)
        .owned_file("owned/root", "r", 0o600, 0, 0)
        .owned_file("owned/user", "u", 0o4750, 1000, 50)
        .owned_file("owned/nobody", "n", 0o640, 65534, 65534)
        .mode_file("owned/large", vec![b'x'; 3 << 20], 0o644);
    TestImage::new([Layer::busybox(), files]).config(
        serde_json::json!({"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"], "User": "1000", "WorkingDir": "/tmp"}),
    )
}

const STAT: &str = "cd /owned && stat -c '%n %u:%g %a' * && wc -c </owned/large && cat /owned/root";
const SEEN: &str = "large 0:0 644\nnobody 65534:65534 640\nroot 0:0 600\nuser 1000:50 4750\n3145728\nr";

fn ids(ctr: &Ctr) -> (u32, u32) {
    ctr.user().ids().unwrap_or((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()))
}

/// Bytes on disk below `path`.
fn on_disk(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512);
    };
    entries.map(|entry| on_disk(&entry.expect("an entry").path())).sum()
}

/// Linux follows a view's pointers in user namespaces from 6.16 on.
fn follows_pointers() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}

#[test]
fn keep_id_makes_the_user_itself() {
    let ctr = Ctr::with_box(User::Rootless).with_image("owned", owned());
    let (uid, gid) = ids(&ctr);
    let script = "id -u; id -g; grep -c . /proc/self/uid_map; tail -n1 /etc/passwd; echo $HOME; touch new; stat -c %u:%g new";
    let said = ctr.payload_of("owned", &["--userns=keep-id"], &["sh", "-c", script]).ok();
    let said: Vec<&str> = said.lines().collect();
    let name = rustix_name(uid);
    let entry = format!("{name}:*:{uid}:{gid}:");
    assert_eq!(said[..3], [uid.to_string(), gid.to_string(), "3".to_owned()], "whatever the image's USER");
    assert!(said[3].starts_with(&entry) && said[3].ends_with(":/tmp:/bin/sh"), "{said:?}");
    assert_eq!(said[4..], ["/tmp".to_owned(), format!("{uid}:{gid}")]);

    let rootfs = ctr.rootfs("tree");
    ctr.file("tree/w/theirs", "before");
    let script = "echo mine >/w/mine; stat -c %u:%g /w/theirs";
    let line = [
        "run",
        "--rm",
        "--network=none",
        "--userns=keep-id",
        "--rootfs",
        rootfs.to_str().unwrap(),
        "sh",
        "-c",
    ];
    let said = ctr.run([&line[..], &[script]].concat()).ok();
    assert_eq!(said, format!("{uid}:{gid}"));
    let mine = fs::metadata(rootfs.join("w/mine")).expect("the file that the container wrote");
    assert_eq!((mine.uid(), mine.gid()), (uid, gid));
    assert!(!rootfs.join("etc/passwd").exists(), "the user's own directory gets nothing else");

    let as_other =
        ctr.script(&["--userns=keep-id:uid=33,gid=44"], "id -u; id -g; cat /proc/self/uid_map | wc -l");
    assert_eq!(as_other, "33\n44\n3");
    assert_eq!(
        ctr.script(&["--userns=keep-id", "--user=root"], "id -u; tail -n1 /etc/passwd | cut -d: -f1"),
        format!("0\n{name}")
    );
    assert_eq!(ctr.script(&["--userns=keep-id", "--passwd=false"], "grep -c . /etc/passwd"), "3");
    assert_eq!(ctr.script(&["--userns=keep-id", "--read-only"], "tail -n1 /etc/passwd | cut -d: -f1"), name);
}

fn rustix_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    line.and_then(|line| line.split(':').next()).expect("the user's name").to_owned()
}

#[test]
fn every_mapping_shows_the_images_owners() {
    let ctr = Ctr::with_box(User::Rootless).with_image("owned", owned());
    let layers = on_disk(&ctr.data().join("layers"));
    for options in [
        &["--userns=host"][..],
        &["--userns=keep-id"],
        &["--userns=nomap"],
        &["--userns=auto:size=65535"],
        &["--uidmap=0:1:65535"],
        &["--uidmap=+65536:0:1"],
    ] {
        let builder = !options[0].contains("+65536");
        let user: &[&str] =
            if builder { &["--user=0:0"] } else { &["--user=65536:65536", "--cap-add=dac_override"] };
        let seen = if builder { SEEN.to_owned() } else { SEEN.replace(" 0:0 ", " 65534:65534 ") };
        if builder {
            let said = ctr.payload_of("owned", &[options, user].concat(), &["sh", "-c", STAT]).ok();
            assert_eq!(said, seen, "{options:?}");
        } else {
            ctr.payload_of("owned", &[options, user].concat(), &["true"]).ok();
        }
    }
    assert_eq!(on_disk(&ctr.data().join("layers")), layers, "the layers stay as they were");
    if follows_pointers() {
        for view in ctr.list("views") {
            let size = on_disk(&ctr.data().join("views").join(&view));
            assert!(size < 1 << 20, "{size} bytes in {view}: the large file was copied");
        }
    }
    let before = ctr.list("views").len();
    ctr.payload_of("owned", &["--userns=keep-id"], &["true"]).ok();
    assert_eq!(ctr.list("views").len(), before, "made once");
    ctr.run(["rmi", "owned"]).ok();
    assert!(ctr.list("views").is_empty(), "gone with the image: {:?}", ctr.list("views"));
}

#[test]
fn everything_works_in_every_mode() {
    for options in
        [&["--userns=keep-id"][..], &["--userns=nomap"], &["--userns=auto"], &["--uidmap=0:1:1000"]]
    {
        let ctr = Ctr::with_box(User::Rootless);
        ctr.file("in", "from the host");
        let script = "echo x >/tmp/f; rm /etc/group";
        let user: &[&str] = &["--user=root"];
        let subject = Subject::of(ctr, "box", true, &[options, user].concat(), script);
        let ctr = &subject.ctr;
        assert_eq!(ctr.run(["exec", "c", "sh", "-c", "chown 7:8 /tmp/f; id -u"]).ok(), "0", "{options:?}");
        subject.cp(&["in", "c:/tmp/in"]).ok();
        assert_eq!(subject.owner("/tmp/f"), "644 7:8", "{options:?}");
        assert_eq!(subject.owner("/tmp/in"), "644 0:0", "{options:?}");
        let changed = ctr.run(["diff", "c"]).ok();
        assert!(
            ["A /tmp/f", "D /etc/group"].iter().all(|line| changed.lines().any(|l| l == *line)),
            "{changed}"
        );
        ctr.run(["commit", "-q", "c", "made"]).ok();
        let stat = ["stat", "-c", "%u:%g", "/tmp/f", "/tmp/in", "/bin"];
        let committed = ctr.payload_of("made", &["--user=0"], &stat).ok();
        assert_eq!(committed, "7:8\n0:0\n0:0", "{options:?}: a layer has the container's ids");
        assert_eq!(ctr.run(["top", "c", "user"]).ok().lines().next_back(), Some("root"));
        ctr.run(["pause", "c"]).ok();
        ctr.run(["unpause", "c"]).ok();
        ctr.run(["stop", "-t0", "c"]).ok();
        assert_eq!(subject.owner("/tmp/f"), "644 7:8", "{options:?}, stopped");
        subject.cp(&["in", "c:/tmp/again"]).ok();
        ctr.run(["start", "c"]).ok();
        assert_eq!(subject.owner("/tmp/again"), "644 0:0", "{options:?}, started again");
        ctr.run(["rm", "-f", "-t0", "c"]).ok();
        assert!(
            ctr.list("containers").is_empty() && ctr.list("tmp").is_empty() && ctr.list("trash").is_empty()
        );
    }
}

#[test]
fn what_is_mounted_has_the_containers_owners() {
    let image = || {
        let files = Layer::new(Compression::Gzip)
            .dir("filled", 0o755)
            .owned_file("filled/file", "f", 0o640, 7, 8)
            .mode_file("large", vec![b'x'; 1 << 20], 0o755);
        TestImage::new([Layer::busybox(), files])
    };
    for &user in User::all().iter().filter(|&&user| user != User::Single) {
        let modes: &[&str] = match user {
            User::Root => &["--uidmap=0:200000:65536"],
            _ => &["--userns=keep-id", "--userns=nomap", "--userns=auto"],
        };
        let ctr = Ctr::with_box(user).with_image("filled", image());
        ctr.file("key", "secret").run(["secret", "create", "s", "key"]).ok();
        for &mode in modes {
            let (uid, gid) = ids(&ctr);
            ctr.file("src/mine", "x");
            let of = |options: &[&str], script: &str| {
                let options = [&[mode, "--user=0:0"][..], options].concat();
                ctr.payload_of("filled", &options, &["sh", "-c", script]).ok()
            };
            // A volume is filled once, and its files are the next container's, too.
            for _ in 0..2 {
                assert_eq!(of(&["-v", "v:/filled"], "stat -c %u:%g /filled/file"), "7:8", "{mode}");
            }
            assert_eq!(of(&["-v", "/anon"], "stat -c %u /anon"), "0", "{mode}");
            assert_eq!(of(&["--secret=s,uid=1,gid=1"], "cat /run/secrets/s"), "secret", "{mode}");
            let own =
                ctr.payload_of("filled", &[mode, "--user=5:6", "-v", "u:/u:U"], &["stat", "-c%u:%g", "/u"]);
            assert_eq!(own.ok(), "5:6", "{mode}");
            // `U` gives the user's own files away, and only then they are another's on the host.
            let given = ctr.payload_of(
                "filled",
                &[mode, "--user=5:6", "-v", "./src:/w:U"],
                &["stat", "-c%u", "/w/mine"],
            );
            assert_eq!(given.ok(), "5", "{mode}");
            let meta = fs::metadata(ctr.home().join("src/mine")).expect("the file");
            assert!(meta.uid() != uid && meta.gid() != gid, "{mode}: {meta:?}");
            ctr.file("src/mine", "x");
            assert_eq!(
                of(&["-v", "./src:/w:O"], "cat /w/mine; echo y >/w/new && echo made"),
                "xmade",
                "{mode}"
            );
            if user == User::Rootless {
                let mount = "--mount=type=image,src=filled,dst=/i";
                let said = of(&[mount], "stat -c %u:%g /i/filled/file; wc -c </i/large");
                assert_eq!(said, "7:8\n1048576", "{mode}");
            }
            ctr.run(["volume", "rm", "-a", "-f"]).ok();
            assert!(ctr.list("volumes").is_empty(), "{mode}: {:?}", ctr.list("volumes"));
        }
    }
}

#[test]
fn health_and_network_know_the_mapping() {
    for &user in User::all().iter().filter(|&&user| user != User::Single) {
        let modes: &[&str] = match user {
            User::Root => &["--uidmap=0:200000:65536", "--userns=keep-id"],
            _ => &["--userns=keep-id", "--userns=nomap", "--userns=auto"],
        };
        let ctr = Ctr::with_box(user);
        for &mode in modes {
            let said = ctr.run(["run", "--rm", mode, "box", "sh", "-c", "ls /sys/class/net | wc -l"]).ok();
            assert_eq!(said, "2", "{mode}");
            let check = "--health-cmd=id -u; touch /tmp/checked";
            let line =
                ["run", "-d", "--network=none", "--name=c", "--user=7", check, mode, "box", "sleep", "100"];
            ctr.run(line).ok();
            ctr.run(["healthcheck", "run", "c"]).ok();
            let log = ctr.run(["inspect", "-f", "{{(index .State.Health.Log 0).Output}}", "c"]).ok();
            assert_eq!(log.trim(), "7", "{mode}");
            assert_eq!(ctr.run(["exec", "c", "stat", "-c%u", "/tmp/checked"]).ok(), "7", "{mode}");
            ctr.run(["rm", "-f", "-t0", "c"]).ok();
            assert!(ctr.list("containers").is_empty() && ctr.list("trash").is_empty(), "{mode}");
        }
    }
}

#[test]
fn auto_gives_each_its_own_and_container_joins() {
    let ctr = Ctr::with_box(User::Rootless);
    let map = |name: &str| ctr.run(["exec", name, "cat", "/proc/self/uid_map"]).ok();
    for name in ["a", "b"] {
        ctr.run([
            "run",
            "-d",
            "--network=none",
            "--userns=auto:size=2000",
            "--name",
            name,
            "box",
            "sleep",
            "100",
        ])
        .ok();
    }
    let hosts = ["a", "b"]
        .map(|name| map(name).split_whitespace().nth(1).map(|id| id.parse::<u32>().expect("an id")));
    assert!(hosts[1].unwrap().abs_diff(hosts[0].unwrap()) >= 2000, "{hosts:?}");
    assert_eq!(ctr.run(["inspect", "-f", "{{.HostConfig.UsernsMode}}", "a"]).ok(), "auto");
    let namespace = ctr.run(["exec", "a", "readlink", "/proc/self/ns/user"]).ok();
    let said = ctr.script(&["--userns=container:a"], "readlink /proc/self/ns/user; stat -c %u /bin; id -u");
    assert_eq!(said, format!("{namespace}\n0\n0"));
    let pid = ctr.run(["inspect", "-f", "{{.State.Pid}}", "b"]).ok();
    let joined = ctr.script(&[&format!("--userns=ns:/proc/{pid}/ns/user")], "readlink /proc/self/ns/user");
    assert_eq!(joined, ctr.run(["exec", "b", "readlink", "/proc/self/ns/user"]).ok());
    ctr.run(["stop", "-t0", "a"]).ok();
    ctr.payload(&["--userns=container:a"], &["true"]).fails("doesn't run").hints("ctr start");
    ctr.run(["rm", "-af", "-t0"]).ok();
}

#[test]
fn roots_layers_are_mapped_by_the_kernel() {
    if !User::all().contains(&User::Root) {
        return;
    }
    let ctr = Ctr::with_box(User::Root).with_image("owned", owned());
    let mapped = ["--uidmap=0:200000:65536", "--user=0:0"];
    assert_eq!(ctr.payload_of("owned", &mapped, &["sh", "-c", STAT]).ok(), SEEN);
    let script = "cat /proc/self/uid_map; echo x >/tmp/f; chown 5:6 /tmp/f; stat -c %u /etc/hosts";
    let line = ["run", "--network=none", "--name=c", mapped[0], "box", "sh", "-c", script];
    let said = ctr.run(line).ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536", "0"]);
    let id = ctr.run(["ps", "-aq", "--no-trunc"]).ok();
    let file =
        fs::metadata(ctr.data().join("containers").join(id).join("upper/tmp/f")).expect("what it wrote");
    assert_eq!((file.uid(), file.gid()), (5, 6), "the disk holds the image's ids");
    assert!(ctr.list("views").is_empty());
    let member = ctr.run(["cp", "c:/tmp/f", "-"]).exits(0);
    assert_eq!(support::names(member.bytes()), ["f"]);
    ctr.run(["rm", "c"]).ok();
    ctr.payload(&["--userns=nomap"], &["true"]).fails("rootless");
}

#[test]
fn entries_are_written_as_asked() {
    let ctr = Ctr::with_box(User::Rootless);
    let of = |options: &[&str], what: &str| ctr.script(options, what);
    assert_eq!(
        of(&["--user=4711"], "tail -n1 /etc/passwd; whoami"),
        "4711:*:4711:0:container user:/:/bin/sh\n4711"
    );
    assert_eq!(of(&["--user=4711:4712"], "tail -n1 /etc/group"), "4712:x:4712:4711");
    let entry = "--passwd-entry=$USERNAME:x:$UID:$GID:me:/h:/bin/sh";
    assert_eq!(
        of(&["--user=4711", entry], "tail -n1 /etc/passwd; echo $HOME"),
        "4711:x:4711:0:me:/h:/bin/sh\n/h"
    );
    assert_eq!(of(&["--user=4:5", "--group-entry=g:!:$GID:"], "tail -n1 /etc/group"), "g:!:5:");
    let daemon = of(&["--hostuser=daemon"], "grep -c ^daemon: /etc/passwd");
    assert_eq!(daemon, "1");
    assert_eq!(of(&["--user=1000"], "grep -c . /etc/passwd"), "3", "who is there already is not added");
    if User::all().contains(&User::Root) {
        let (uid, gid) = ids(&ctr);
        let group = gid + 77;
        let wrapper = [
            "setpriv",
            "--reuid",
            &uid.to_string(),
            "--regid",
            &gid.to_string(),
            "--groups",
            &group.to_string(),
        ]
        .map(str::to_owned);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let line = ["run", "--rm", "--network=none", "--group-add=keep-groups", "box", "id", "-G"];
        let said = ctr.outside(&wrapper, &line).output().expect("start setpriv");
        assert_eq!(
            String::from_utf8_lossy(&said.stdout).trim(),
            "0 65534",
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
}

#[test]
fn bad_maps_make_nothing() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.payload(&[], &["true"]).ok();
    let before = ctr.store();
    for (options, about) in [
        (&["--uidmap=0:0:70000"][..], "not all yours"),
        (&["--uidmap=0:@0:1"], "not all yours"),
        (&["--uidmap=0:0:10", "--uidmap=5:20:1"], "mapped twice"),
        (&["--uidmap=0:0:10", "--uidmap=10:5:1"], "mapped twice"),
        (&["--gidmap=0:0:0"], "no id at all"),
        (&["--uidmap=4294967295:0:1"], "beyond the last id"),
        (&["--uidmap=5:1:10"], "nobody could set it up"),
        (&["--userns=auto:size=100000"], "--userns=auto"),
        (&["--userns=auto:uidmapping=0:1:10:1"], "three fields"),
        (&["--userns=container:none"], "none"),
        (&["--userns=ns:/etc/passwd"], "/etc/passwd"),
        (&["--userns=keepid"], "no mode"),
        (&["--userns=keep-id:uid=root"], "no number"),
        (&["--subuidname=nobody-at-all"], "nobody-at-all"),
        (&["--userns=keep-id", "--uidmap=0:1:1"], "--uidmap"),
        (&["--hostuser=no-such-user"], "no-such-user"),
        (&["--group-add=keep-groups", "--group-add=staff"], "keep-groups"),
        (&["--uidmap=0:1:10", "--user=500"], "500"),
        (&["--userns=nomap", "--storage-driver=fuse-overlayfs"], "fuse-overlayfs"),
        (&["--uidmap=+70000:0:1", "--storage-driver=fuse-overlayfs"], "fuse-overlayfs"),
    ] {
        ctr.payload(options, &["true"]).fails(about);
    }
    let after = ctr.store();
    let new: Vec<&PathBuf> =
        after.keys().filter(|path| !before.contains_key(*path) && !path.starts_with("views")).collect();
    assert!(new.is_empty(), "{new:?}");
}
