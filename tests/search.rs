//! `ctr search`: indexes, catalogues and tags, page by page.

mod support;

use serde_json::json;
use support::{Ctr, Fault, Faults, Registry, User, tiny};

fn ground() -> (Ctr, Faults) {
    let faults = Faults::new(Registry::plain());
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&format!("unqualified-search-registries = [\"{}\"]\n{}", faults.address(), faults.conf()));
    (ctr, faults)
}

fn index(results: serde_json::Value) -> Fault {
    Fault::json("application/json", json!({ "results": results }).to_string())
}

#[test]
fn an_index_is_asked_first() {
    let (ctr, faults) = ground();
    let results = json!([
        { "name": "library/alpine", "description": "small\n\u{1b}[2J", "star_count": 9, "is_official": true, "is_automated": false },
        { "name": "me/alpine", "description": "x".repeat(60), "star_count": 1 },
    ]);
    faults.spoil("/v1/search", index(results), 99);
    let name = |path: &str| format!("{}/{path}", faults.address());
    let table = ctr.run(["search", "alpine"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].ends_with("DESCRIPTION"), "{table}");
    assert!(lines[1].starts_with(&name("library/alpine")) && !table.contains('\u{1b}'), "{table}");
    assert!(lines[2].ends_with(&format!(" {}...", "x".repeat(44))), "{table}");
    let format = r"{{.Name}} {{.Stars}} {{.Official}}";
    let official =
        ctr.run(["search", "--filter=is-official", "--filter=stars=5", "--format", format, "alpine"]);
    assert_eq!(official.ok(), format!("{} 9 [OK]", name("library/alpine")));
    let whole = ctr.run([
        "search",
        "--no-trunc",
        "--filter=is-official=false",
        "--format={{.Description}}",
        "alpine",
    ]);
    assert_eq!(whole.ok(), "x".repeat(60));
    assert_eq!(
        ctr.run(["search", "--limit=1", "--format={{.Index}}", "alpine"]).ok(),
        faults.address().to_string()
    );
    ctr.run(["search", "--filter=size=1", "x"]).exits(125);
    ctr.run(["search", "--limit=0", "x"]).fails("--limit");
    let query = faults.asked("GET", "/v1/search");
    assert_eq!(query[0].path, "/v1/search?q=alpine&n=25");
    ctr.run(["search", "a&b=c d"]).ok();
    assert_eq!(
        faults.asked("GET", "/v1/search").last().map(|seen| seen.path.clone()),
        Some("/v1/search?q=a%26b%3Dc+d&n=25".into())
    );
}

#[test]
fn a_catalogue_is_read_page_by_page() {
    let (ctr, faults) = ground();
    tiny("searched").push(Registry::plain(), "search/found:latest");
    let page = |repositories: &[&str], next: Option<&str>| {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(next.map(|next| ("link", format!("<{next}>; rel=\"next\""))));
        Fault::Answer("200 OK", headers, json!({ "repositories": repositories }).to_string().into_bytes())
    };
    let found = ctr.run(["search", "--format={{.Name}}", "search/found"]).ok();
    assert_eq!(found, faults.name("search/found"), "the real registry's");
    faults.spoil("/v2/_catalog?n=", page(&["a", "fit1"], Some("/v2/_catalog?last=fit1")), 1).spoil(
        "/v2/_catalog?last=fit1",
        page(&["b", "fit2", "fit3"], Some("/v2/_catalog?last=fit3")),
        1,
    );
    let whole = format!("{}/", faults.address());
    let two = ctr.run(["search", "--limit=2", "--format={{.Name}}", &format!("{whole}fit")]).ok();
    assert_eq!(two, format!("{}\n{}", faults.name("fit1"), faults.name("fit2")));
    assert!(faults.asked("GET", "last=fit3").is_empty(), "what isn't needed isn't asked for");
    // Lists without end, elsewhere, and of another kind.
    faults.spoil("/v2/_catalog?n=", page(&["a"], Some("http://127.0.0.1:1/x")), 1);
    ctr.run(["search", &whole]).fails("goes on elsewhere");
    faults.spoil("/v2/_catalog?n=", page(&["a"], Some("/v2/_catalog?n=1000")), 1);
    ctr.run(["search", &whole]).fails("goes on elsewhere");
    faults.spoil("/v2/_catalog", Fault::Endless(None), 99);
    ctr.run(["search", &whole]).fails("more than");
    assert!(faults.bytes() < 100 << 20, "{} bytes were taken", faults.bytes());
}

#[test]
fn the_tags_of_an_image() {
    let (ctr, faults) = ground();
    for tag in ["one", "two"] {
        tiny(tag).push(Registry::plain(), &format!("search/tags:{tag}"));
    }
    let name = faults.name("search/tags");
    let list = |options: &[&str]| ctr.run([&["search", "--list-tags"], options, &[&name]].concat()).ok();
    assert_eq!(list(&["--format={{.Name}}:{{.Tag}}"]), format!("{name}:one\n{name}:two"));
    assert!(list(&[]).starts_with("NAME"));
    assert_eq!(list(&["--limit=1", "--format={{.Tag}}"]), "one");
    let json: serde_json::Value = serde_json::from_str(&list(&["--format=json"])).expect("JSON");
    assert_eq!(json, json!([{ "Name": name, "Tags": ["one", "two"] }]));
    ctr.run(["search", "--list-tags", "tags"]).fails("names no registry").hints("docker.io/library/tags");
    ctr.run(["search", "--list-tags", &faults.name("search/none")]).fails("not found");
}

#[test]
fn one_registry_that_fails_hides_no_other() {
    let (ctr, faults) = ground();
    faults.spoil("/v1/search", index(json!([{ "name": "kept" }])), 99);
    ctr.registries(&format!(
        "unqualified-search-registries = [\"127.0.0.1:1\", \"{}\"]\n{}",
        faults.address(),
        faults.conf()
    ));
    let outcome = ctr.run(["search", "--format={{.Name}}", "kept"]).exits(0);
    assert_eq!(outcome.stdout().trim(), faults.name("kept"));
    assert!(outcome.stderr().contains("warning: search 127.0.0.1:1"), "{outcome}");
}
