//! Environment variables that a user asks for (podman-run(1), "Environment"). The host's variables come in only where a
//! user names them; an image can't ask for one.

use anyhow::{Context, Result, bail};

/// Name and value.
pub type Variable = (String, String);

/// Set `name`; the last one wins.
pub fn set(list: &mut Vec<Variable>, name: &str, value: &str) {
    match list.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => list.push((name.to_owned(), value.to_owned())),
    }
}

/// One `-e`: `NAME=VALUE`, or `NAME` as the host has it (nothing where it has not), or `PREFIX*` for all of the host's
/// that start so.
pub fn apply(list: &mut Vec<Variable>, text: &str, host: &[Variable]) -> Result<()> {
    let text = text.trim_start_matches([' ', '\t']);
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.is_empty() {
        bail!("the variable has no name");
    }
    if text.contains('\0') {
        bail!("the variable contains a NUL byte");
    }
    match (value, name.strip_suffix('*')) {
        (Some(value), _) => set(list, name, value),
        (None, Some(prefix)) => {
            for (name, value) in host.iter().filter(|(name, _)| name.starts_with(prefix)) {
                set(list, name, value);
            }
        }
        (None, None) => {
            for (_, value) in host.iter().filter(|(known, _)| known == name) {
                set(list, name, value);
            }
        }
    }
    Ok(())
}

/// An `--env-file`: one `-e` a line, verbatim (quotes are part of the value); blank lines and lines that start with `#`
/// are left out.
pub fn apply_file(list: &mut Vec<Variable>, text: &str, host: &[Variable]) -> Result<()> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        let at_line = || format!("line {}", number + 1);
        if name.contains(char::is_whitespace) {
            return Err(anyhow::anyhow!("{name:?} is no variable name")).with_context(at_line);
        }
        apply(list, line, host).with_context(at_line)?;
    }
    Ok(())
}

/// This process's variables. Those that are not UTF-8 can't be written into a container's specification and are left out.
pub fn of_host() -> Vec<Variable> {
    let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(utf8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host() -> Vec<Variable> {
        [("LC_ALL", "C"), ("LC_TIME", "de"), ("SECRET", "s"), ("A", "host")].map(|(k, v)| (k.into(), v.into())).into()
    }

    fn shown(list: &[Variable]) -> Vec<String> {
        list.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn options() {
        for (options, expected) in [
            (&["A=1"][..], &["A=1"][..]),
            (&["A=1", "B=2", "A=3"], &["A=3", "B=2"]),
            (&["A="], &["A="]),
            (&["A=b=c"], &["A=b=c"]),
            (&["A"], &["A=host"]),
            (&["MISSING"], &[]),
            (&["LC_*"], &["LC_ALL=C", "LC_TIME=de"]),
            (&["LC_*=x"], &["LC_*=x"]),
            (&["A=1\n2"], &["A=1\n2"]),
            (&["  A=1"], &["A=1"]),
        ] {
            let mut list = Vec::new();
            options.iter().for_each(|option| apply(&mut list, option, &host()).unwrap());
            assert_eq!(shown(&list), expected, "{options:?}");
        }
        for bad in ["", "=", "=A", "A=\0"] {
            assert!(apply(&mut Vec::new(), bad, &host()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files() {
        let text = "\u{feff}# comment\n\n  A=1\r\nB=\"quoted\" # kept\nSECRET\nMISSING\nLC_T*\nA=2\n\t# more\nE=";
        let mut list = Vec::new();
        apply_file(&mut list, text, &host()).unwrap();
        assert_eq!(shown(&list), ["A=2", "B=\"quoted\" # kept", "SECRET=s", "LC_TIME=de", "E="]);
        for (bad, line) in [("A=1\nexport B=2", "line 2"), ("=x", "line 1"), ("\n\nA B", "line 3")] {
            let error = apply_file(&mut Vec::new(), bad, &host()).unwrap_err();
            assert!(format!("{error:#}").contains(line), "{bad:?}: {error:#}");
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_there(name in "[A-Za-z_][A-Za-z0-9_]{0,9}", value in "[^\0]*") {
            let mut list = Vec::new();
            apply(&mut list, &format!("{name}={value}"), &[]).unwrap();
            prop_assert_eq!(list, [(name, value)]);
        }

        #[test]
        fn nothing_panics(text: String) {
            let _ = apply_file(&mut Vec::new(), &text, &host());
        }
    }
}
