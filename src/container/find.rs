//! The container that a user means: by name, by id, or by the beginning of an id that only one has.

use crate::{
    error::Explain,
    storage::{ContainerDir, ContainerId, Name, Store},
};
use anyhow::{Result, anyhow};

/// The container that `given` names, in this order: a whole name, a whole id, the beginning of an id.
///
/// # Errors
/// There is none, with exit status 1 (podman-rm(1), "Exit Status"); or several ids begin so.
pub fn find(store: &Store, given: &str) -> Result<ContainerDir> {
    lookup(store, given)?.map_or_else(|| not_found(given), Ok)
}

/// Like [`find`], `None` when there is none.
pub fn lookup(store: &Store, given: &str) -> Result<Option<ContainerDir>> {
    if let Ok(name) = given.parse::<Name>()
        && let Some(id) = store.named(&name)?
    {
        return Ok(Some(store.container(&id)));
    }
    if given.is_empty() || given.len() > 64 || !given.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    if let Ok(id) = given.parse::<ContainerId>() {
        let dir = store.container(&id);
        return Ok(dir.path().exists().then_some(dir));
    }
    let mut matches: Vec<_> =
        store.containers()?.into_iter().filter(|id| id.as_str().starts_with(given)).collect();
    matches.sort();
    match matches.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(store.container(id))),
        several => {
            Err(anyhow!("{} containers have an id that begins with {given:?}", several.len())).hint(format!(
                "give more of it: {} …",
                several[..2].iter().map(ContainerId::short).collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

fn not_found<T>(given: &str) -> Result<T> {
    let given: String = given.chars().take(80).collect();
    Err(anyhow!("no container has the name or id {given:?}"))
        .hint("`ctr ps -a` lists all containers")
        .status(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error, storage::Dirs};

    #[test]
    fn by_name_id_and_prefix() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let dirs = Dirs { data: at("data"), runtime: at("run"), config: at("config"), cache: at("cache") };
        let store = Store::open(dirs).unwrap();
        let ids: Vec<ContainerId> = ["aa11", "aa12", "bb00"]
            .map(|start| format!("{start}{}", "0".repeat(60)).parse().unwrap())
            .into();
        for id in &ids {
            store.create_container(id, &[]).unwrap();
        }
        // A name wins over the beginning of an id.
        store.claim_name(&"bb".parse().unwrap(), &ids[0]).unwrap();
        for (given, expected) in [
            ("bb", Some(&ids[0])),
            ("bb0", Some(&ids[2])),
            ("aa11", Some(&ids[0])),
            (ids[1].as_str(), Some(&ids[1])),
            (&"0".repeat(64), None),
            ("cc", None),
            ("", None),
            ("../names/bb", None),
            ("a\nb", None),
            (&"a".repeat(65536), None),
        ] {
            let found = lookup(&store, given).unwrap();
            assert_eq!(found.as_ref().map(ContainerDir::id), expected, "{given:?}");
        }
        let ambiguous = lookup(&store, "aa1").unwrap_err();
        assert!(error::hint(&ambiguous).unwrap().contains("aa1100000000, aa1200000000"));
        let missing = find(&store, "cc").unwrap_err();
        assert_eq!((error::status(&missing), error::hint(&missing).is_some()), (1, true));
    }
}
