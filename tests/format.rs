//! `--format`, `--filter` and `--sort` as users' scripts have them, on two containers that are not running.

use assert_cmd::Command;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink};

struct Ground(tempfile::TempDir);

const WEB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DB: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

impl Ground {
    /// `web` has ended with 3 and left a file of 12 bytes; `db` was killed together with its monitor, an hour later.
    fn new() -> Ground {
        let ground = Ground(tempfile::tempdir().expect("a directory"));
        ground.ok(&["ps"]);
        let (data, image) = (ground.0.path().join("data"), "docker.io/library/app:1");
        for (id, name, hour, args, labels) in [
            (
                WEB,
                "web",
                10,
                json!(["sh", "-c", "echo a long command"]),
                json!({"team": "x", "bad": "{{.ID}}\u{1b}[2J\ta"}),
            ),
            (DB, "db", 11, json!(["run"]), json!({})),
        ] {
            let dir = data.join("containers").join(id);
            fs::create_dir_all(dir.join("upper")).expect("make a directory");
            let created = format!("2020-01-01T{hour}:00:00Z");
            let record = json!({
                "id": id, "name": name, "created": created, "image": image, "args": args, "labels": labels,
                "env": ["A=1", "B=2"], "network": "none", "stop_signal": "SIGTERM",
            });
            for (file, text) in [("lock", ""), ("layers", ""), ("container.json", &record.to_string())] {
                fs::write(dir.join(file), text).expect("write a file");
            }
            symlink(id, data.join("names").join(name)).expect("claim a name");
        }
        let web = data.join("containers").join(WEB);
        let worst = json!({"code": 137, "started": "2020-01-01T11:00:01Z", "finished": null});
        fs::write(data.join("containers").join(DB).join("exit"), worst.to_string()).expect("write a file");
        let exit = json!({"code": 3, "started": "2020-01-01T10:00:01Z", "finished": "2020-01-01T10:00:02Z", "oom": true});
        fs::write(web.join("exit"), exit.to_string()).expect("write a file");
        fs::write(web.join("upper/file"), "twelve bytes").expect("write a file");
        ground
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("ctr").expect("ctr is built");
        command.env("HOME", self.0.path()).env("TZ", "UTC");
        command.arg("--root").arg(self.0.path().join("data")).arg("--runroot").arg(self.0.path().join("run"));
        let output = command.args(args).output().expect("ctr starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
        out
    }
}

#[test]
fn inspect() {
    let ground = Ground::new();
    for (template, expected) in [
        ("{{.State.ExitCode}}", "3\n"),
        ("{{.State.Status}} {{.State.Running}} {{.State.OOMKilled}}", "exited false true\n"),
        ("{{.State.StartedAt}}", "2020-01-01T10:00:01Z\n"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none\n"),
        ("{{.Id}} {{.ID}}", &format!("{WEB} {WEB}\n")),
        (
            "{{.Name}} {{.Config.Image}} {{.ImageName}}",
            "web docker.io/library/app:1 docker.io/library/app:1\n",
        ),
        ("{{range .Mounts}}{{.Source}}{{end}}", "\n"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n\n"),
        ("{{json .Config.Env}}", "[\"A=1\",\"B=2\"]\n"),
        ("{{index .Config.Labels \"team\"}}-{{index .Config.Labels \"none\"}}", "x-\n"),
        ("{{.Config.Labels.team}} {{.Config.Labels.none}}", "x <no value>\n"),
        ("{{join .Args \" \"}}|{{.Path}}", "-c echo a long command|sh\n"),
        ("{{.NetworkSettings.IPAddress}}{{.HostConfig.NetworkMode}}", "none\n"),
        ("{{range $p, $conf := .NetworkSettings.Ports}}{{$p}}{{end}}", "\n"),
        ("{{.HostConfig.RestartPolicy.Name}} {{.RestartCount}} {{.HostConfig.Memory}}", "no 0 0\n"),
        ("{{len .Config.Env}} {{.Config.StopSignal}}", "2 SIGTERM\n"),
        ("{{printf \"%.12s\" .Id}}", "aaaaaaaaaaaa\n"),
        // What a label says is data, byte by byte where no terminal reads it.
        ("{{.Config.Labels.bad}}", "{{.ID}}\u{1b}[2J\ta\n"),
    ] {
        assert_eq!(ground.ok(&["inspect", "--format", template, "web"]), expected, "{template}");
    }
    assert_eq!(ground.ok(&["inspect", "-f", "{{.Name}}", "web", "db"]), "web\ndb\n");
    assert_eq!(ground.ok(&["inspect", "-l", "-f", "{{.Name}}"]), "db\n");
    assert_eq!(
        ground.ok(&["container", "inspect", "-s", "-f", "{{.SizeRw}}/{{.SizeRootFs}}", "web"]),
        "12/12\n"
    );
    let json: Value = serde_json::from_str(&ground.ok(&["inspect", "-f", "{{json .}}", "db"])).expect("JSON");
    assert_eq!(json["State"]["ExitCode"], 137);
    assert!(json.get("SizeRw").is_none() && json["HostConfig"]["CapAdd"] == json!([]));
}

#[test]
fn a_field_that_is_not_there() {
    let ground = Ground::new();
    for (args, error, hint) in [
        (
            &["inspect", "-f", "{{.State.Bogus}}", "web"][..],
            "template 1:3: can't evaluate field Bogus in .State",
            "ExitCode",
        ),
        (&["ps", "-a", "--format", "x {{.Bogus}}"], "template 1:5: can't evaluate field Bogus", "RunningFor"),
        (&["version", "-f", "{{.Client.Bogus}}"], "field Bogus in .Client", "OsArch"),
        (&["info", "-f", "{{.store.Bogus}}"], "field Bogus in .store", "graphRoot"),
    ] {
        let (code, out, err) = ground.run(args);
        assert_eq!((code, out.as_str()), (125, ""), "{args:?}");
        let lines: Vec<_> = err.lines().collect();
        assert!(
            lines[0].contains(error) && lines[1].starts_with("hint: it has ") && lines[1].contains(hint),
            "{err}"
        );
    }
    // The others are told of all the same, and one that is missing is an error.
    let (code, out, err) = ground.run(&["inspect", "-f", "{{.Name}}", "none", "web"]);
    assert!(code == 125 && out == "web\n" && err.contains("no container or image"), "{err}");
}

#[test]
fn ps_templates() {
    let ground = Ground::new();
    for (template, expected) in [
        ("{{.ID}}", "bbbbbbbbbbbb\naaaaaaaaaaaa\n"),
        ("{{.Names}} {{.State}} {{.ExitCode}}", "db exited 137\nweb exited 3\n"),
        ("{{.Names}}\\t{{.Command}}", "db\trun\nweb\tsh -c echo a long...\n"),
        ("{{.CreatedAt}}|{{.Pid}}", "2020-01-01 11:00:00 +0000 UTC|0\n2020-01-01 10:00:00 +0000 UTC|0\n"),
        ("{{.Label \"team\"}}|", "|\nx|\n"),
        ("{{range .}}{{.Names}},{{end}}", "db,web,\n"),
        ("table {{.ID}}\\t{{.Names}}", "CONTAINER ID  NAMES\nbbbbbbbbbbbb  db\naaaaaaaaaaaa  web\n"),
        ("table {{.Names}} {{.ExitCode}}", "NAMES       EXIT CODE\ndb          137\nweb         3\n"),
        (
            "table {{.Names}}\\t{{.Labels}}",
            "NAMES       LABELS\ndb\nweb         bad={{.ID}}\\u{1b}[2J\\ta,team=x\n",
        ),
    ] {
        assert_eq!(ground.ok(&["ps", "-a", "--format", template]), expected, "{template}");
    }
    assert_eq!(ground.ok(&["ps", "-aq", "--format", "{{.Names}}"]), "db\nweb\n");
    assert_eq!(ground.ok(&["ps", "-a", "--noheading", "--format", "table {{.Names}}"]), "db\nweb\n");
    let table = ground.ok(&["ps", "-as"]);
    let heading = "CONTAINER ID  IMAGE                    COMMAND               CREATED      STATUS                  PORTS       NAMES       SIZE";
    assert_eq!(
        table.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>()),
        Some(heading.split_whitespace().collect())
    );
    assert!(table.contains("12 B (virtual 12 B)") && table.contains("Exited (137)"), "{table}");
    let rows: Value = serde_json::from_str(&ground.ok(&["ps", "-a", "--format", "json"])).expect("JSON");
    assert_eq!((&rows[1]["Names"], &rows[1]["Command"][0]), (&json!(["web"]), &json!("sh")));
}

#[test]
fn ps_filters_and_order() {
    let ground = Ground::new();
    for (filters, names) in [
        (&["name=^w"][..], "web\n"),
        (&["name=b"], "db\nweb\n"),
        (&["name=^w", "name=^d"], "db\nweb\n"),
        (&["name=^w", "exited=137"], ""),
        (&["exited=3"], "web\n"),
        (&["label=team"], "web\n"),
        (&["label!=team=x"], "db\n"),
        (&["label=team", "label=none"], ""),
        (&["before=db"], "web\n"),
        (&["since=web"], "db\n"),
        (&["until=2020-01-01T10:30:00Z"], "web\n"),
        (&["until=10m"], "db\nweb\n"),
        (&["network=none", "command=^ru"], "db\n"),
        (&["network=host"], ""),
        (&["status=running"], ""),
        (&["status=stopped", "id=aa"], "web\n"),
        (&["restart-policy=always"], ""),
        (&["restart-policy=none"], "db\nweb\n"),
        (&["ancestor=app"], "db\nweb\n"),
    ] {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        filters.iter().for_each(|filter| args.extend(["--filter", filter]));
        assert_eq!(ground.ok(&args), names, "{filters:?}");
    }
    for (key, names) in
        [("names", "db\nweb\n"), ("created", "web\ndb\n"), ("command", "db\nweb\n"), ("id", "web\ndb\n")]
    {
        assert_eq!(ground.ok(&["ps", "-a", "--sort", key, "--format", "{{.Names}}"]), names, "{key}");
    }
    assert_eq!(
        ground.ok(&["ps", "-as", "--sort=size", "--format", "{{.Names}} {{.Size}}"]),
        "db 0 B (virtual 0 B)\nweb 12 B (virtual 12 B)\n"
    );
    assert_eq!(ground.ok(&["ps", "-n", "1", "--format", "{{.Names}}"]), "db\n");
    assert_eq!(ground.ok(&["ps", "--all=false", "-q"]), "");
}

#[test]
fn info_and_version() {
    let ground = Ground::new();
    assert_eq!(
        ground.ok(&["version", "--format", "{{.Client.Version}}"]),
        format!("{}\n", env!("CARGO_PKG_VERSION"))
    );
    let root = ground.0.path().join("data");
    assert_eq!(
        ground.ok(&["info", "-f", "{{.store.graphRoot}} {{.store.containerStore.stopped}}"]),
        format!("{} 2\n", root.display())
    );
    assert!(ground.ok(&["info", "-f", "{{json .host}}"]).contains("\"os\":\"linux\""));
}
