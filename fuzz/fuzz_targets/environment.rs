//! `--env-file` and `-e`: what is accepted has a name, and no variable is there twice.
#![no_main]

use ctr::container::environment::{Variable, apply, apply_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let host: Vec<Variable> = [("HOME", "/h"), ("LC_ALL", "C"), ("LC_TIME", "C")].map(|(n, v)| (n.into(), v.into())).into();
    let mut list = Vec::new();
    let _ = apply_file(&mut list, text, &host);
    let _ = apply(&mut list, text, &host);
    for (n, (name, value)) in list.iter().enumerate() {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'), "{name:?}={value:?}");
        assert!(list[..n].iter().all(|(other, _)| other != name), "{name:?} twice");
    }
});
