//! Row 1: content of a container never runs, reads or writes our executable.

use crate::{
    Running, layer,
    support::{Ctr, Layer, Registry, TestImage, User, compile, probe_layer},
    words,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

/// A copy of `ctr` that its user may write to, as a user's own installation is.
fn private_copy(ctr: &Ctr) -> PathBuf {
    let program = PathBuf::from(ctr.command(["version"]).get_program());
    ctr.file("bin/ctr", fs::read(program).expect("read ctr"));
    let path = ctr.home().join("bin/ctr");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod ctr");
    path
}

/// [`Ctr::command`] with another binary.
fn with_binary(ctr: &Ctr, binary: &Path, arguments: &[&str]) -> Command {
    let usual = ctr.command(arguments);
    let mut command = Command::new(binary);
    command.args(usual.get_args()).env_clear().current_dir(ctr.home());
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some((uid, gid)) = ctr.user().ids() {
        command.uid(uid).gid(gid);
    }
    command
}

#[test]
fn the_binary_is_neither_run_nor_written_from_inside() {
    // Opens every executable that it finds and then, through the descriptor, again for writing: CVE-2019-5736.
    let writer = "for n in 1 2 3 4 5; do for p in /proc/[0-9]*; do (exec 7<$p/exe; echo spoiled >/proc/self/fd/7 && echo wrote $p); \
        (echo spoiled > $p/exe) && echo wrote $p; done; done 2>/dev/null; cat /proc/1/exe > /tmp/one 2>/dev/null; \
        /proc/1/exe --version 2>/dev/null; grep -c newuidmap /tmp/one; true";
    let interpreted = compile(&["-Wl,--dynamic-linker=/proc/self/exe"], "int main(void) { return 0; }");
    let files = layer()
        .mode_file("evil", "#!/proc/self/exe\n", 0o755)
        .mode_file("evil-version", "#!/proc/self/exe --version\n", 0o755)
        .mode_file("evil-init", "#!/proc/1/exe\n", 0o755)
        .mode_file("evil-fd", "#!/proc/self/fd/3\n", 0o755)
        .mode_file("evil-elf", &interpreted, 0o755)
        .mode_file("writer", format!("#!/bin/busybox sh\n{writer}\n"), 0o755);
    TestImage::new([Layer::busybox(), files]).push(Registry::plain(), "library/evil:latest");
    for &user in User::all() {
        let ctr = Ctr::new(user).with_hub();
        ctr.run(["pull", "-q", "evil"]).ok();
        let binary = private_copy(&ctr);
        let hash = || Sha256::digest(fs::read(&binary).expect("read ctr"));
        let before = hash();
        // Which options there are makes no difference between users: one kind tries all.
        let options: &[&[&str]] = if user == User::Rootless { &[&[], &["--init"], &["-t"]] } else { &[&[]] };
        for &init in options {
            let programs = [
                "/evil",
                "/evil-version",
                "/evil-init",
                "/evil-fd",
                "/evil-elf",
                "/proc/self/exe",
                "/proc/1/exe",
                "/writer",
            ];
            for program in programs {
                let arguments =
                    [&["run", "--rm", "--network=none"], init, &["evil", program, "--version"]].concat();
                let output = with_binary(&ctr, &binary, &arguments).output().expect("start ctr");
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    !said.contains("ctr") && !said.contains("wrote"),
                    "as {user:?} {arguments:?}: {}",
                    words(&output)
                );
                if program == "/writer" {
                    assert_eq!(
                        output.status.code(),
                        Some(0),
                        "as {user:?} {arguments:?}: {}",
                        words(&output)
                    );
                    assert_eq!(said.trim(), "0", "as {user:?} {arguments:?}: {}", words(&output));
                } else {
                    let failed = output.status.code().is_some_and(|code| [125, 126, 127].contains(&code));
                    assert!(failed && said.is_empty(), "as {user:?} {arguments:?}: {}", words(&output));
                }
                assert_eq!(hash(), before, "as {user:?} {arguments:?}");
            }
        }
    }
}

#[test]
fn our_program_is_out_of_reach() {
    for &user in User::all() {
        let ctr = Ctr::new(user).with_hub().with_image("probe", TestImage::new([probe_layer()]));
        // Whatever appears in /proc is opened and written, from before the first exec on.
        let attack = "echo up > /tmp/up; while :; do for p in /proc/[0-9]*; do \
            { true >> $p/exe; } 2>/dev/null && case $(readlink $p/exe) in */ctr*) echo $p >> /tmp/hit;; esac; \
            readlink $p/exe >> /tmp/seen; ls -l $p/fd >> /tmp/fds; done 2>/dev/null; done";
        let c = Running::new(ctr, "probe", &[], attack);
        let program = PathBuf::from(c.0.command([""; 0]).get_program());
        let hash = || Sha256::digest(fs::read(&program).expect("read the program"));
        let before = hash();
        while c.script(&[], "cat /tmp/up 2>/dev/null; :").is_empty() {}
        for _ in 0..20 {
            c.exec(&[], &["true"]).exits(0);
            c.exec(&["-u", "0:0", "-t"], &["true"]).exits(0);
            c.0.run(["cp", "c:/etc/passwd", "-"]).exits(0);
            c.0.run(["top", "c"]).exits(0);
        }
        assert_eq!(hash(), before, "as {user:?}");
        // The trampoline, a sealed memory file, may be seen; our program and what it has open may not.
        let seen =
            c.script(&[], "cat /tmp/hit; sort -u /tmp/seen; grep -e containers/ -e config.json /tmp/fds; :");
        let harmless = |line: &str| line == "/bin/busybox" || line == "/memfd:ctr-exec (deleted)";
        assert!(seen.lines().all(harmless), "as {user:?}: {seen}");
    }
}
