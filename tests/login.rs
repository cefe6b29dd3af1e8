//! `ctr login` and `ctr logout`: what is written where, what is not, and credential helpers.

mod support;

use serde_json::{Value, json};
use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::PathBuf, process::Stdio};
use support::{Ctr, Outcome, Registry, User, tiny};

const AUTH: &str = "run/containers/auth.json";
/// alice:wonder
const ALICE: &str = "YWxpY2U6d29uZGVy";

fn ctr(user: User) -> Ctr {
    let ctr = Ctr::new(user);
    let all = [Registry::basic(), Registry::token(), Registry::plain()];
    let insecure =
        all.map(|registry| format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address()));
    ctr.registries(&insecure.concat());
    ctr
}

fn host(registry: &Registry) -> String {
    registry.address().to_string()
}

fn auth(ctr: &Ctr, path: &str) -> Option<Value> {
    fs::read(ctr.home().join(path)).ok().map(|text| serde_json::from_slice(&text).expect("JSON"))
}

/// With `input` on stdin.
fn fed(ctr: &Ctr, arguments: &[&str], input: &str) -> Outcome {
    let mut child = ctr
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start ctr");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("write to ctr");
    Outcome::new(format!("{arguments:?}"), child.wait_with_output().expect("wait for ctr"))
}

/// A credential helper in a directory that is in PATH: its secrets are files beside it, and it writes down what it is asked.
fn helper(ctr: &Ctr, name: &str, script: &str) -> PathBuf {
    let path = format!("bin/docker-credential-{name}");
    ctr.file(
        &path,
        format!("#!/bin/sh\ncd {}/bin || exit 9\necho \"$*\" >> asked\n{script}\n", ctr.home().display()),
    );
    let path = ctr.home().join(path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

fn with_path(ctr: &Ctr, arguments: &[&str]) -> Outcome {
    let mut command = ctr.command(arguments);
    command.env("PATH", format!("{}:/usr/bin:/bin", ctr.home().join("bin").display()));
    Outcome::new(format!("{arguments:?}"), command.output().expect("start ctr"))
}

/// Keeps one secret in the file `kept`.
const KEEPER: &str = r#"case $1 in
store) cat > kept ;;
get) read -r server; [ -s kept ] && grep -q "\"$server\"" kept || { echo credentials not found in native keychain; exit 1; }; cat kept ;;
erase) rm kept ;;
esac"#;

#[test]
fn a_login_is_verified_kept_and_used() {
    tiny("login").push(Registry::plain(), "private/login:latest");
    for &user in User::all() {
        for registry in [Registry::basic(), Registry::token()] {
            let ctr = ctr(user);
            let host = host(registry);
            ctr.run(["pull", "-q", &registry.name("private/login")]).fails("denied").hints("ctr login");
            ctr.run(["login", "--get-login", &host]).fails("not logged in");
            let login = fed(&ctr, &["login", "-u", "alice", "--password-stdin", "-v", &host], "wonder\n");
            let path = ctr.home().join(AUTH);
            assert_eq!(login.ok(), format!("Used: {}\nLogin Succeeded!", path.display()), "as {user:?}");
            assert_eq!(auth(&ctr, AUTH), Some(json!({ "auths": { &host: { "auth": ALICE } } })));
            assert_eq!(fs::metadata(&path).expect("stat it").permissions().mode() & 0o777, 0o600);
            assert_eq!(ctr.run(["login", "--get-login", &host]).ok(), "alice");
            let again = ctr.run(["login", &host]).ok();
            assert!(again.contains("Already logged in to"), "{again}");
            ctr.run(["pull", "-q", &registry.name("private/login")]).ok();
            ctr.run(["push", "-q", &registry.name("private/login"), &registry.name("private/again")]).ok();
            assert_eq!(ctr.run(["logout", &host]).ok(), format!("Removed login credentials for {host}"));
            assert_eq!(auth(&ctr, AUTH), Some(json!({ "auths": {} })));
            ctr.run(["logout", &host]).fails("not logged in");
        }
    }
}

#[test]
fn a_wrong_password_writes_nothing() {
    for registry in [Registry::basic(), Registry::token()] {
        let ctr = ctr(User::Rootless);
        let host = host(registry);
        ctr.run(["login", "-u", "alice", "-p", "wrong", &host]).fails("doesn't take");
        assert_eq!(auth(&ctr, AUTH), None);
        ctr.file(AUTH, r#"{"auths": {"other.example.com": {"auth": "eDp5"}}}"#);
        let before = fs::read(ctr.home().join(AUTH)).expect("read it");
        ctr.run(["login", "-u", "alice", "-p", "wrong", &host]).fails("doesn't take");
        assert_eq!(fs::read(ctr.home().join(AUTH)).expect("read it"), before);
    }
    let ctr = ctr(User::Rootless);
    ctr.run(["login", "-u", "alice", "-p", "x", "127.0.0.1:1"]).fails("127.0.0.1:1");
    for name in ["a b", "http:///", "-x.y", "$(touch x).com", "a.b\nc"] {
        ctr.run(["login", "-u", "alice", "-p", "x", "--", name]).fails("not the name of a registry");
    }
    ctr.run(["login", "-u", "alice", &host(Registry::basic())]).fails("password is missing");
    ctr.run(["login", "--password-stdin", &host(Registry::basic())]).exits(125);
    assert_eq!(auth(&ctr, AUTH), None);
}

#[test]
fn everything_else_in_the_file_is_kept() {
    let ctr = ctr(User::Rootless);
    let host = host(Registry::basic());
    ctr.file(
        "auth.json",
        r#"{"psFormat": "x", "auths": {"other.example.com": {"auth": "eDp5", "odd": 1}}, "credHelpers": {"h.example.com": "none"}}"#,
    );
    let file = ctr.home().join("auth.json").display().to_string();
    fed(&ctr, &["login", "-u", "alice", "--password-stdin", "--authfile", &file, &host], "wonder").ok();
    let after = auth(&ctr, "auth.json").expect("the file");
    assert_eq!(after["auths"]["other.example.com"], json!({ "auth": "eDp5", "odd": 1 }));
    assert_eq!(
        (&after["psFormat"], &after["credHelpers"]),
        (&json!("x"), &json!({ "h.example.com": "none" }))
    );
    assert_eq!(after["auths"][&host]["auth"], ALICE);
    assert_eq!(auth(&ctr, AUTH), None);
    // REGISTRY_AUTH_FILE is the same file; skopeo understands it.
    let mut known = ctr.command(["login", "--get-login", &host]);
    let known =
        Outcome::new("get".into(), known.env("REGISTRY_AUTH_FILE", &file).output().expect("start ctr"));
    assert_eq!(known.ok(), "alice");
    let skopeo = std::process::Command::new("skopeo")
        .args(["login", "--get-login", "--authfile", &file, &host])
        .output()
        .expect("start skopeo");
    assert_eq!(String::from_utf8_lossy(&skopeo.stdout).trim(), "alice");
    let new = ctr.home().join("new/auth.json").display().to_string();
    ctr.run(["login", "-u", "alice", "-p", "wonder", "--authfile", &new, &host]).ok();
    assert_eq!(auth(&ctr, "new/auth.json").expect("the file")["auths"][&host]["auth"], ALICE);
    ctr.run(["logout", "--all", "--authfile", &new]).ok();
    assert_eq!(auth(&ctr, "new/auth.json").expect("the file")["auths"], json!({}));
    ctr.file("auth.json", "{ not JSON, but a secret");
    let outcome =
        ctr.run(["login", "-u", "alice", "-p", "wonder", "--authfile", &file, &host]).fails("line 1");
    assert!(!outcome.stderr().contains("a secret"), "{outcome}");
}

#[test]
fn docker_s_file_is_read_and_left_alone() {
    let ctr = ctr(User::Rootless);
    let host = host(Registry::basic());
    let docker = json!({ "auths": { &host: { "auth": ALICE } } }).to_string();
    ctr.file(".docker/config.json", &docker);
    assert_eq!(ctr.run(["login", "--get-login", &host]).ok(), "alice");
    assert!(ctr.run(["logout", &host]).ok().contains("docker logout"));
    assert_eq!(fs::read_to_string(ctr.home().join(".docker/config.json")).expect("read it"), docker);
}

#[test]
fn a_helper_keeps_the_password() {
    tiny("helper").push(Registry::plain(), "private/helper:latest");
    let registry = Registry::basic();
    let host = host(registry);
    for (file, settings) in
        [(AUTH, json!({ "credHelpers": { &host: "keeper" } })), (AUTH, json!({ "credsStore": "keeper" }))]
    {
        let ctr = ctr(User::Rootless);
        helper(&ctr, "keeper", KEEPER);
        ctr.file(file, settings.to_string());
        with_path(&ctr, &["login", "-u", "alice", "-p", "wonder", &host]).ok();
        assert_eq!(auth(&ctr, AUTH), Some(settings.clone()), "no secret in the file");
        let kept = fs::read_to_string(ctr.home().join("bin/kept")).expect("what it keeps");
        assert!(kept.contains("wonder") && kept.contains(&host), "{kept}");
        assert_eq!(with_path(&ctr, &["login", "--get-login", &host]).ok(), "alice");
        with_path(&ctr, &["pull", "-q", &registry.name("private/helper")]).ok();
        with_path(&ctr, &["push", "-q", &registry.name("private/helper"), &registry.name("private/helped")])
            .ok();
        with_path(&ctr, &["logout", &host]).ok();
        assert!(!ctr.home().join("bin/kept").exists());
        with_path(&ctr, &["logout", &host]).fails("not logged in");
        with_path(&ctr, &["pull", "-q", &registry.name("private/helper")]).fails("denied");
        let asked = fs::read_to_string(ctr.home().join("bin/asked")).expect("what it was asked");
        assert!(asked.lines().all(|line| ["get", "store", "erase"].contains(&line)), "{asked}");
    }
}

#[test]
fn a_helper_that_misbehaves() {
    let registry = Registry::basic();
    let host = host(registry);
    let ctr = ctr(User::Rootless);
    let login = |name: &str, script: &str| {
        helper(&ctr, "bad", script);
        ctr.file(AUTH, json!({ "credHelpers": { &host: name } }).to_string());
        with_path(&ctr, &["login", "--get-login", &host])
    };
    login("bad", "yes").fails("says more than");
    login("bad", "echo no such thing; exit 3").fails("no such thing").hints("docker-credential");
    login("bad", "echo '{\"Username\": 1, \"Secret\": \"hidden\"}'").fails("not of the expected form");
    login("bad", "kill -9 $$").fails("signal");
    login("none", "").fails("no program docker-credential-none").hints("install it");
    for name in ["../bad", "a b", "x;y", &"x".repeat(65)] {
        login(name, "").fails("name of a credential helper");
    }
    // One that reads nothing and says nothing.
    login("bad", "exec <&-").fails("not of the expected form");
    // A token for the token server has no user.
    let token = login("bad", "echo '{\"Username\": \"<token>\", \"Secret\": \"t\"}'");
    assert_eq!(token.ok(), "<token>");
    // Docker's settings on a machine without its desktop are no reason not to pull what is public.
    tiny("public").push(Registry::plain(), "public/helper:latest");
    ctr.file(AUTH, r#"{"credsStore": "desktop"}"#);
    with_path(&ctr, &["pull", "-q", &Registry::plain().name("public/helper")]).ok();
}
