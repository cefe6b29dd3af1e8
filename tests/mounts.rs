//! `--volume`, `--mount`, `--tmpfs` and `--device` of `ctr run`, as each kind of user: what of the host is seen inside, in which
//! order, with which rights; and what is refused.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};
use support::{Compression, Ctr, Layer, TestImage, User};

/// A home with `src/file` and `src/sub/deep`.
fn ground(user: User) -> Ctr {
    let ctr = Ctr::with_box(user);
    ctr.file("src/file", "of the host").file("src/sub/deep", "deep").file("other", "another");
    ctr
}

fn home(ctr: &Ctr, path: &str) -> String {
    ctr.home().join(path).display().to_string()
}

#[test]
fn directories_and_files_of_the_host() {
    for &user in User::all() {
        let ctr = ground(user);
        let said = ctr.script(
            &["-v", "./src:/deep/er/a:ro", "-v", &format!("{}:/etc/f", home(&ctr, "src/file"))],
            "cat /deep/er/a/file /etc/f; touch /deep/er/a/x 2>/dev/null || echo no; echo new > /etc/f; id -u",
        );
        assert_eq!(said, "of the hostof the hostno\n0", "as {user:?}");
        let file = ctr.home().join("src/file");
        assert_eq!(fs::read_to_string(&file).expect("read"), "new\n", "as {user:?}");
        ctr.script(&["--mount", "type=bind,src=src,dst=/a"], "echo mine > /a/mine");
        // What root of the container makes is the user's.
        let uid = ctr.user().ids().map_or(0, |(uid, _)| uid);
        assert_eq!(fs::metadata(ctr.home().join("src/mine")).expect("made").uid(), uid, "as {user:?}");
    }
}

#[test]
fn the_inner_of_two_places_is_mounted_last() {
    for &user in User::all() {
        let ctr = ground(user);
        let said = ctr.script(
            &["-v", "./other:/a/b/c", "--tmpfs", "/a/b", "-v", "./src:/a", "-v", "./src/sub:/a/sub/x"],
            "cat /a/file /a/b/c /a/sub/x/deep; grep -c ' /a' /proc/mounts",
        );
        assert_eq!(said, "of the hostanotherdeep4", "as {user:?}");
    }
}

#[test]
fn rights_of_a_mount() {
    let ctr = ground(User::Rootless);
    fs::set_permissions(ctr.home().join("src/file"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let options = |option: &str, target: &str| {
        let volume = format!("./src:{target}:{option}");
        ctr.script(&["-v", &volume], &format!("grep ' {target} ' /proc/mounts"))
    };
    for (option, word, there) in [
        ("noexec", "noexec", true),
        ("nosuid,nodev", "nosuid,nodev", true),
        ("rw", "noexec", false),
        ("z,ro", "ro", true),
        ("Z,private,bind", "ro,", false),
    ] {
        let said = options(option, "/a");
        assert_eq!(
            said.split(' ').nth(3).is_some_and(|words| words.contains(word)),
            there,
            "{option}: {said}"
        );
    }
    let csv = format!("type=bind,\"source={}\",target=/a,readonly=true", home(&ctr, "src"));
    assert!(ctr.script(&["--mount", &csv], "grep ' /a ' /proc/mounts").contains(" ro,"));
}

#[test]
fn what_lies_in_the_way_of_a_place_leads_nowhere() {
    for &user in User::all() {
        let ctr = ground(user).with_image("links", TestImage::new([Layer::busybox(), of_links()]));
        let mark = format!("ctr-mark-{}", std::process::id());
        let volumes =
            [format!("./src:/up/{mark}"), "./src:/abs/in".to_owned(), "./other:/etc/dangling".to_owned()];
        let line: Vec<&str> = volumes.iter().flat_map(|volume| ["-v", volume.as_str()]).collect();
        let script = format!("cat /tmp/{mark}/file /srv/real/in/file /etc/dangling");
        let said = ctr.payload_of("links", &line, &["sh", "-c", &script]).ok();
        assert_eq!(said, "of the hostof the hostanother", "as {user:?}");
        assert!(!Path::new("/tmp").join(&mark).exists());
    }
}

/// Links to places outside of a root, within it, and to nothing.
fn of_links() -> Layer {
    Layer::new(Compression::Plain)
        .symlink("up", "../../../../../../../../tmp")
        .symlink("abs", "/srv/real")
        .symlink("etc/dangling", "/nowhere/at/all")
        .dir("srv/real", 0o755)
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_made() {
    for &user in User::all() {
        let ctr = ground(user);
        let before = (ctr.list("containers"), ctr.list("volumes"));
        for (options, said) in [
            (&["-v", "./nope:/x"][..], "no such file"),
            (&["-v", "./src:x"], "absolute"),
            (&["-v", "./src:/x:ro,rw"], "rw|ro"),
            (&["-v", "./src:/x:bogus"], "bogus"),
            (&["-v", "./src:/x", "-v", "./other:/x"], "duplicate mount destination"),
            (&["-v", "./src:/x", "--tmpfs", "/x"], "duplicate mount destination"),
            (&["--mount", "type=tmpfs,dst=/x", "--tmpfs", "/x/."], "duplicate mount destination"),
            (&["-v", "./src:/"], "container's own"),
            (&["-v", "./src:/proc"], "container's own"),
            (&["-v", "./src:/a/../b"], ".."),
            (&["-v", "a/b:/x"], "not a name"),
            (&["-v", "..a\n:/x"], "no such file"),
            (&["-v", "v\n:/x"], "not a name"),
            (&["--mount", "type=bind,src=src,dst=/x,foo=1"], "foo"),
            (&["--mount", "type=weird,dst=/x"], "weird"),
            (&["--mount", "type=image,src=box2,dst=/x"], "no image"),
            (&["--mount", "type=volume,src=v,dst=/x,no-dereference"], "no-dereference"),
            (&["--mount", "type=glob,src=src/none*"], "no file paths"),
            (&["-v", "/etc:/x:U"], "not allowed"),
            (&["-v", "./other:/x:O"], "no directory"),
            (&["--volumes-from", "nobody"], "nobody"),
            (&["--image-volume", "maybe"], "--image-volume"),
            (&["--device", "vendor.com/class=none"], "CDI"),
            (&["--hosts-file", "/nonexistent"], "--hosts-file"),
        ] {
            ctr.payload(options, &["true"]).fails(said);
        }
        if user != User::Root {
            ctr.payload(&["-v", "./src:/x:idmap"], &["true"]).fails("only root");
            ctr.payload(&["--mount", "type=ramfs,dst=/x"], &["true"]).fails("only root");
        }
        assert_eq!((ctr.list("containers"), ctr.list("volumes")), before, "as {user:?}");
    }
}

#[test]
fn a_source_that_vanishes_is_named() {
    for &user in User::all() {
        let ctr = ground(user);
        ctr.run(["create", "--name", "c", "-v", "./src/sub:/x", "box", "true"]).ok();
        fs::remove_dir_all(ctr.home().join("src/sub")).expect("remove");
        ctr.run(["start", "c"]).fails("src/sub").hints("mkdir");
        fs::create_dir(ctr.home().join("src/sub")).expect("make it again");
        ctr.run(["start", "c"]).ok();
    }
}

#[test]
fn only_a_group_gives_the_right() {
    let ctr = ground(User::Rootless);
    let Some((uid, _)) = ctr.user().ids() else { return };
    let shared = ctr.home().join("shared");
    fs::create_dir(&shared).expect("make it");
    fs::write(shared.join("file"), "for the group").expect("write");
    std::os::unix::fs::chown(&shared, Some(0), Some(4242)).expect("chown");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o750)).expect("chmod");
    // The way to the source, not what is in it: that the container's own ids decide.
    let inner = shared.join("open");
    fs::create_dir(&inner).expect("make it");
    fs::write(inner.join("file"), "reached").expect("write");
    let run = |groups: &str| {
        let reuid = uid.to_string();
        let wrapper = ["setpriv", "--reuid", &reuid, "--regid", &reuid, "--groups", groups, "--"];
        let mut command = ctr.outside(
            &wrapper,
            &["run", "--rm", "--network=none", "-v", "./shared/open:/x", "box", "cat", "/x/file"],
        );
        command.output().expect("start ctr")
    };
    assert_eq!(String::from_utf8_lossy(&run("4242").stdout), "reached");
    let refused = run("4243");
    assert_eq!(refused.status.code(), Some(125), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn overlays_keep_the_source_as_it_is() {
    for &user in User::all() {
        let ctr = ground(user);
        let script = "echo x > /o/file; rm /o/sub/deep; ls /o /o/sub | tr '\\n' ' '";
        ctr.run(["run", "--name", "c", "--network=none", "-v", "./src:/o:O", "box", "sh", "-c", script]).ok();
        assert_eq!(fs::read_to_string(ctr.home().join("src/file")).expect("read"), "of the host");
        // What was written is gone at the next start.
        let again = ctr.run(["start", "-a", "c"]).ok();
        assert_eq!(again, "/o: file sub  /o/sub: ", "as {user:?}");
        ctr.file("up/.keep", "").file("work/.keep", "");
        fs::remove_file(ctr.home().join("work/.keep")).expect("rm");
        let volume = format!("./src:/o:O,upperdir={},workdir={}", home(&ctr, "up"), home(&ctr, "work"));
        ctr.script(&["-v", &volume], "echo kept > /o/kept");
        assert_eq!(fs::read_to_string(ctr.home().join("up/kept")).expect("it is kept"), "kept\n");
        assert!(!ctr.home().join("src/kept").exists());
    }
}

#[test]
fn files_of_an_image() {
    for &user in User::all() {
        let other = TestImage::new([
            Layer::new(Compression::Gzip).file("srv/a", "a").file("srv/gone", "x"),
            Layer::new(Compression::Gzip).file("srv/.wh.gone", "").file("srv/b", "b"),
        ]);
        let ctr = ground(user).with_image("files", other);
        let run = |mount: &str, script: &str| ctr.payload(&["--mount", mount], &["sh", "-c", script]);
        assert_eq!(
            run("type=image,src=files,dst=/i", "ls /i/srv; touch /i/x 2>/dev/null || echo ro").ok(),
            "a\nb\nro"
        );
        assert_eq!(run("type=image,src=files,dst=/i,rw=true", "touch /i/srv/x && ls /i/srv").ok(), "a\nb\nx");
        assert_eq!(run("type=image,src=files,dst=/i,subpath=srv", "cat /i/b").ok(), "b");
        run("type=image,src=files,dst=/i,subpath=none", "true").fails("overlay");
        // As long as the container is there, the image's layers are.
        ctr.run([
            "create",
            "--name",
            "c",
            "--mount",
            "type=image,src=files,dst=/i",
            "box",
            "cat",
            "/i/srv/b",
        ])
        .ok();
        ctr.run(["rmi", "-f", "files"]).ok();
        assert_eq!(ctr.run(["start", "-a", "c"]).ok(), "b", "as {user:?}");
    }
}

#[test]
fn memory_terminals_and_globs() {
    for &user in User::all() {
        let ctr = ground(user);
        let said = ctr.script(
            &["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700,U=true"],
            "grep -o 'size=1024k' /proc/mounts; stat -c %a /t",
        );
        assert_eq!(said, "size=1024k\n700", "as {user:?}");
        let said = ctr.script(&["--mount", "type=devpts,dst=/dev/pts,max=10"], "grep -o max=10 /proc/mounts");
        assert_eq!(said, "max=10", "as {user:?}");
        let said = ctr.script(&["--mount", "type=glob,src=src/f*,dst=/g,ro"], "ls /g; touch /g/file || true");
        assert_eq!(said, "file", "as {user:?}");
        let said =
            ctr.script(&["--read-only", "--read-only-tmpfs=false"], "touch /tmp/x 2>/dev/null || echo no");
        assert_eq!(said, "no", "as {user:?}");
    }
}

#[test]
fn links_stay_links_where_that_is_asked_for() {
    for &user in User::all() {
        let ctr = ground(user);
        for (link, to) in [("link", "src/file"), ("dangling", "/nowhere")] {
            std::os::unix::fs::symlink(to, ctr.home().join(link)).expect("make a link");
        }
        let mount =
            |source: &str, dst: &str| format!("--mount=type=bind,src={source},dst={dst},no-dereference");
        let mounts =
            [mount("link", "/new/link"), mount("dangling", "/dangling"), mount("src/file", "/plain")];
        let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
        let script = "readlink /new/link; readlink /dangling; cat /plain";
        assert_eq!(ctr.script(&mounts, script), "src/file\n/nowhere\nof the host", "as {user:?}");
        // Again in what the first start has left; and followed without it.
        let line = ["run", "--name=c", "--network=none", mounts[0], "box", "readlink", "/new/link"];
        assert_eq!(
            (ctr.run(line).ok(), ctr.run(["start", "-a", "c"]).ok()),
            ("src/file".into(), "src/file".into())
        );
        assert_eq!(ctr.script(&["-v", "./link:/x"], "cat /x"), "of the host");
        ctr.payload(&["-v", "./dangling:/x"], &["true"]).fails("no such file");
        ctr.payload(&[&mount("link", "/bin/sh")], &["true"]).exits(125).fails("File exists");
    }
}

#[test]
fn files_given_to_the_containers_user() {
    for &user in User::all() {
        let ctr = ground(user);
        let (uid, who) = if user == User::Single { (0, "0:0") } else { (1000, "1000:50") };
        let outside = ctr.home().join("outside");
        fs::write(&outside, "not to be given").expect("write");
        let link = ctr.home().join("src/link");
        symlink(&outside, &link).expect("link");
        if let Some((uid, gid)) = ctr.user().ids() {
            std::os::unix::fs::lchown(&link, Some(uid), Some(gid)).expect("chown");
        }
        let said =
            ctr.script(&["-u", who, "-v", "./src:/x:U,ro"], "stat -c %u /x /x/sub /x/sub/deep /x/link");
        assert_eq!(said, format!("{uid}\n{uid}\n{uid}\n{uid}"), "as {user:?}");
        if rustix::process::getuid().is_root() {
            assert_eq!(fs::metadata(&outside).expect("stat").uid(), 0, "through a link, as {user:?}");
        }
    }
}

#[test]
fn root_shares_mounts_and_shows_other_ids() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = ground(User::Root);
    // Below a shared mount of the test's own, in a mount namespace of its own.
    let inside = |script: &str, options: &str| {
        let ctr_line = ctr.command(["run", "--rm", "--network=none", "--privileged"]);
        let line: Vec<_> = ctr_line.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let program = ctr_line.get_program().to_string_lossy().into_owned();
        let script = format!(
            "cd {}; mount --bind src src; mount --make-shared src; {program} {} -v ./src:/x:{options} box sh -c 'mount -t tmpfs none /x/sub && touch /x/sub/seen'; ls src/sub",
            ctr.home().display(),
            line.join(" "),
        ) + script;
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .envs(ctr_line.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .output()
            .expect("start it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(inside("", "rshared").trim(), "seen");
    assert_eq!(inside("", "rprivate").trim(), "deep");
    assert_eq!(inside("", "rslave").trim(), "deep");
    std::os::unix::fs::chown(ctr.home().join("src/file"), Some(7), Some(8)).expect("chown");
    let said = ctr.script(&["-v", "./src:/x:idmap=uids=0-1000-10;gids=0-2000-10"], "stat -c %u:%g /x/file");
    assert_eq!(said, "1007:2008");
    let said = ctr.script(
        &["--mount", "type=ramfs,dst=/x,tmpfs-mode=0711"],
        "stat -c %a /x; grep -c ramfs /proc/mounts",
    );
    assert_eq!(said, "711\n1");
}

#[test]
fn devices_by_node_by_directory_and_by_vendor() {
    for &user in User::all() {
        let ctr = ground(user);
        let specification = serde_json::json!({
            "cdiVersion": "0.6.0", "kind": "vendor.com/class",
            "devices": [{"name": "one", "containerEdits": {
                "env": ["FROM_CDI=yes"],
                "deviceNodes": [{"path": "/dev/of-vendor", "hostPath": "/dev/zero"}],
                "mounts": [{"hostPath": ctr.home().join("src"), "containerPath": "/opt/driver", "options": ["ro", "bind"]}],
            }}, {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/sh"}]}}],
        });
        ctr.file("cdi/vendor.json", specification.to_string());
        let cdi = ["--cdi-spec-dir", "cdi", "--device"];
        let said = ctr.script(
            &[&cdi[..], &["vendor.com/class=one"]].concat(),
            "head -c 1 /dev/of-vendor | wc -c; cat /opt/driver/file; echo $FROM_CDI",
        );
        assert_eq!(said, "1\nof the hostyes", "as {user:?}");
        ctr.payload(&[&cdi[..], &["vendor.com/class=hooked"]].concat(), &["true"]).fails("hooks");
        let outcome = ctr.payload(&["--device", "/dev/zero:/dev/mine:r"], &["head", "-c", "1", "/dev/mine"]);
        assert!(outcome.stderr().contains("no cgroup"), "{outcome}");
        outcome.ok();
    }
}

#[test]
fn what_etc_hosts_begins_with() {
    let layer = Layer::new(Compression::Plain).file("etc/hosts", "10.9.9.9 of-image\n");
    let ctr = ground(User::Rootless).with_image("hosts", TestImage::new([Layer::busybox(), layer]));
    ctr.file("base", "10.1.1.1 of-user");
    let first = |option: &str| {
        let option = format!("--hosts-file={option}");
        let said = ctr.payload_of("hosts", &[&option], &["cat", "/etc/hosts"]).ok();
        assert!(said.contains("localhost"), "{said}");
        said.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(first("base"), "10.1.1.1 of-user");
    assert_eq!(first("image"), "10.9.9.9 of-image");
    assert!(first("none").starts_with("127.0.0.1"));
}
