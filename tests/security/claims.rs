//! Rows 6, 8 and 9: what an image and its files claim about users, the environment and policy, and what becomes of it.

use crate::{
    support::{Ctr, Layer, Registry, TestImage, User},
    words,
};
use std::{fs, path::Path};

/// What id(1) says, without a look into /etc/passwd.
const IDS: &str = "stat -Lc %u /proc/self; stat -Lc %g /proc/self; echo \"[$HOME]\"";

#[test]
fn users_of_a_hostile_file() {
    for &user in User::all() {
        let ctr = Ctr::new(user);
        let root = ctr.rootfs("root");
        ctr.file("root/etc/group", "app:x:7:\n");
        let passwd = root.join("etc/passwd");
        let root = root.display().to_string();
        let run = |who: &str| {
            ctr.run(["run", "--rm", "--network=none", "--rootfs", "-u", who, &root, "sh", "-c", IDS])
        };
        let own = |path: &Path| {
            if let Some((uid, gid)) = ctr.user().ids() {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
            }
        };
        let other = if user == User::Single { "0" } else { "5" };
        let started = std::time::Instant::now();

        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, rustix::fs::Mode::RWXU).expect("make a FIFO");
        own(&passwd);
        run("app").fails("not in the image's /etc/passwd");
        let outcome = run(other);
        assert!(outcome.stdout().starts_with(&format!("{other}\n0\n")), "as {user:?}: {outcome}");
        fs::remove_file(&passwd).expect("remove the FIFO");

        let lines = "minus:x:-1:0::/:\nbig:x:4294967296:0::/:\nhuge:x:4294967295:0::/:\nhex:x:0x0:0::/:\nempty:x:::/:\n\
            root:x:0:0:root:/ro\rot\u{1b}[31m:/bin/sh\nsplit:x:0:0::/home\nSECRET=1:/bin/sh\n";
        ctr.file("root/etc/passwd", lines);
        for name in [
            "minus",
            "big",
            "huge",
            "hex",
            "empty",
            "-1",
            "4294967296",
            "4294967295",
            "0x0",
            "0:4294967295",
            "SECRET=1",
        ] {
            run(name).exits(125);
        }
        assert_eq!(run("root").ok(), "0\n0\n[/root]", "a home of control characters is none, as {user:?}");
        assert_eq!(run("split").ok(), "0\n0\n[/home]", "as {user:?}");

        fs::File::options()
            .write(true)
            .open(&passwd)
            .and_then(|file| file.set_len(2 << 30))
            .expect("make it huge");
        let line = ["run", "--rm", "--network=none", "--rootfs", "-u", "split", &root, "sh", "-c", IDS];
        let output = ctr.wrapped(&["prlimit", "--data=67108864", "--"], &line).output().expect("start ctr");
        assert_eq!(words(&output), "exit status: 0\n0\n0\n[/home]\n\n", "as {user:?}");
        assert!(started.elapsed().as_secs() < 60, "nothing was waited for, as {user:?}");
    }
}

#[test]
fn users_that_an_image_names() {
    let ctr = Ctr::new(User::Rootless).with_hub();
    for (number, name) in
        ["4294967296", "-1", "0x0", "nobody2", "root:nogroup2", "a\nb", "1000:-1"].into_iter().enumerate()
    {
        let image = format!("user{number}");
        let config = serde_json::json!({ "Env": ["PATH=/bin"], "User": name });
        TestImage::new([Layer::busybox()])
            .config(config)
            .push(Registry::plain(), &format!("library/{image}:latest"));
        ctr.payload_of(&image, &[], &["id", "-u"]).exits(125);
    }
    let config = serde_json::json!({ "Env": ["PATH=/bin"], "User": "1000:" });
    let ctr = ctr.with_image("user", TestImage::new([Layer::busybox()]).config(config));
    assert_eq!(ctr.payload_of("user", &[], &["sh", "-c", "id -u; id -g"]).ok(), "1000\n1000");
}

#[test]
fn nothing_of_the_callers_environment_comes_in() {
    let config = serde_json::json!({
        "Env": ["PATH=/bin", "SECRET", "*", "SECRET*", "SEC*", "=SECRET", "LD_PRELOAD", "HOME*"], "Cmd": ["env"],
    });
    for &user in User::all() {
        let image = TestImage::new([Layer::busybox()]).config(config.clone());
        let ctr = Ctr::new(user).with_hub().with_image("env", image);
        for options in [&[][..], &["--init"], &["-t"]] {
            let script =
                "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/*/cmdline | tr '\\0' '\\n'";
            let arguments =
                [&["run", "--rm", "--network=none"], options, &["env", "sh", "-c", script]].concat();
            let mut command = ctr.command(arguments);
            let output =
                command.env("SECRET", "canary").env("SECRETS", "canary").output().expect("start ctr");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && said.contains("container=ctr"),
                "as {user:?}: {}",
                words(&output)
            );
            for word in ["canary", "SECRET", "XDG", "CTR_", "--network", &ctr.home().display().to_string()] {
                assert!(!said.contains(word), "{word} as {user:?} {options:?}: {}", words(&output));
            }
        }
        // Asked for by its user, it does.
        let mut command = ctr.command(["run", "--rm", "--network=none", "-e", "SECRET", "env"]);
        let output = command.env("SECRET", "canary").output().expect("start ctr");
        assert!(words(&output).contains("SECRET=canary"), "as {user:?}: {}", words(&output));
    }
}

/// config.json of a container of `image`, without what differs from one container to the next.
fn specification(ctr: &Ctr, image: &str) -> serde_json::Value {
    let cidfile = ctr.home().join("id");
    let path = cidfile.display().to_string();
    ctr.run(["run", "--network=none", "--cidfile", &path, image, "true"]).ok();
    let id = fs::read_to_string(&cidfile).expect("the id");
    fs::remove_file(&cidfile).expect("remove the cidfile");
    let text =
        fs::read_to_string(ctr.data().join("containers").join(&id).join("config.json")).expect("config.json");
    let mut value = serde_json::from_str(&text.replace(&id, "ID").replace(&id[..12], "ID")).expect("JSON");
    sort(&mut value);
    value
}

/// Sets come in no order.
fn sort(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(list) if list.iter().all(serde_json::Value::is_string) => {
            list.sort_by_key(|item| item.as_str().unwrap_or_default().to_owned());
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(sort),
        serde_json::Value::Object(map) => map.values_mut().for_each(sort),
        _ => {}
    }
}

#[test]
fn what_an_image_says_of_itself_changes_no_policy() {
    let words = [
        "run.oci.keep_original_groups",
        "run.oci.handler",
        "run.oci.systemd.subgroup",
        "run.oci.delegate-cgroup",
        "run.oci.hooks.stdout",
        "run.oci.mount_context_type",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp_fail_unknown_syscall",
        "org.criu.config",
        "org.systemd.property.DeviceAllow",
        "io.podman.annotations.privileged",
        "io.podman.annotations.seccomp",
        "io.podman.annotations.label",
        "io.podman.annotations.userns",
        "io.podman.annotations.autoremove",
        "io.containers.seccomp.profile",
        "io.containers.trace-syscall",
        "io.containers.capabilities",
        "io.containers.autoupdate",
        "io.kubernetes.cri-o.userns-mode",
        "io.kubernetes.cri-o.Devices",
        "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
        "io.kubernetes.cri-o.umask",
        "module.wasm.image/variant",
        "com.docker.security.privileged",
        "seccomp-profile.kubernetes.cri-o.io",
        "container.apparmor.security.beta.kubernetes.io/x",
    ];
    let value =
        |word: &&str| ((*word).to_owned(), serde_json::Value::from("unconfined 1 --cap-add=ALL /:/host"));
    let map: serde_json::Map<String, serde_json::Value> = words.iter().map(value).collect();
    let loud = serde_json::json!({
        "Env": ["PATH=/bin"], "Labels": map, "Privileged": true, "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"],
        "Binds": ["/:/host"], "Devices": ["/dev/kmsg"], "NetworkMode": "host", "Annotations": map, "Mounts": [{ "Source": "/" }],
        "ExposedPorts": { "80/tcp": {} }, "Healthcheck": { "Test": ["CMD", "x"] }, "OnBuild": ["RUN x"], "Tty": true,
        "Shell": ["/x"], "Hostname": "evil", "Domainname": "evil", "ArgsEscaped": true, "MacAddress": "02:00:00:00:00:01",
    });
    let plain = serde_json::json!({ "Env": ["PATH=/bin"] });
    for &user in User::all() {
        let annotations = map.clone();
        let image = TestImage::new([Layer::busybox()]).config(loud.clone()).tweak(move |manifest| {
            manifest["annotations"] = annotations.clone().into();
            manifest["config"]["annotations"] = annotations.clone().into();
            manifest["layers"][0]["annotations"] = annotations.clone().into();
        });
        let ctr = Ctr::new(user).with_hub().with_image("loud", image);
        let ctr = ctr.with_image("plain", TestImage::new([Layer::busybox()]).config(plain.clone()));
        assert_eq!(specification(&ctr, "loud"), specification(&ctr, "plain"), "as {user:?}");
    }
}
