//! Mounts whose files are seen with other ids (podman-run(1), `idmap`): root's alone, with and without a user namespace.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
};
use support::{Compression, Ctr, Layer, TestImage, User};

fn ground() -> Option<Ctr> {
    if !User::all().contains(&User::Root) {
        return None;
    }
    let files = Layer::new(Compression::Gzip)
        .dir("owned", 0o755)
        .owned_file("owned/root", "r", 0o600, 0, 0)
        .owned_file("owned/user", "u", 0o4750, 1000, 50);
    let ctr = Ctr::with_box(User::Root).with_image("owned", TestImage::new([Layer::busybox(), files]));
    let source = ctr.home().join("src");
    fs::create_dir(&source).expect("make it");
    fs::write(source.join("file"), "x").expect("write");
    chown(source.join("file"), Some(5), Some(6)).expect("chown");
    Some(ctr)
}

const NAMESPACE: [&str; 2] = ["--uidmap=0:200000:65536", "--user=0:0"];
const STAT: &str = "stat -c %u:%g /x/file; mkdir /x/new; chown 7:8 /x/new";

fn in_namespace(ctr: &Ctr, mounts: &[&str], script: &str) -> String {
    ctr.script(&[&NAMESPACE, mounts].concat(), script)
}

#[test]
fn directories_are_seen_with_the_containers_ids() {
    let Some(ctr) = ground() else { return };
    let source = ctr.home().join("src");
    let without = "stat -c %u:%g /x/file; mkdir /x/new 2>/dev/null || echo refused";
    assert_eq!(in_namespace(&ctr, &["-v", "./src:/x"], without), "65534:65534\nrefused");
    assert_eq!(in_namespace(&ctr, &["-v", "./src:/x:idmap"], STAT), "5:6");
    let made = fs::metadata(source.join("new")).expect("what it made");
    assert_eq!((made.uid(), made.gid()), (7, 8), "the disk holds the container's ids");
    fs::remove_dir(source.join("new")).expect("rmdir");
    // One file, and with options and a second start.
    let line = ["--name=c", "--network=none", "-v", "./src/file:/x/file:idmap,ro", "box", "sh", "-c"];
    let script = "stat -c %u:%g /x/file; echo y 2>/dev/null >/x/file || echo ro";
    let said = ctr.run([&["run"], &NAMESPACE[..], &line, &[script]].concat()).ok();
    assert_eq!((said, ctr.run(["start", "-a", "c"]).ok()), ("5:6\nro".to_owned(), "5:6\nro".to_owned()));
    ctr.payload(&["-v", "./src:/x:O,idmap"], &["true"]).fails("idmap");
}

#[test]
fn maps_are_of_the_hosts_ids_or_of_the_containers() {
    let Some(ctr) = ground() else { return };
    for (map, seen) in [
        ("uids=0-200100-10;gids=0-200200-10", "105:206"),
        ("uids=@0-100-10;gids=@0-100-5#@5-1000-5", "105:1001"),
        ("uids=@0-100-10;gids=0-200200-10", "105:206"),
    ] {
        let mount = format!("--mount=type=bind,src=./src,dst=/x,idmap={map}");
        assert_eq!(in_namespace(&ctr, &[&mount], "stat -c %u:%g /x/file"), seen, "{map}");
    }
    // Without a user namespace the container's are the host's.
    let mount = "./src:/x:ro,idmap=uids=@0-100-10;gids=0-7-10";
    assert_eq!(ctr.script(&["-v", mount], "stat -c %u:%g /x/file"), "105:13");
    for (mount, said) in [
        ("./src:/x:idmap=uids=@70000-70000-1;gids=0-0-1", "has not all of these ids"),
        ("./src:/x:idmap=uids=0-0-10#5-20-1;gids=0-0-1", "twice"),
        ("./src:/x:idmap,U", "choose one"),
        ("/proc:/x:idmap", "map the ids"),
    ] {
        let refused = ctr.payload(&[&NAMESPACE[..], &["-v", mount]].concat(), &["true"]).exits(125);
        refused.fails(said);
    }
    assert!(ctr.list("containers").is_empty());
}

#[test]
fn volumes_and_images_keep_their_ids_on_disk() {
    let Some(ctr) = ground() else { return };
    let stat = "stat -c '%n %u:%g %a' *";
    let seen = "root 0:0 600\nuser 1000:50 4750";
    let run = |mount: &[&str], script: &str| {
        let line =
            [&["run", "--rm", "--network=none"], &NAMESPACE[..], mount, &["owned", "sh", "-c", script]];
        ctr.run(line.concat()).ok()
    };
    for script in
        [&format!("cd /owned && {stat} && touch new"), "cd /owned && rm new && stat -c '%n %u:%g %a' *"]
    {
        assert_eq!(run(&["-v", "data:/owned:idmap"], script), seen);
    }
    let data = ctr.run(["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).ok();
    let user = fs::metadata(format!("{data}/user")).expect("what was copied");
    assert_eq!((user.uid(), user.gid()), (1000, 50));
    for (more, writes) in [("", "false"), (",rw=true", "true"), (",subpath=owned", "false")] {
        let mount = format!("--mount=type=image,src=owned,dst=/i{more}");
        let place = if more.contains("subpath") { "/i" } else { "/i/owned" };
        let script = format!("cd {place} && {stat} && (touch x 2>/dev/null && echo true || echo false)");
        assert_eq!(in_namespace(&ctr, &[&mount], &script), format!("{seen}\n{writes}"), "{mount}");
    }
    // With another map, also where there is no user namespace.
    let mount = "--mount=type=image,src=owned,dst=/i,idmap=uids=0-3000-2000;gids=0-4000-2000";
    assert_eq!(ctr.script(&[mount], "stat -c %u:%g /i/owned/user"), "4000:4050");
}
