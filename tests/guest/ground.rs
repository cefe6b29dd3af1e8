//! The guest, and who speaks in it.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Once,
};

/// The exit status and both streams of what ran in the guest.
pub struct Said {
    code: i32,
    text: String,
}

impl Said {
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.text);
        self.text.trim().to_owned()
    }
}

pub fn vm(arguments: &[&str]) -> Said {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let share = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let mut command = Command::new(root.join("scripts/vm"));
    command.args(arguments).current_dir(root);
    command.env("VM_NAME", std::env::var("VM_NAME").unwrap_or("test".into())).env("VM_SHARE", share);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Said { code: status.code().unwrap_or(255), text }
}

/// The guest with `ctr`, an image and the units of examples/ in it.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let share = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
        std::fs::create_dir_all(&share).unwrap();
        let strip = Command::new("strip").args(["-o"]).arg(share.join("ctr")).arg(env!("CARGO_BIN_EXE_ctr")).status();
        assert!(strip.unwrap().success());
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, share.join(path.file_name().unwrap())).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/quadlet.sh");
        std::fs::copy(script, share.join("quadlet.sh")).unwrap();
        let root = "install -m 755 /host/ctr /usr/local/bin/; cp /host/web.service /host/echo.* /etc/systemd/system/
            install -D -m 644 /host/worker.service /etc/xdg/systemd/user/worker.service; systemctl daemon-reload";
        vm(&["run", "--root", "--", "sh", "-ec", root]).ok();
        let user = "systemctl --user daemon-reload; ctr image exists box || ctr import -q ~/busybox.tar box";
        vm(&["run", "--", "sh", "-ec", user]).ok();
    });
}

/// As alice, in a login session.
pub fn alice(script: &str) -> Said {
    prepare();
    vm(&["run", "--timeout", "120", "--", "bash", "-c", script])
}

/// As alice, in a scope that is delegated.
pub fn delegated(script: &str) -> Said {
    prepare();
    vm(&["run", "--scope", "--timeout", "120", "--", "bash", "-c", script])
}

pub fn root(script: &str) -> Said {
    prepare();
    vm(&["run", "--root", "--timeout", "500", "--", "bash", "-c", script])
}

/// System units of these names (`t-NAME`) and lines under User=alice, which `script` starts; then none of them is left.
pub fn units(units: &[(&str, String)], script: &str) -> Said {
    let file = |(name, lines): &(&str, String)| {
        format!(
            "cat >/etc/systemd/system/t-{name}.service <<'UNIT'\n[Service]\nUser=alice\nRuntimeDirectory=t-{name}\n\
             Environment=XDG_RUNTIME_DIR=/run/t-{name}\n{lines}\nUNIT\n"
        )
    };
    let files: String = units.iter().map(file).collect();
    root(&format!(
        "{files}systemctl daemon-reload
         show() {{ systemctl show -P \"$2\" \"t-$1\"; }}
         await() {{ local end=$((SECONDS + 60)); while [ $SECONDS -lt $end ]; do [ \"$(show \"$1\" \"$2\")\" = \"$3\" ] && return; sleep 0.2; done; echo \"$1: $2 is $(show $1 $2), not $3\"; }}
         {script}
         systemctl stop 't-*.service' 2>/dev/null; rm /etc/systemd/system/t-*.service; systemctl reset-failed 't-*' 2>/dev/null; true"
    ))
}

/// All of `lines` are lines of what was said.
pub fn has(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|said| said == *line), "{line}: {said}");
    }
}

pub const RUN: &str = "ctr run --rm --network=none";
pub const PLACES: [fn(&str) -> Said; 2] = [alice, delegated];
