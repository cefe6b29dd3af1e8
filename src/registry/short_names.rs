//! Which places a name may mean: as typed, or an alias, or each unqualified-search registry in turn
//! (containers-registries.conf(5), "SHORT-NAME ALIASING"). Pure.

use super::{
    reference::{self, DOCKER_HUB, Named, Reference},
    registries::Registries,
    registries_conf::ShortNameMode,
};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow};

/// Where a pull of `name` looks, in order; never empty.
///
/// # Errors
/// The name is malformed, or short with several registries to search while `short-name-mode` asks for certainty.
pub fn to_pull(name: &str, conf: &Registries) -> Result<Vec<Reference>> {
    if reference::is_of_transport(name) {
        return Err(reference::of_transport(name));
    }
    let (path, target) = match reference::parse(name)? {
        Named::Full(reference) => return Ok(vec![reference]),
        Named::Short { path, target } => (path, target),
    };
    if let Some(place) = conf.alias(&path) {
        return Ok(vec![at_alias(&path, place, &target)?]);
    }
    let search = conf.search();
    if search.is_empty() {
        return Err(anyhow!("{name:?} names no registry, and unqualified-search-registries is empty"))
            .hint(format!("ctr pull docker.io/library/{name}"));
    }
    if search.len() > 1 && conf.short_name_mode() == ShortNameMode::Enforcing {
        return Err(anyhow!("{name:?} may be in {}, and short-name-mode is enforcing", search.join(", ")))
            .hint(format!("ctr pull {}/{name}", search[0]));
    }
    Ok(search.iter().map(|registry| Reference::at(registry, &path, target.clone())).collect())
}

/// Which references of the store `name` may mean, the most likely first: like [`to_pull`], and images of our own under
/// `localhost/`.
pub fn to_find(name: &str, conf: &Registries) -> Result<Vec<Reference>> {
    let (path, target) = match reference::parse(name)? {
        Named::Full(reference) => return Ok(vec![reference]),
        Named::Short { path, target } => (path, target),
    };
    let mut places = Vec::new();
    if let Some(place) = conf.alias(&path) {
        places.push(at_alias(&path, place, &target)?);
    }
    let search = conf.search();
    let registries = ["localhost"].into_iter().chain(search.iter().map(String::as_str)).chain([DOCKER_HUB]);
    for registry in registries {
        let place = Reference::at(registry, &path, target.clone());
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

fn at_alias(path: &str, place: &str, target: &reference::Target) -> Result<Reference> {
    let mut reference =
        Reference::parse(place).with_context(|| format!("alias {path:?} in registries.conf"))?;
    reference.target = target.clone();
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Registries {
        let mut registries = Registries::default();
        registries.add(super::super::registries_conf::parse(text).unwrap());
        registries
    }

    fn list(found: Result<Vec<Reference>>) -> String {
        match found {
            Ok(places) => places.iter().map(Reference::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error {error:#}"),
        }
    }

    #[test]
    fn pull_candidates() {
        let two = "unqualified-search-registries = ['quay.io', 'docker.io']\n";
        let alias = "[aliases]\nubuntu = 'registry.example.com/base/ubuntu'";
        for (text, name, expected) in [
            ("", "ubuntu", "docker.io/library/ubuntu:latest"),
            ("", "team/app:1", "docker.io/team/app:1"),
            ("", "quay.io/x", "quay.io/x:latest"),
            (two, "x", "quay.io/x:latest docker.io/library/x:latest"),
            (two, "quay.io/x", "quay.io/x:latest"),
            (&format!("{two}{alias}"), "ubuntu:9", "registry.example.com/base/ubuntu:9"),
            (&format!("{two}{alias}"), "ubuntux", "quay.io/ubuntux:latest docker.io/library/ubuntux:latest"),
        ] {
            assert_eq!(list(to_pull(name, &conf(text))), expected, "{text} {name}");
        }
        assert!(list(to_pull("x", &conf("unqualified-search-registries = []"))).contains("is empty"));
        let enforcing = format!("{two}short-name-mode = 'enforcing'");
        assert!(list(to_pull("x", &conf(&enforcing))).contains("enforcing"));
    }

    #[test]
    fn local_candidates() {
        let text = "unqualified-search-registries = ['quay.io']\n[aliases]\nx = 'a.b/x'";
        assert_eq!(
            list(to_find("x", &conf(text))),
            "a.b/x:latest localhost/x:latest quay.io/x:latest docker.io/library/x:latest"
        );
        assert_eq!(list(to_find("x", &conf(""))), "localhost/x:latest docker.io/library/x:latest");
        assert_eq!(list(to_find("a.b/x", &conf(""))), "a.b/x:latest");
    }
}
