//! `ctr save` and `ctr load`: what is saved comes back bit for bit, in every layout; what isn't sound changes nothing.

mod support;

use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};
use support::{
    Compression, Ctr, Flavour, Layer, Layout, Registry, TestImage, User, config, digest, feed, names,
    packed_by, unchanged,
};

const FORMATS: [&str; 4] = ["docker-archive", "oci-archive", "oci-dir", "docker-dir"];
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Manifest and id.
fn digests(ctr: &Ctr, name: &str) -> (String, String) {
    let inspected: Value = serde_json::from_str(&ctr.run(["image", "inspect", name]).ok()).expect("JSON");
    let text = |field: &str| inspected[0][field].as_str().expect("text").to_owned();
    (text("Digest"), text("Id"))
}

fn blobs(ctr: &Ctr) -> BTreeSet<String> {
    ctr.list("blobs/sha256").into_iter().collect()
}

#[test]
fn every_digest_comes_back() {
    let registry = Registry::plain();
    let layers = |flavour| {
        let file = |compression, name: &str| Layer::new(compression).file(name, name.repeat(9000));
        let image = [
            file(Compression::Plain, "plain"),
            file(Compression::Gzip, "gzip"),
            file(Compression::Zstd, "zstd"),
            file(Compression::Gzip, "gzip"),
        ];
        TestImage::new(image).flavour(flavour)
    };
    let oci = layers(Flavour::Oci).push(registry, "team/oci:1");
    let docker = layers(Flavour::Docker).push(registry, "team/docker:1");
    for &user in User::all() {
        let ctr = Ctr::new(user);
        ctr.registries(&registry.as_docker_hub());
        for (image, name) in [(&oci, "docker.io/team/oci:1"), (&docker, "docker.io/team/docker:1")] {
            ctr.run(["pull", "-q", name]).ok();
            let whole = blobs(&ctr);
            // For the others one way stands for all.
            for format in FORMATS.into_iter().take(if user == User::Rootless { 4 } else { 1 }) {
                let file = format!("{format}-{}", &image.manifest[7..20]);
                let what = format!("{name} as {format} by {user:?}");
                ctr.run(["save", "--format", format, "-o", &file, name]).ok();
                ctr.run(["rmi", name]).ok();
                assert!(blobs(&ctr).is_empty(), "{what}");
                let said = ctr.run(["load", "-q", "-i", &file]).ok();
                let expected = if format == "docker-dir" { &image.config } else { name };
                assert_eq!(said, format!("Loaded image: {expected}"), "{what}");
                let expected = if format == "docker-dir" { image.short_id() } else { name };
                let found = digests(&ctr, expected);
                assert_eq!(found, (image.manifest.clone(), image.config[7..].to_owned()), "{what}");
                assert_eq!(blobs(&ctr), whole, "{what}");
                assert_eq!(ctr.list("tmp"), [""; 0], "{what}");
                // The same image is the same archive.
                if !format.ends_with("dir") {
                    let again = ctr.run(["image", "save", "--format", format, name]).exits(0);
                    assert!(
                        again.bytes() == fs::read(ctr.home().join(&file)).expect("the archive"),
                        "{what}"
                    );
                }
            }
            ctr.run(["rmi", "-af"]).ok();
        }
    }
}

#[test]
fn images_in_one_archive_share_their_blobs() {
    let registry = Registry::plain();
    let image = |own: &str| {
        let common = Layer::new(Compression::Gzip).file("common", "common".repeat(1000));
        TestImage::new([common, Layer::new(Compression::Gzip).file(own, own)])
    };
    let (one, two) =
        (image("one").push(registry, "several/one:1"), image("two").push(registry, "several/two:2"));
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let (first, second) = ("docker.io/several/one:1", "docker.io/several/two:2");
    ctr.run(["pull", "-q", first, second]).ok();
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let file = format!("both.{format}");
        ctr.run(["save", "-m", "--format", format, "-o", &file, first, second, first]).ok();
        ctr.run(["rmi", "-af"]).ok();
        let said = ctr.run(["load", "-q", "-i", &file]).ok();
        let mut said: Vec<_> = said.lines().collect();
        said.sort();
        assert_eq!(said, [format!("Loaded image: {first}"), format!("Loaded image: {second}")], "{format}");
        assert_eq!(digests(&ctr, first).0, one.manifest);
        assert_eq!(digests(&ctr, second).0, two.manifest);
        assert_eq!(blobs(&ctr).len(), 7, "{format}");
    }
    let members = names(&fs::read(ctr.home().join("both.docker-archive")).expect("the archive"));
    assert_eq!(members.iter().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 13).count(), 7);
    // Without -m a further name is one more name, as podman-save(1) says.
    ctr.run(["save", "-o", "names.tar", first, "other:3"]).ok();
    let said = ctr.run(["load", "-q", "-i", "names.tar"]).ok();
    assert_eq!(said, format!("Loaded image: {first}\nLoaded image: localhost/other:3"));
    ctr.run(["save", "-o", "names.tar", first, second]).fails("another image").hints("-m");
    ctr.run(["save", "-m", "--format", "docker-dir", "-o", "x", first]).fails("one image");
}

#[test]
fn compressed_as_a_whole() {
    let mut layout = Layout::new();
    let image = layout.image(host(), Layer::new(Compression::Gzip).file("a", "a".repeat(100_000)));
    let archive = layout.index(&[image]).tar();
    let ctr = Ctr::new(User::Rootless);
    let expected = feed(ctr.command(["load", "-q"]), &archive).ok();
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let packed = packed_by(program, &archive);
        ctr.run(["rmi", "-af"]).ok();
        assert_eq!(feed(ctr.command(["image", "load", "-q"]), &packed).ok(), expected, "{program}");
        ctr.run(["rmi", "-af"]).ok();
        unchanged(&ctr, &packed[..packed.len() / 2], "cut short");
        unchanged(&ctr, &packed[..packed.len() - 3], "cut short");
    }
}

#[test]
fn what_docker_and_others_have_written() {
    let ctr = Ctr::new(User::Rootless);
    let (lower, gzip) = (
        Layer::new(Compression::Plain).file("lower", "lower").tar(),
        Layer::new(Compression::Gzip).file("upper", "upper").pack(),
    );
    let upper = gzip.0.clone();
    let config = config(host(), &[digest(&lower), digest(&upper), digest(&lower)]);
    let hex = digest(&config)[7..].to_owned();
    let table = |config: &str, layers: [&str; 3]| {
        json!([{ "Config": config, "RepoTags": ["old/image:1", "team.example.com/x:2"], "Layers": layers }])
            .to_string()
    };
    let repositories = json!({ "old/image": { "1": "c" } }).to_string();
    let name = format!("{hex}.json");
    // Docker before 25: the table at the end, a layer that is there already is a link.
    let docker = Layout::new()
        .link("c/layer.tar", "../a/layer.tar")
        .file("a/VERSION", "1.0")
        .file("a/json", r#"{"id":"a"}"#)
        .file("a/layer.tar", &lower)
        .file("b/layer.tar", &upper)
        .file(&name, &config)
        .file("manifest.json", table(&name, ["a/layer.tar", "b/layer.tar", "c/layer.tar"]))
        .file("repositories", &repositories);
    // Podman and skopeo: layers under their digests, links to them.
    let hexes = [&lower, &upper].map(|layer| format!("{}.tar", &digest(layer)[7..]));
    let podman = Layout::new()
        .link("a/layer.tar", &format!("../{}", hexes[0]))
        .file(&hexes[0], &lower)
        .file(&hexes[1], &upper)
        .file(&name, &config)
        .file("manifest.json", table(&name, [&hexes[0], &hexes[1], &hexes[0]]));
    // kaniko: layers compressed, the configuration named by its digest.
    let kaniko = Layout::new()
        .file("manifest.json", table(&digest(&config), [&hexes[0], "x.tar.gz", &hexes[0]]))
        .file(&digest(&config), &config)
        .file(&hexes[0], &lower)
        .file("x.tar.gz", &gzip.1);
    for (writer, layout) in [("docker", docker), ("podman", podman), ("kaniko", kaniko)] {
        ctr.run(["rmi", "-af"]).ok();
        let said = feed(ctr.command(["load", "-q"]), &layout.tar()).ok();
        let expected = "Loaded image: docker.io/old/image:1\nLoaded image: team.example.com/x:2";
        assert_eq!(said, expected, "{writer}");
        let (manifest, id) = digests(&ctr, "old/image:1");
        assert_eq!(id, hex, "{writer}");
        // What is made of it is the same each time, and layers are as they came.
        feed(ctr.command(["load", "-q"]), &layout.tar()).ok();
        assert_eq!(digests(&ctr, "team.example.com/x:2").0, manifest);
        let compressed = digest(&gzip.1)[7..].to_owned();
        assert_eq!(blobs(&ctr).contains(&compressed), writer == "kaniko", "{writer}");
    }
}

/// `dir:` has one too, and an index in an OCI layout offers one for each platform.
#[test]
fn this_machine_s_image_is_chosen() {
    let ctr = Ctr::new(User::Rootless);
    let other = if host() == "amd64" { "arm64" } else { "amd64" };
    let layer = |text: &str| Layer::new(Compression::Gzip).file("arch", text);
    let mut layout = Layout::new();
    let runs = |architecture: &str| json!({ "os": "linux", "architecture": architecture });
    let [mut theirs, mut ours] =
        [other, host()].map(|architecture| layout.image(architecture, layer(architecture)));
    let expected = ours["digest"].as_str().expect("a digest").to_owned();
    theirs["platform"] = runs(other);
    ours["platform"] = runs(host());
    let flat = layout.clone().index(&[theirs.clone(), ours.clone()]);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [theirs, ours] }).to_string();
    let mut nested = layout.blob(INDEX, index.as_bytes());
    nested["annotations"] =
        json!({ "io.containerd.image.name": "a.b/c:1", "org.opencontainers.image.ref.name": "1" });
    let nested = layout.index(&[nested]);
    for (layout, name) in [(&flat, None), (&nested, Some("a.b/c:1"))] {
        let said = feed(ctr.command(["load", "-q"]), &layout.tar()).ok();
        let listed: Value =
            serde_json::from_str(&ctr.run(["images", "--format", "json"]).ok()).expect("JSON of images");
        assert_eq!(listed[0]["Digest"], json!(expected), "{listed}");
        match name {
            Some(name) => assert_eq!(said, format!("Loaded image: {name}")),
            None => assert!(said.starts_with("Loaded image: sha256:"), "{said}"),
        }
        ctr.run(["rmi", "-af"]).ok();
        layout.directory(&ctr, "layout");
        assert_eq!(ctr.run(["load", "-q", "-i", "layout"]).ok(), said);
        ctr.run(["rmi", "-af"]).ok();
        fs::remove_dir_all(ctr.home().join("layout")).expect("remove the directory");
    }
}

/// One for each attack or accident; the store holds an image meanwhile.
#[test]
fn unsound_archives_change_nothing() {
    let ctr = Ctr::new(User::Rootless);
    let mut layout = Layout::new();
    let image = layout.image(host(), Layer::new(Compression::Gzip).file("a", "a"));
    feed(ctr.command(["load", "-q"]), &layout.clone().index(std::slice::from_ref(&image)).tar()).ok();

    let mut good = Layout::new();
    let image = good.image(host(), Layer::new(Compression::Gzip).file("b", "b".repeat(5000)));
    let whole = good.clone().index(std::slice::from_ref(&image));
    let manifest: Value = serde_json::from_slice(&good.files[2].1).expect("the manifest");
    // A manifest that says something else, and an index of it.
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        let mut layout = Layout { files: good.files[..2].to_vec(), links: Vec::new() };
        let descriptor = layout.blob(MANIFEST, manifest.to_string().as_bytes());
        layout.index(&[descriptor]).tar()
    };
    let without = |name: &str| {
        let mut layout = whole.clone();
        layout.files.retain(|(file, _)| !file.starts_with(name));
        layout.tar()
    };
    let with_index = |value: Value| good.clone().file("index.json", value.to_string()).tar();
    let damaged = |at: usize| {
        let mut layout = whole.clone();
        let last = layout.files[at].1.len() - 9;
        layout.files[at].1[last] ^= 1;
        layout.tar()
    };
    let deep = {
        let mut layout = good.clone();
        let mut descriptor = image.clone();
        for _ in 0..6 {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
            descriptor = layout.blob(INDEX, index.to_string().as_bytes());
        }
        layout.index(&[descriptor]).tar()
    };
    let cyclic = {
        let mut layout = good.clone();
        let own = format!("sha256:{}", "a".repeat(64));
        let entry = json!({ "mediaType": INDEX, "digest": own, "size": 1 });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string();
        layout.files.push((format!("blobs/sha256/{}", "a".repeat(64)), index.clone().into_bytes()));
        layout.index(&[json!({ "mediaType": INDEX, "digest": own, "size": index.len() })]).tar()
    };
    let long_claim = {
        let mut archive = Layer::new(Compression::Plain).file("blobs/sha256/a", "a").tar();
        let mut header = tar::Header::from_byte_slice(&archive[..512]).clone();
        header.set_size(1 << 62);
        header.set_cksum();
        archive[..512].copy_from_slice(header.as_bytes());
        archive
    };
    let table = |value: Value| Layout::new().file("manifest.json", value.to_string()).tar();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no archive", b"hello, world".repeat(100), "not a tar archive"),
        ("something else", Layer::new(Compression::Plain).file("a", "b").tar(), "neither an index.json"),
        ("old Docker", Layout::new().file("repositories", "{}").tar(), "older than 1.10"),
        ("climbing name", whole.clone().file("../x", "x").tar(), "leads out"),
        ("climbing inside", whole.clone().file("a/../x", "x").tar(), "climbs"),
        ("absolute name", whole.clone().file("/etc/x", "x").tar(), "absolute"),
        ("link out", whole.clone().link("a/b", "../../x").tar(), "leads out"),
        ("absolute link", whole.clone().link("a", "/etc/passwd").tar(), "absolute"),
        ("device", Layer::new(Compression::Plain).device("dev", 1, 3).tar(), "neither a file"),
        ("twice", whole.clone().file("index.json", "{}").tar(), "differ"),
        ("blob twice", whole.clone().file(&good.files[0].0, "x").tar(), "differ"),
        ("wrong layer", damaged(0), "is damaged"),
        ("wrong config", damaged(1), "is damaged"),
        ("wrong manifest", damaged(2), "is damaged"),
        ("no layer", without(&good.files[0].0), "lacks"),
        ("no config", without(&good.files[1].0), "lacks"),
        ("no manifest", without(&good.files[2].0), "lacks"),
        ("empty index", with_index(json!({ "schemaVersion": 2, "manifests": [] })), "names no image"),
        (
            "two of one name",
            {
                let mut layout = good.clone();
                let mut other = layout.image(host(), Layer::new(Compression::Gzip).file("c", "c"));
                let mut image = image.clone();
                for one in [&mut image, &mut other] {
                    one["annotations"] = json!({ "org.opencontainers.image.ref.name": "x" });
                }
                layout.index(&[image, other]).tar()
            },
            "two images are called",
        ),
        ("no index", with_index(json!([])), "index.json"),
        (
            "unknown type",
            with_index(
                json!({ "schemaVersion": 2, "manifests": [{ "mediaType": "a/b", "digest": image["digest"], "size": 1 }] }),
            ),
            "a/b",
        ),
        (
            "wrong size",
            with_index(
                json!({ "schemaVersion": 2, "manifests": [{ "mediaType": MANIFEST, "digest": image["digest"], "size": 1 }] }),
            ),
            "declared",
        ),
        (
            "another digest",
            with_index(
                json!({ "schemaVersion": 2, "manifests": [{ "mediaType": MANIFEST, "digest": "md5:00", "size": 1 }] }),
            ),
            "sha256",
        ),
        ("artifact", with(&|m| m["config"]["mediaType"] = json!("application/x")), "artifact"),
        ("unknown layer", with(&|m| m["layers"][0]["mediaType"] = json!("application/x")), "no layer"),
        ("layer size", with(&|m| m["layers"][0]["size"] = json!(7)), "declared"),
        ("layer of JSON", with(&|m| m["layers"][0]["digest"] = m["config"]["digest"].clone()), "no layer"),
        (
            "two layers",
            with(&|m| {
                let layer = m["layers"][0].clone();
                m["layers"] = json!([layer, layer])
            }),
            "names 1 layers",
        ),
        ("absurd size", with(&|m| m["layers"][0]["size"] = json!(i64::MAX)), "declared"),
        ("deep", deep, "deep"),
        ("cyclic", cyclic, "is damaged"),
        ("claims exabytes", long_claim, "ends within"),
        ("empty table", table(json!([])), "names 0 images"),
        ("table of nothing", table(json!([{ "Config": "x", "Layers": [] }])), "lacks"),
        (
            "link to itself",
            Layout::new().link("manifest.json", "b").link("b", "manifest.json").tar(),
            "link to a link",
        ),
        (
            "upper-case name",
            {
                let config = config(host(), &[]);
                Layout::new()
                    .file("c", &config)
                    .file("manifest.json", json!([{ "Config": "c", "RepoTags": ["Up:1"] }]).to_string())
                    .tar()
            },
            "upper-case",
        ),
        (
            "config by another name",
            {
                let config = config(host(), &[]);
                let name = format!("{}.json", "0".repeat(64));
                let table = json!([{ "Config": name, "Layers": null }]).to_string();
                Layout::new().file(&name, &config).file("manifest.json", table).tar()
            },
            "is damaged",
        ),
        (
            "wrong diff id",
            {
                let layer = Layer::new(Compression::Plain).file("c", "c").tar();
                let table = json!([{ "Config": "c", "Layers": ["l"] }]).to_string();
                let config = config(host(), &[digest(b"")]);
                Layout::new().file("l", &layer).file("c", &config).file("manifest.json", table).tar()
            },
            "diff id",
        ),
        (
            "a layer that climbs",
            {
                let mut layout = Layout::new();
                let image = layout.image(host(), Layer::new(Compression::Gzip).file("../../x", "x"));
                layout.index(&[image]).tar()
            },
            "climb",
        ),
    ];
    let wrong = cases.into_iter().filter_map(|(what, archive, about)| {
        let before = ctr.store();
        let outcome = feed(ctr.command(["load", "-q"]), &archive);
        let said = outcome.stderr().to_lowercase();
        let told =
            said.contains(&about.to_lowercase()) && said.contains("\nhint: ") && !said.contains("panicked");
        let sound = outcome.code() == 125 && told && ctr.store() == before;
        (!sound).then(|| format!("{what}: {outcome}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    feed(ctr.command(["load", "-q"]), &whole.tar()).ok();
}

#[test]
fn too_many_members() {
    let ctr = Ctr::new(User::Rootless);
    ctr.run(["images"]).ok();
    let mut archive = Vec::new();
    let one = Layer::new(Compression::Plain).file("x", "").tar();
    for _ in 0..70_000 {
        archive.extend_from_slice(&one[..512]);
    }
    unchanged(&ctr, &archive, "members");
}

/// Every kind, cut at each multiple of 4 KiB.
#[test]
fn cut_archives_change_nothing() {
    let registry = Registry::plain();
    let noise = support::noise(3, 9000);
    TestImage::new([Layer::new(Compression::Gzip).file("noise", &noise)]).push(registry, "cut:1");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let name = registry.name("cut:1");
    ctr.run(["pull", "-q", &name]).ok();
    let saved: Vec<Vec<u8>> = ["docker-archive", "oci-archive"]
        .map(|format| ctr.run(["save", "--format", format, &name]).exits(0).bytes().to_vec())
        .into();
    ctr.run(["save", "--format", "docker-dir", "-o", "dir", &name]).ok();
    ctr.run(["rmi", "-af"]).ok();
    let gzipped = packed_by("gzip", &saved[0]);
    for archive in saved.iter().chain([&gzipped]) {
        for end in (0..archive.len()).step_by(4096) {
            unchanged(&ctr, &archive[..end], "");
        }
        unchanged(&ctr, &archive[..archive.len() - 1024], "");
    }
    for file in fs::read_dir(ctr.home().join("dir")).expect("the directory") {
        let path = file.expect("a file").path();
        let whole = fs::read(&path).expect("a blob");
        if path.ends_with("version") {
            continue;
        }
        for end in (0..whole.len()).step_by(4096) {
            fs::write(&path, &whole[..end]).expect("cut it");
            let before = ctr.store();
            ctr.run(["load", "-q", "-i", "dir"]).fails("");
            assert!(before == ctr.store(), "{} cut at {end}", path.display());
        }
        fs::write(&path, &whole).expect("mend it");
    }
    ctr.run(["load", "-q", "-i", "dir"]).ok();
}

#[test]
fn where_a_save_goes() {
    let registry = Registry::plain();
    let image = support::tiny("saved").push(registry, "saved:1");
    let ctr = Ctr::new(User::Rootless);
    ctr.registries(&registry.as_docker_hub());
    let name = registry.name("saved:1");
    ctr.run(["pull", "-q", &name]).ok();
    for dir in ["oci-dir", "docker-dir"] {
        ctr.run(["save", "--format", dir, &name]).fails("standard output").hints("-o");
        ctr.file("full/x", "x").run(["save", "--format", dir, "-o", "full", &name]).fails("there already");
    }
    ctr.run(["save", "--compress", "-o", "x", &name]).fails("docker-dir");
    ctr.run(["save", "--compress", "--format", "docker-dir", "-o", "compressed", &name]).ok();
    ctr.run(["save", "--format", "zip", &name]).exits(125);
    ctr.run(["save", "-o", "x", "nothing"]).fails("nothing");
    ctr.run(["save", "-o", "no/such/x", &name]).fails("no/such/x");
    ctr.run(["load", "-i", "no/such/x"]).fails("no/such/x");
    // A terminal gets no archive.
    for (line, words) in
        [(&["save", &name][..], "refusing to save to terminal"), (&["load"], "cannot read from terminal")]
    {
        let mut terminal = support::Terminal::of(ctr.command(line));
        terminal.expect(words);
        assert_eq!(terminal.child.wait().expect("its end").code(), Some(125));
    }
    // What is there stays until all is written; half an archive is none.
    ctr.file("kept", "kept");
    ctr.run(["save", "-o", "kept", &name]).ok();
    let whole = fs::read(ctr.home().join("kept")).expect("the archive");
    assert!(whole.len() > 4096);
    let blob = ctr.data().join("blobs/sha256").join(&image.blobs[0][7..]);
    let contents = fs::read(&blob).expect("the blob");
    let mut damaged = contents.clone();
    damaged[20] ^= 1;
    fs::write(&blob, damaged).expect("damage the blob");
    for (format, target) in [("oci-archive", "kept"), ("oci-dir", "new-dir")] {
        ctr.run(["save", "--format", format, "-o", target, &name]).fails("is damaged").hints("pull");
    }
    fs::remove_file(&blob).expect("remove the blob");
    ctr.run(["save", "-o", "kept", &name]).fails("open blob").hints("pull");
    assert!(fs::read(ctr.home().join("kept")).expect("the archive") == whole);
    let left = fs::read_dir(ctr.home()).expect("the home").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains("new")), "{left:?}");
}
