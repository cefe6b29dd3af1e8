//! Unit files: any text is one or a mistake. What was read is written so that it is read again as the same; words that were
//! split are quoted so that they are split again as the same.
#![no_main]

use ctr::quadlet::{Settings, from_text, plan, quote, unit_file::UnitFile};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    if let Ok(unit) = UnitFile::parse(text) {
        assert_eq!(UnitFile::parse(&unit.to_string()).expect("our own text"), unit);
    }
    if let Ok(words) = quote::split(text) {
        assert_eq!(quote::split(&quote::line(&words)).expect("our own quotes"), words);
    }
    let settings = Settings { program: "/usr/bin/ctr", user: true, accepts: &|_| Ok(()) };
    for kind in ["container", "volume", "network", "image", "build", "pod"] {
        let Ok(source) = from_text(Path::new(&format!("/q/a.{kind}")), text, &[]) else { continue };
        for service in plan(&[source], &settings).services {
            assert!(UnitFile::parse(&service.text).is_ok(), "{}", service.text);
            for name in service.links.iter().map(|(link, _)| link).chain([&service.name]) {
                assert!(
                    !name.starts_with('/')
                        && name.split('/').count() <= 2
                        && !name.split('/').any(|part| part == ".."),
                    "{name}"
                );
            }
        }
    }
});
