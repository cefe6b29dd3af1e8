//! Volumes as each kind of user: made, filled, shared, removed with their containers or kept, exported and imported.

mod support;

use std::{fs, io::Write, os::unix::fs::MetadataExt, process::Stdio};
use support::{Compression, Ctr, Layer, Outcome, TestImage, User, feed};

/// An image with a directory of user 7, in it a file, a link, and a directory of odd mode.
fn filled() -> TestImage {
    let layer = Layer::new(Compression::Plain)
        .dir("data", 0o2751)
        .owned_file("data/file", "of the image", 0o640, 7, 8)
        .symlink("data/link", "file")
        .dir("data/dir", 0o1777);
    TestImage::new([Layer::busybox(), layer])
}

/// The same with `/data` and `/cache` as its VOLUMEs.
fn with_volumes() -> TestImage {
    filled().config(serde_json::json!({"Env": ["PATH=/bin"], "Volumes": {"/data": {}, "/cache": {}}}))
}

fn volumes(ctr: &Ctr) -> Vec<String> {
    ctr.run(["volume", "ls", "-q"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn made_listed_inspected_and_removed() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        assert_eq!(ctr.run(["volume", "create", "--label", "team=web", "-l", "x", "one"]).ok(), "one");
        let random = ctr.run(["volume", "create"]).ok();
        assert!(random.len() == 64 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{random}");
        ctr.run(["volume", "create", "one"]).fails("already exists").hints("--ignore");
        assert_eq!(ctr.run(["volume", "create", "--ignore", "one"]).ok(), "one");
        assert!(ctr.run(["volume", "ls"]).ok().starts_with("DRIVER      VOLUME NAME\nlocal       "));
        assert_eq!(ctr.run(["volume", "ls", "-q", "-f", "label=team=web"]).ok(), "one");
        assert_eq!(ctr.run(["volume", "ls", "--noheading", "-f", "name=^on"]).ok(), "local       one");
        assert_eq!(ctr.run(["volume", "ls", "-q", "-f", "dangling=false"]).ok(), "");
        let format = "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels.team}} {{.NeedsCopyUp}} {{.Mountpoint}}";
        let place = ctr.data().join("volumes/one/_data");
        assert_eq!(
            ctr.run(["volume", "inspect", "on", "--format", format]).ok(),
            format!("one local local web true {}", place.display())
        );
        assert_eq!(ctr.run(["volume", "mount", "one"]).ok(), place.display().to_string());
        assert_eq!(ctr.run(["volume", "unmount", "one"]).ok(), "one");
        for dir in ["volumes", "volumes/one"] {
            assert_eq!(fs::metadata(ctr.data().join(dir)).expect("stat").mode() & 0o7777, 0o700, "{dir}");
        }
        assert_eq!(ctr.run(["volume", "exists", "one"]).code(), 0);
        assert_eq!(ctr.run(["volume", "exists", "two"]).code(), 1);
        ctr.run(["volume", "rm", "two"]).exits(1);
        ctr.run(["volume", "rm", "-f", "two"]).ok();
        ctr.run(["volume", "inspect", "two"]).exits(125);
        ctr.run(["volume", "prune"]).fails("nobody is there to be asked");
        assert_eq!(ctr.run(["volume", "prune", "-f", "--filter", "label!=team"]).ok(), random);
        assert_eq!(ctr.run(["volume", "rm", "-a"]).ok(), "one");
        assert!(volumes(&ctr).is_empty() && ctr.list("trash").is_empty(), "as {user:?}");
    }
}

#[test]
fn names_and_options_that_cannot_be() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        let long = "x".repeat(65_536);
        for name in ["..", ".", "../x", "a/b", "", "-", "a\nb", "a b", "/etc", "ä", &long] {
            ctr.run(["volume", "create", "--", name]).fails("name");
            assert_ne!(ctr.run(["volume", "rm", "--", name]).code(), 0, "{name:?}");
            assert_ne!(ctr.run(["volume", "export", "--", name]).code(), 0, "{name:?}");
        }
        for (options, said) in [
            (&["--driver", "nfs"][..], "nfs"),
            (&["-o", "o=size=1g"], "quota"),
            (&["-o", "bogus=1"], "bogus"),
            (&["-o", "type"], "--opt"),
            (&["-o", "o=bind", "-o", "device=/nonexistent"], "no such directory"),
            (&["-o", "o=uid=x"], "no number"),
            (&["--label", "=x"], "--label"),
        ] {
            ctr.run([&["volume", "create"], options, &["v"]].concat()).fails(said);
        }
        if user != User::Root {
            ctr.run(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "v"]).fails("only root");
        }
        assert!(volumes(&ctr).is_empty(), "as {user:?}");
    }
}

#[test]
fn the_first_container_fills_it() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user).with_image("filled", filled());
        let run =
            |options: &[&str], script: &str| ctr.payload_of("filled", options, &["sh", "-c", script]).ok();
        let list = "stat -c '%n %a %u:%g' . file dir; readlink link; cat file";
        let in_image = run(&["-w", "/data"], list);
        assert_eq!(run(&["-v", "v:/data", "-w", "/data"], list), in_image, "as {user:?}");
        run(&["-v", "v:/data"], "rm /data/file; echo more > /data/dir/more");
        assert_eq!(
            run(&["-v", "v:/data"], "ls /data /data/dir | tr '\\n' ' '"),
            "/data: dir link  /data/dir: more "
        );
        assert_eq!(
            run(&["-v", "plain:/data:nocopy"], "ls /data | wc -l; stat -c %a /data"),
            "0\n2751",
            "as {user:?}"
        );
        // What somebody has put there before is left alone.
        ctr.run(["volume", "create", "mine"]).ok();
        let place = ctr.data().join("volumes/mine/_data/file");
        fs::write(&place, "mine").expect("write");
        assert_eq!(run(&["-v", "mine:/data"], "ls /data; stat -c %s /data/file"), "file\n4", "as {user:?}");
    }
}

#[test]
fn a_place_that_no_image_has_is_the_users() {
    let ctr = Ctr::with_box(User::Rootless);
    assert_eq!(
        ctr.script(&["-u", "1000:50", "-v", "v:/new"], "stat -c %u:%g /new; touch /new/x && echo ok"),
        "1000:50\nok"
    );
    // Once is enough.
    assert_eq!(ctr.script(&["-u", "65534", "-v", "v:/new"], "stat -c %u:%g /new"), "1000:50");
}

#[test]
fn of_many_first_containers_one_fills_it() {
    let big = (0..200).fold(Layer::new(Compression::Gzip).dir("data", 0o755), |layer, number| {
        layer.file(&format!("data/{number}"), vec![b'x'; 20_000])
    });
    let ctr = Ctr::with_box(User::Rootless).with_image("big", TestImage::new([Layer::busybox(), big]));
    let line = ["run", "--rm", "--network=none", "-v", "v:/data", "big", "sh", "-c", "cat /data/* | wc -c"];
    let start =
        || ctr.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start ctr");
    let running: Vec<_> = (0..5).map(|_| start()).collect();
    for child in running {
        let output = child.wait_with_output().expect("wait");
        assert_eq!(Outcome::new("one of five".to_owned(), output).ok(), "4000000");
    }
}

#[test]
fn one_whose_filling_was_killed_is_filled_again() {
    let ctr = Ctr::with_box(User::Rootless).with_image("filled", filled());
    ctr.run(["volume", "create", "v"]).ok();
    // What a container that died half-way has left.
    let place = ctr.data().join("volumes/v");
    ctr.file("data/ctr/volumes/v/_data/dir/half", "x").file("data/ctr/volumes/v/fresh", "1");
    let said =
        ctr.payload_of("filled", &["-v", "v:/data"], &["sh", "-c", "ls /data /data/dir | tr '\\n' ' '"]).ok();
    assert_eq!(said, "/data: dir file link  /data/dir: ");
    assert!(!place.join("fresh").exists());
}

#[test]
fn those_without_a_name_go_with_their_container() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user).with_image("volumes", with_volumes());
        let run =
            |options: &[&str], script: &str| ctr.payload_of("volumes", options, &["sh", "-c", script]).ok();
        assert_eq!(
            run(&["-v", "/more"], "grep -c -E ' /(data|cache|more) ' /proc/mounts; cat /data/file"),
            "3\nof the image"
        );
        assert!(volumes(&ctr).is_empty(), "--rm, as {user:?}");
        ctr.run(["create", "--name", "a", "-v", "kept:/more", "volumes", "true"]).ok();
        assert_eq!(volumes(&ctr).len(), 3);
        ctr.run(["rm", "a"]).ok();
        assert_eq!(volumes(&ctr).len(), 3, "Podman's rm keeps them");
        ctr.run(["volume", "prune", "-f"]).ok();
        ctr.run(["create", "--name", "a", "-v", "kept:/more", "volumes", "true"]).ok();
        ctr.run(["rm", "-v", "a"]).ok();
        assert_eq!(volumes(&ctr), ["kept"], "as {user:?}");
        // A start that fails leaves none.
        ctr.payload_of("volumes", &[], &["/no/such/command"]).exits(127);
        ctr.run(["run", "--network=none", "volumes", "/no/such/command"]).exits(127);
        assert_eq!(volumes(&ctr), ["kept"], "as {user:?}");
    }
}

#[test]
fn what_becomes_of_an_images_volumes() {
    let ctr = Ctr::with_box(User::Rootless).with_image("volumes", with_volumes());
    ctr.file("src/mine", "mine");
    let run = |options: &[&str], script: &str| ctr.payload_of("volumes", options, &["sh", "-c", script]).ok();
    let kinds = "grep -E ' /(data|cache) ' /proc/mounts | cut -d' ' -f2,3 | sort";
    assert_eq!(
        run(&["--image-volume=tmpfs"], &format!("{kinds}; cat /data/file")),
        "/cache tmpfs\n/data tmpfs\nof the image"
    );
    assert_eq!(
        run(&["--image-volume=ignore"], &format!("{kinds}; cat /data/file; ls -d /cache")),
        "of the image/cache"
    );
    assert_eq!(run(&["-v", "./src:/data"], "ls /data"), "mine");
    assert_eq!(run(&["--tmpfs", "/data:notmpcopyup"], "ls /data | wc -l"), "0");
    assert_eq!(run(&["--read-only"], "touch /cache/x && echo writable"), "writable");
}

#[test]
fn a_volume_in_use_stays() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        let id = ctr.run(["create", "--name", "c", "-v", "v:/x:ro", "box", "true"]).ok();
        ctr.run(["volume", "rm", "v"]).exits(2).hints("rm -f");
        assert!(ctr.run(["volume", "rm", "v"]).stderr().contains(&id));
        assert_eq!(ctr.run(["volume", "prune", "-f"]).ok(), "");
        assert_eq!(ctr.run(["ps", "-aq", "--no-trunc", "--filter", "volume=v"]).ok(), id);
        assert_eq!(ctr.run(["ps", "-aq", "--filter", "volume=/x"]).ok(), &id[..12]);
        assert_eq!(ctr.run(["ps", "-aq", "--filter", "volume=w"]).ok(), "");
        let mount = ctr.run(["inspect", "c", "-f", "{{json (index .Mounts 0)}}"]).ok();
        let mount: serde_json::Value = serde_json::from_str(&mount).expect("JSON");
        let place = ctr.data().join("volumes/v/_data");
        let expected = serde_json::json!({
            "Type": "volume", "Name": "v", "Source": place, "Destination": "/x", "Driver": "local", "Mode": "",
            "Options": ["nosuid", "nodev", "rbind"], "RW": false, "Propagation": "rprivate",
        });
        assert_eq!(mount, expected);
        assert_eq!(
            ctr.run(["inspect", "c", "-f", "{{.HostConfig.Binds}}"]).ok(),
            "[v:/x:ro,rprivate,nosuid,nodev,rbind]"
        );
        assert_eq!(ctr.run(["volume", "rm", "-f", "v"]).ok(), "v");
        assert!(ctr.list("containers").is_empty() && volumes(&ctr).is_empty(), "as {user:?}");
    }
}

#[test]
fn the_system_prunes_and_resets_them_too() {
    let ctr = Ctr::with_box(User::Rootless);
    ctr.run(["volume", "create", "--label", "keep", "kept"]).ok();
    ctr.run(["create", "--name", "c", "-v", "used:/x", "-v", "/anon", "box", "true"]).ok();
    ctr.run(["volume", "create", "unused"]).ok();
    ctr.run(["system", "prune", "-f", "--filter", "label!=keep"]).ok();
    assert!(volumes(&ctr).contains(&"unused".to_owned()), "not without --volumes");
    let said = ctr.run(["system", "prune", "-f", "--volumes", "--filter", "label!=keep"]).ok();
    assert!(said.contains("Deleted Volumes") && volumes(&ctr) == ["kept"], "{said}");
    ctr.run(["system", "check"]).ok();
    ctr.run(["system", "reset", "-f"]).ok();
    assert!(volumes(&ctr).is_empty());
}

#[test]
fn shared_with_other_containers() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.file("src/file", "of the host");
        ctr.run([
            "create",
            "--name",
            "c",
            "-v",
            "v:/v",
            "-v",
            "/anon",
            "-v",
            "./src:/s",
            "--tmpfs=/t",
            "box",
            "true",
        ])
        .ok();
        let run = |options: &[&str], script: &str| ctr.payload(options, &["sh", "-c", script]).ok();
        run(
            &["--volumes-from", "c"],
            "echo shared > /v/file; echo too > /anon/file; grep -c ' /t ' /proc/mounts || true",
        );
        let script = "cat /v/file /anon/file /s/file; touch /v/x 2>/dev/null || echo read-only";
        assert_eq!(
            run(&["--volumes-from", "c:ro"], script),
            "shared\ntoo\nof the hostread-only",
            "as {user:?}"
        );
        assert_eq!(run(&["--volumes-from", "c", "-v", "other:/v"], "ls /v | wc -l"), "0");
        // Whoever shares it last takes it along, not before.
        ctr.run(["create", "--name", "d", "--volumes-from", "c", "box", "true"]).ok();
        let anonymous = || volumes(&ctr).into_iter().filter(|name| name.len() == 64).count();
        ctr.run(["rm", "-v", "c"]).ok();
        assert_eq!(anonymous(), 1);
        ctr.run(["rm", "-v", "d"]).ok();
        assert_eq!(anonymous(), 0, "as {user:?}");
    }
}

#[test]
fn a_place_in_a_volume() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.file("secret", "of the host");
        let to_host = ctr.home().join("secret").display().to_string();
        ctr.script(
            &["-v", "v:/v"],
            &format!("mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s {to_host} /v/out; ln -s a /v/in"),
        );
        let mount = |subpath: &str| format!("type=volume,src=v,dst=/x,subpath={subpath}");
        assert_eq!(ctr.script(&["--mount", &mount("a/b")], "cat /x/f"), "deep");
        assert_eq!(ctr.script(&["--mount", &mount("a/b/f")], "cat /x"), "deep");
        for bad in ["out", "in/b", "none"] {
            ctr.payload(&["--mount", &mount(bad)], &["cat", "/x"]).fails("/v/");
        }
        ctr.payload(&["--mount", &mount("../x")], &["true"]).fails("..");
    }
}

#[test]
fn out_and_in_as_an_archive() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user).with_image("filled", filled());
        ctr.payload_of("filled", &["-v", "v:/data"], &["true"]).ok();
        let archive = ctr.run(["volume", "export", "v"]).exits(0).bytes().to_vec();
        assert_eq!(support::names(&archive), ["dir/", "file", "link"], "as {user:?}");
        ctr.run(["volume", "export", "-o", "v.tar", "v"]).ok();
        assert_eq!(fs::read(ctr.home().join("v.tar")).expect("it is there"), archive);
        ctr.run(["volume", "create", "w"]).ok();
        ctr.run(["volume", "import", "w", "v.tar"]).ok();
        let list = "stat -c '%n %a %u:%g' file dir; readlink link; cat file";
        let of = |name: &str| {
            ctr.payload_of("filled", &["-v", &format!("{name}:/data"), "-w", "/data"], &["sh", "-c", list])
                .ok()
        };
        assert_eq!(of("w"), of("v"), "as {user:?}");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&archive).expect("compress");
        let packed = packed.finish().expect("compress");
        feed(ctr.command(["volume", "import", "w", "-"]), &packed).ok();
        ctr.run(["volume", "import", "nope", "v.tar"]).exits(1);
        feed(ctr.command(["volume", "import", "w", "-"]), b"no archive at all").fails("archive");
        feed(ctr.command(["volume", "import", "w", "-"]), b"").fails("empty");
    }
}

#[test]
fn root_mounts_what_a_volume_is() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let ctr = Ctr::with_box(User::Root);
    ctr.run(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,noexec", "v"])
        .ok();
    ctr.script(&["-v", "v:/x"], "echo in memory > /x/file");
    let said = ctr.script(&["-v", "v:/x"], "cat /x/file; grep -o size=1024k /proc/mounts");
    assert_eq!(said, "in memory\nsize=1024k");
    let place = ctr.run(["volume", "mount", "v"]).ok();
    assert!(fs::read_to_string("/proc/mounts").expect("mounts").contains(&place));
    ctr.run(["volume", "rm", "v"]).ok();
    assert!(!fs::read_to_string("/proc/mounts").expect("mounts").contains(&place));
}

#[test]
fn one_that_stands_for_a_directory() {
    for &user in User::all() {
        let ctr = Ctr::with_box(user);
        ctr.file("src/file", "of the host").file("fresh", "the user's own");
        let device = format!("device={}", ctr.home().join("src").display());
        ctr.run(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "v"]).ok();
        assert_eq!(ctr.script(&["-v", "v:/x"], "cat /x/file"), "of the host", "as {user:?}");
        ctr.run(["volume", "rm", "v"]).ok();
        assert!(ctr.home().join("src/file").exists() && ctr.home().join("fresh").exists());
        if user != User::Single {
            ctr.run(["volume", "create", "-o", "o=uid=1000,gid=50", "w"]).ok();
            assert_eq!(ctr.script(&["-v", "w:/x"], "stat -c %u:%g /x"), "1000:50", "as {user:?}");
        }
    }
}
