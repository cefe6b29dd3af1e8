//! registries.conf: any text is a configuration or a mistake with a line of the file.
#![no_main]

use ctr::registry::{reference::Reference, registries::Registries, registries_conf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match registries_conf::parse(text) {
        Ok(fragment) => {
            let mut registries = Registries::default();
            registries.add(fragment);
            registries.search();
            let name = Reference::parse("docker.io/library/ubuntu:latest").expect("a reference");
            let _ = registries.sources(&name);
        }
        Err(mistake) => assert!(mistake.line <= 1 + text.matches('\n').count()),
    }
});
