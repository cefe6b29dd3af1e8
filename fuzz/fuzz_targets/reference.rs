//! Image references: what is accepted prints as a name that is accepted again, and means the same.
#![no_main]

use ctr::registry::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse(text) else { return };
    let name = reference.name();
    let again = Reference::parse(&name).unwrap_or_else(|e| panic!("{name:?}, from {text:?}: {e:#}"));
    assert_eq!(again.name(), name, "from {text:?}");
    assert!(!reference.target.in_url().contains(['/', '?', '#', ' ', '\n']), "{name:?} leaves its part of the address");
});
