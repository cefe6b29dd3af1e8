//! Quadlet through the binary: what services it makes of which files, what it refuses, and where it writes.

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};
use support::{Ctr, Outcome, User};

/// A home with these files in `q`, and an empty directory `out`.
fn ground(files: &[(&str, &str)]) -> Ctr {
    let ctr = Ctr::new(User::Rootless);
    ctr.file("out/.keep", "").file("q/.keep", "");
    for (name, text) in files {
        ctr.file(&format!("q/{name}"), text);
    }
    ctr
}

/// `ctr quadlet` with `words`, which finds the files in `q` only.
fn quadlet(ctr: &Ctr, words: &[&str]) -> Outcome {
    let mut command = ctr.command(["quadlet"].iter().chain(words));
    command.env("QUADLET_UNIT_DIRS", ctr.home().join("q"));
    let output = command.output().expect("start ctr");
    Outcome::new(format!("{:?}", command.get_args()), output)
}

fn generate(ctr: &Ctr) -> Outcome {
    quadlet(ctr, &["generate", "out", "out", "out"])
}

/// A service, with `@ctr@` for our binary and `@q@` for the directory of the files.
fn service(ctr: &Ctr, name: &str) -> String {
    let text =
        fs::read_to_string(ctr.home().join("out").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let program = ctr.command([""; 0]).get_program().to_str().expect("a path in UTF-8").to_owned();
    text.replace(&program, "@ctr@").replace(ctr.home().join("q").to_str().expect("UTF-8"), "@q@")
}

/// What is in `out`.
fn made(ctr: &Ctr) -> Vec<String> {
    let entries = fs::read_dir(ctr.home().join("out")).expect("list out");
    let names = entries.map(|entry| entry.expect("list out").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != ".keep").collect();
    names.sort();
    names
}

#[test]
fn a_container_and_what_it_needs() {
    let ctr = ground(&[
        (
            "web.container",
            "# Ours\n[Unit]\nDescription=A web server\nAfter=data.volume\n\n[Container]\nImage=app.image\n\
             Exec=serve --title \"a b\" \\\n  --port 80\nEnvironment=A=1 \"B=2 3\"\nVolume=data.volume:/data:ro\n\
             Volume=./site:/site\nEnvironmentFile=env\nUser=1000\nGroup=100\nReadOnly=yes\nStopSignal=SIGINT\n\n\
             [Service]\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n",
        ),
        ("data.volume", "[Volume]\nUser=5\nOptions=noatime\nLabel=a=b\n"),
        (
            "app.image",
            "[Image]\nImage=registry.example/app:1\nPolicy=missing\n[Quadlet]\nDefaultDependencies=no\n",
        ),
    ]);
    assert_eq!(generate(&ctr).ok(), "");
    let expected = "\
# Made by ctr of @q@/web.container

[Unit]
Wants=network-online.target
After=network-online.target
Description=A web server
After=data-volume.service
SourcePath=@q@/web.container
Requires=data-volume.service
After=data-volume.service
RequiresMountsFor=@q@/site
Requires=app-image.service
After=app-image.service

[X-Container]
Image=app.image
Exec=serve --title \"a b\"  --port 80
Environment=A=1 \"B=2 3\"
Volume=data.volume:/data:ro
Volume=./site:/site
EnvironmentFile=env
User=1000
Group=100
ReadOnly=yes
StopSignal=SIGINT

[Install]
WantedBy=multi-user.target

[Service]
Restart=always
KillMode=mixed
Type=notify
NotifyAccess=all
Delegate=yes
SyslogIdentifier=%N
SuccessExitStatus=130
ExecStart=@ctr@ run --replace --rm --label=PODMAN_SYSTEMD_UNIT=%n --name=systemd-web --cgroups=split \
--sdnotify=conmon --log-driver=passthrough --env=A=1 \"--env=B=2 3\" --read-only=true --stop-signal=SIGINT \
--volume=systemd-data:/data:ro --volume=@q@/site:/site --user=1000:100 --env-file=@q@/env \
registry.example/app:1 serve --title \"a b\" --port 80
ExecStop=@ctr@ stop --ignore systemd-web
ExecStopPost=-@ctr@ rm --force --ignore --volumes systemd-web
";
    assert_eq!(service(&ctr, "web.service"), expected);
    assert_eq!(
        service(&ctr, "data-volume.service"),
        "\
# Made by ctr of @q@/data.volume

[Unit]
Wants=network-online.target
After=network-online.target
SourcePath=@q@/data.volume

[X-Volume]
User=5
Options=noatime
Label=a=b

[Service]
Type=oneshot
RemainAfterExit=yes
SyslogIdentifier=%N
ExecStart=@ctr@ volume create --ignore --label=a=b --opt=o=uid=5,noatime systemd-data
"
    );
    assert_eq!(
        service(&ctr, "app-image.service"),
        "\
# Made by ctr of @q@/app.image

[Unit]
SourcePath=@q@/app.image

[X-Image]
Image=registry.example/app:1
Policy=missing

[X-Quadlet]
DefaultDependencies=no

[Service]
Type=oneshot
RemainAfterExit=yes
SyslogIdentifier=%N
ExecStart=@ctr@ image pull --policy=missing registry.example/app:1
"
    );
    let link = fs::read_link(ctr.home().join("out/multi-user.target.wants/web.service")).expect("a link");
    assert_eq!(link, Path::new("../web.service"));
    assert_eq!(made(&ctr).len(), 4);
    assert!(!ctr.data().exists(), "a generator opens no store");
}

#[test]
fn for_a_user_and_without_writing() {
    let ctr = ground(&[("a.volume", "[Volume]\n")]);
    let text = quadlet(&ctr, &["generate", "--user", "--dryrun"]).ok();
    assert!(text.starts_with("---a-volume.service---\n# Made by ctr of "), "{text}");
    assert!(text.contains("Wants=ctr-user-wait-network-online.service"), "{text}");
    assert!(text.contains("---ctr-user-wait-network-online.service---\n"), "{text}");
    assert_eq!(made(&ctr), [""; 0]);
    quadlet(&ctr, &["generate"]).fails("NORMAL");
}

#[test]
fn by_the_name_of_a_generator() {
    for (name, for_users) in [("ctr-user-generator", true), ("ctr-generator", false)] {
        let ctr = ground(&[]);
        ctr.file("config/containers/systemd/below/mine.volume", "[Volume]\n");
        // As systemd calls it: nothing but the three directories.
        let call = format!("exec -a /usr/lib/{name} \"$0\" out out out");
        let out = ctr.wrapped(&["bash", "-c", &call], &[]).output().expect("run it");
        assert!(out.status.success(), "{out:?}");
        assert_eq!(made(&ctr).contains(&"mine-volume.service".to_owned()), for_users);
    }
}

#[test]
fn drop_ins_and_precedence() {
    let ctr = ground(&[
        ("a-b.container", "[Container]\nImage=first\nEnvironment=A=1\nTmpfs=/one\n"),
        ("a-b.container.d/20.conf", "[Container]\nImage=third\n"),
        ("a-b.container.d/10.conf", "[Container]\nImage=second\nTmpfs=\nTmpfs=/two\n"),
        ("a-.container.d/30.conf", "[Container]\nEnvironment=B=2\n"),
        ("container.d/20.conf", "[Container]\nImage=never\n"),
        ("container.d/40.conf", "[Container]\nEnvironment=C=3\n"),
        ("container.d/50.txt", "[Container]\nFoo=1\n"),
        ("c.volume", "[Volume]\nVolumeName=first\n"),
        ("z/c.volume", "[Volume]\nVolumeName=second\n"),
        ("z/masked.volume", "[Volume]\n"),
    ]);
    symlink("/dev/null", ctr.home().join("q/masked.volume")).expect("link");
    assert_eq!(generate(&ctr).ok(), "");
    let text = service(&ctr, "a-b.service");
    assert!(text.contains(" --env=A=1 --env=B=2 --env=C=3 --tmpfs=/two third\n"), "{text}");
    assert!(service(&ctr, "c-volume.service").ends_with(" first\n"));
    assert_eq!(made(&ctr), ["a-b.service", "c-volume.service"]);
}

#[test]
fn templates_and_instances() {
    let ctr = ground(&[
        (
            "s@.container",
            "[Container]\nImage=i\nExec=sleep %i\n[Install]\nWantedBy=x.target\nDefaultInstance=100\n",
        ),
        ("s@10.container.d/image.conf", "[Container]\nImage=other\n"),
        ("s@.container.d/tmpfs.conf", "[Container]\nTmpfs=/t\n"),
    ]);
    symlink("s@.container", ctr.home().join("q/s@10.container")).expect("link");
    assert_eq!(generate(&ctr).ok(), "");
    assert!(service(&ctr, "s@.service").contains(" --name=systemd-%p_%i "));
    assert!(service(&ctr, "s@.service").contains(" --tmpfs=/t i sleep %i\n"));
    assert!(service(&ctr, "s@10.service").contains(" --name=systemd-s_10 "));
    assert!(service(&ctr, "s@10.service").contains(" --tmpfs=/t other sleep %i\n"));
    for (link, target) in [("s@100.service", "../s@.service"), ("s@10.service", "../s@10.service")] {
        let link = fs::read_link(ctr.home().join("out/x.target.wants").join(link)).expect("a link");
        assert_eq!(link, Path::new(target));
    }
}

#[test]
fn what_cannot_be_is_named_and_left_out() {
    let container = |lines: &str| format!("[Container]\nImage=i\n{lines}\n");
    let cases = [
        ("unknown.container", container("Foo=1"), "unknown.container: [Container] has no key Foo"),
        (
            "wish.container",
            container("PodmanArgs=--no-such-option=1"),
            "PodmanArgs=: `ctr run` has no option --no-such",
        ),
        ("number.container", container("StopTimeout=soon"), "StopTimeout=: invalid value 'soon'"),
        (
            "option.container",
            container("Unmask=ALL"),
            "Unmask=: --security-opt=unmask=ALL: unmask is not built",
        ),
        (
            "artifact.container",
            container("Mount=type=artifact,source=a,destination=/a"),
            "Mount=: --mount=type=artifact,source=a,destination=/a: mounts of type artifact are not built",
        ),
        ("self.container", container("Network=self.container"), "self.container: "),
        ("out.container", container("ServiceName=../../x"), "ServiceName=../../x: not the name of a service"),
        (
            "link.container",
            container("[Install]\nWantedBy=/etc/x.target"),
            "WantedBy=/etc/x.target: not the name of a unit",
        ),
        (
            "alias.container",
            container("[Install]\nAlias=../x.service"),
            "Alias=../x.service: not the name of a unit",
        ),
        (
            "line.volume",
            "[Volume]\nnonsense\n".to_owned(),
            "line.volume: line 2: neither a [Section] nor KEY=VALUE",
        ),
        ("kube.kube", String::new(), "kube.kube: .kube files are not built"),
        ("a b.volume", "[Volume]\n".to_owned(), "\"a b.volume\" can't be the name of a unit"),
        ("bytes.volume", "\0".to_owned(), "bytes.volume: line 1: a control character"),
    ];
    let files: Vec<(&str, &str)> = cases.iter().map(|(name, text, _)| (*name, text.as_str())).collect();
    let ctr = ground(&files);
    ctr.file("q/good.volume", "[Volume]\n");
    // Whoever opens this one without care waits for ever.
    let fifo = Command::new("mkfifo").arg(ctr.home().join("q/pipe.volume")).status().expect("mkfifo");
    assert!(fifo.success());
    symlink("/etc/shadow", ctr.home().join("q/secret.volume")).expect("link");
    ctr.file("q/large.volume", vec![b'#'; (1 << 20) + 1]);
    let outcome = generate(&ctr).exits(1);
    let stderr = outcome.stderr();
    for (_, _, about) in &cases {
        assert!(stderr.contains(about), "{about}: {outcome}");
    }
    for about in
        ["pipe.volume is no regular file", "large.volume is larger than", "secret.volume: Permission denied"]
    {
        assert!(stderr.contains(about), "{about}: {outcome}");
    }
    assert_eq!(
        stderr.lines().filter(|line| line.starts_with("error: ")).count(),
        cases.len() + 3,
        "{outcome}"
    );
    assert_eq!(made(&ctr), ["good-volume.service"]);
}

#[test]
fn what_is_not_built_is_refused_until_it_is() {
    let ctr = ground(&[
        ("b.build", "[Build]\nImageTag=t\nFile=/F\n"),
        ("p.pod", "[Pod]\n"),
        ("n.network", "[Network]\n"),
        ("c.container", "[Container]\nImage=i\nIP=10.1.2.3\n"),
        ("d.volume", "[Volume]\nDriver=image\n"),
    ]);
    let outcome = generate(&ctr);
    let help = ctr.run(["--help"]).ok();
    for (verb, service) in
        [("build", "b-build.service"), ("pod", "p-pod.service"), ("network", "n-network.service")]
    {
        let built = help.lines().any(|line| line.split_whitespace().next() == Some(verb));
        assert_eq!(made(&ctr).contains(&service.to_owned()), built, "{outcome}");
        assert_eq!(outcome.stderr().contains(&format!("`ctr` has no {verb}")), !built, "{outcome}");
    }
    let built = ctr.run(["run", "--help"]).ok().contains("--ip ");
    assert_eq!(
        outcome.stderr().contains("c.container: IP=: `ctr run` has no option --ip"),
        !built,
        "{outcome}"
    );
}

#[test]
fn where_nothing_can_be_written() {
    let ctr = ground(&[("a.volume", "[Volume]\n"), ("b.volume", "[Volume]\n")]);
    let outcome = quadlet(&ctr, &["generate", "/proc/1", "out", "out"]).exits(1);
    assert!(outcome.stderr().contains("error: write /proc/1/a-volume.service: "), "{outcome}");
    let mut command = ctr.command(["quadlet", "generate", "out"]);
    let outcome = command.env("QUADLET_UNIT_DIRS", "q").output().expect("start ctr");
    assert_eq!(Outcome::new("relative".into(), outcome).exits(1).stdout(), "");
}

#[test]
fn systemd_takes_them() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let ctr = ground(&[
        (
            "web.container",
            "[Container]\nImage=i\nExec=sh -c \"echo 'a b' $$HOME; exec \\\\x\" ; é \"\"\nEnvironment=\"A=1 2\"\n\
             Volume=d.volume:/d\n[Install]\nWantedBy=default.target\n",
        ),
        ("d.volume", "[Volume]\n"),
        ("t@.container", "[Container]\nImage=i\nExec=sleep %i\n"),
        ("job.container", "[Container]\nImage=i\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"),
    ]);
    for user in ["--user", "--system"] {
        let words = ["generate", "--user", "out"];
        quadlet(&ctr, if user == "--user" { &words[..] } else { &["generate", "out"] }).ok();
        let units = ["web.service", "d-volume.service", "t@1.service", "job.service"];
        let ours = ctr.command([""; 0]);
        let environment = ours.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut verify = Command::new("systemd-analyze");
        let told = verify
            .args([user, "--man=no", "verify"])
            .args(units.map(|unit| ctr.home().join("out").join(unit)))
            .env_clear()
            .envs(environment)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", ctr.home().join("out").display()))
            .stdin(Stdio::null())
            .output()
            .expect("start systemd-analyze");
        let stderr = String::from_utf8_lossy(&told.stderr);
        let ours: Vec<&str> =
            stderr.lines().filter(|line| line.contains("/out/") || line.contains(".service:")).collect();
        assert!(ours.is_empty() && told.status.success(), "{stderr}");
    }
}

#[test]
fn installed_listed_printed_and_removed() {
    let ctr = Ctr::new(User::Rootless);
    let dir = ctr.home().join("config/containers/systemd");
    let at = |name: &str| dir.join(name).display().to_string();
    let install =
        |words: &[&str]| ctr.run(["quadlet", "install", "--reload-systemd=false"].iter().chain(words));
    ctr.file("web.container", "# Ours\n[Container]\nImage=i\nEnvironmentFile=./env\n").file("env", "A=1\n");
    ctr.file("app/one.volume", "[Volume]\n")
        .file("app/two.container", "[Container]\nImage=i\nVolume=one.volume:/x\n");
    ctr.file("set.quadlets", "# FileName=s1\n[Volume]\n---\n# FileName=s2\n[Volume]\n");
    ctr.file("bad.container", "[Container]\nImage=i\nFoo=1\n");

    assert_eq!(install(&["web.container", "env"]).ok(), [at("web.container"), at("env")].join("\n"));
    install(&["web.container"]).fails("web.container already exists").hints("--replace");
    assert_eq!(install(&["--replace", "web.container"]).ok(), at("web.container"));
    assert_eq!(install(&["app"]).ok(), [at("one.volume"), at("two.container")].join("\n"));
    assert_eq!(install(&["set.quadlets"]).ok(), [at("s1.volume"), at("s2.volume")].join("\n"));
    install(&["bad.container"]).fails("bad.container: [Container] has no key Foo").hints("--dryrun");
    install(&["env"]).fails("env is not a supported Quadlet file type");
    install(&["https://example.org/x.container"]).fails("not fetched").hints("download");
    assert!(!dir.join("bad.container").exists());

    let names = ["quadlet", "list", "--format", "{{.Name}} {{.UnitName}} {{.Status}} {{.App}}"];
    assert_eq!(
        ctr.run(names).ok(),
        "one.volume one-volume.service Not loaded .app.app\ns1.volume s1-volume.service Not loaded .set.app\n\
         s2.volume s2-volume.service Not loaded .set.app\ntwo.container two.service Not loaded .app.app\n\
         web.container web.service Not loaded .web.container.app"
    );
    let table = ctr.run(["quadlet", "ls", "--filter", "name=^web", "--filter", "status=Not"]).ok();
    let headings: Vec<&str> =
        table.lines().next().unwrap_or_default().split("  ").filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        headings.iter().map(|cell| cell.trim()).collect::<Vec<_>>(),
        ["NAME", "UNIT NAME", "PATH ON DISK", "STATUS", "APPLICATION", "POD"]
    );
    assert_eq!(table.lines().count(), 2);
    assert!(ctr.run(["quadlet", "print", "web.container"]).ok().starts_with("# Ours\n[Container]\n"));
    ctr.run(["quadlet", "cat", "../../../env"]).fails("could not locate quadlet").hints("ctr quadlet list");

    let remove = |words: &[&str]| ctr.run(["quadlet", "rm", "--reload-systemd=false"].iter().chain(words));
    assert_eq!(remove(&["web.container"]).ok(), "env\nweb.container");
    remove(&["web.container"]).fails("no such quadlet: web.container");
    remove(&["../env"]).fails("no such quadlet");
    assert_eq!(remove(&["-i", "web.container"]).ok(), "");
    assert_eq!(remove(&[".set.app"]).ok(), "s1.volume\ns2.volume");
    assert_eq!(remove(&["-a"]).ok(), "one.volume\ntwo.container");
    assert_eq!(fs::read_dir(&dir).expect("list").count(), 0);
    assert!(ctr.home().join("env").exists());
}
