//! Row 28: our own dependencies.

use std::{fs, path::Path};

#[test]
fn each_is_of_the_registry_and_looked_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect(name);
    let lock: toml::Table = read("Cargo.lock").parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    assert!(packages.len() > 100, "all are there");
    for package in packages.iter().filter(|package| package["name"].as_str() != Some("ctr")) {
        let source = package.get("source").and_then(toml::Value::as_str);
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{package}");
        assert!(package.get("checksum").is_some(), "{package}");
    }
    let deny: toml::Table = read("deny.toml").parse().expect("TOML");
    for check in ["advisories", "licenses", "bans", "sources"] {
        assert!(deny.contains_key(check) && read("scripts/deny").contains(check), "{check}");
    }
    assert!(read("scripts/test").contains("scripts/deny") && read(".ci/run").contains("scripts/test"));
}
