//! Manifests, indexes and image configs as a registry serves them (OCI image-spec, Docker image manifest v2 schema 2).
//! Pure: bytes in, checked value out. Everything here is hostile.

use super::platform::Platform;
use crate::{error::Explain, storage::Digest, weakened};
use anyhow::{Context, Result, anyhow, bail};
use oci_distribution::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
    OciDescriptor,
};
use serde::{Deserialize, de::IgnoredAny};

/// No manifest and no index is longer, in bytes (the limit that registries must accept is the same).
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// No image config is longer, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// An overlay of more layers doesn't fit into one mount; Docker has the same limit.
pub const LAYERS_LIMIT: usize = 127;

/// What we can read, for the `Accept` header.
pub const ACCEPT: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// Configs of images; a manifest with any other is of an artifact.
const CONFIGS: [&str; 2] = [IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE];

/// One of the two things a tag can point to.
#[derive(Debug, PartialEq, Eq)]
pub enum Document {
    /// Images of several platforms.
    Index(Vec<Offer>),
    /// One image.
    Image(Manifest),
}

/// One entry of an index.
#[derive(Debug, PartialEq, Eq)]
pub struct Offer {
    /// Where the manifest is.
    pub content: Content,
    /// What it runs on, when the index says.
    pub platform: Option<Platform>,
}

/// One image: its config, and its layers with the base first.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The image config.
    pub config: Content,
    /// The compressed layers.
    pub layers: Vec<Content>,
}

/// A descriptor: content by digest, and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Of the bytes as transferred.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// What a pull needs of an image config.
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    /// What the image runs on.
    pub platform: Platform,
    /// The digests of the unpacked layers, base first.
    pub diff_ids: Vec<Digest>,
}

/// Parse what came with `content_type`. Pure.
///
/// # Errors
/// It is no image or index, or it is ambiguous: two readers could take it for different things (CVE-2021-41190).
pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document> {
    let header = content_type.map(|text| text.split(';').next().unwrap_or(text).trim());
    if let Some(html) = header.filter(|header| header.starts_with("text/html")) {
        return Err(anyhow!("the answer is a web page ({html}), not a manifest"))
            .hint("check the registry's address; a proxy or a login page may stand in between");
    }
    let raw: Raw = serde_json::from_slice(bytes).context("read the manifest as JSON")?;
    let header = header.filter(|header| header.starts_with("application/vnd."));
    let inside = raw.media_type.as_deref();
    if let (Some(header), Some(inside)) = (header, inside)
        && header != inside
        && !weakened::is("media-types")
    {
        bail!("the manifest is ambiguous: sent as {}, its mediaType is {}", shown(header), shown(inside));
    }
    if raw.schema_version == 1 || raw.fs_layers.is_some() || raw.signatures.is_some() {
        return Err(anyhow!("the manifest has Docker's schema 1, which no registry should serve since 2019"))
            .hint("push the image again with a current tool");
    }
    if raw.schema_version != 2 {
        bail!("the manifest has schemaVersion {}, not 2", raw.schema_version);
    }
    let kind = inside.or(header);
    let is_index = match (&raw.manifests, raw.layers.is_some() || raw.config.is_some()) {
        (Some(_), true) => bail!("the manifest is ambiguous: it has the fields of an image and of an index"),
        (None, false) => bail!("the manifest is neither an image nor an index"),
        (manifests, _) => manifests.is_some(),
    };
    match kind {
        Some(OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE) if !is_index => {
            bail!("the manifest is ambiguous: an index by its media type, an image by its fields")
        }
        Some(OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE) if is_index => {
            bail!("the manifest is ambiguous: an image by its media type, an index by its fields")
        }
        Some(kind) if !ACCEPT.contains(&kind) => {
            bail!("the manifest has the unknown media type {}", shown(kind))
        }
        _ => {}
    }
    match raw.manifests {
        Some(manifests) => index(manifests),
        None => image(raw.config, raw.layers.unwrap_or_default()),
    }
}

/// The entry of an index that fits `wanted` best. Pure.
///
/// # Errors
/// None fits; the message lists those there are.
pub fn choose<'a>(offers: &'a [Offer], wanted: &Platform) -> Result<&'a Offer> {
    let distance = |offer: &Offer| match &offer.platform {
        Some(platform) => wanted.distance(platform),
        // An index inside an index may leave it open.
        None => Some(u32::MAX),
    };
    let ranked = offers.iter().filter_map(|offer| Some((distance(offer)?, offer)));
    if let Some((_, offer)) = ranked.min_by_key(|(distance, _)| *distance) {
        return Ok(offer);
    }
    let mut there: Vec<String> =
        offers.iter().filter_map(|o| o.platform.as_ref()).map(Platform::to_string).collect();
    there.retain(|platform| !platform.starts_with("unknown/"));
    there.dedup();
    there.truncate(32);
    let cause = anyhow!("the image has no platform {wanted}, only {}", there.join(", "));
    match there.first() {
        Some(first) => Err(cause).hint(format!("choose one with --platform {first}")),
        None => Err(anyhow!("the index holds no image")),
    }
}

/// Parse an image config and hold it against the manifest it belongs to. Pure.
pub fn parse_config(bytes: &[u8], manifest: &Manifest) -> Result<Config> {
    let raw: RawConfig = serde_json::from_slice(bytes).context("read the image config as JSON")?;
    let digests = raw.rootfs.diff_ids.len();
    if digests != manifest.layers.len() {
        bail!("the image config names {digests} layers, the manifest {}", manifest.layers.len());
    }
    Ok(Config {
        platform: Platform::new(&clip(&raw.os), &clip(&raw.architecture), raw.variant.as_deref()),
        diff_ids: raw.rootfs.diff_ids,
    })
}

fn index(entries: Vec<ImageIndexEntry>) -> Result<Document> {
    let mut offers = Vec::with_capacity(entries.len());
    for entry in entries {
        // Signatures, attestations and other company that an image may keep.
        let artifact = entry.artifact_type.as_deref().is_some_and(|kind| !CONFIGS.contains(&kind));
        if artifact || !ACCEPT.contains(&entry.media_type.as_str()) {
            continue;
        }
        let platform = entry.platform.map(|platform| {
            let (os, architecture) = (platform.os.to_string(), platform.architecture.to_string());
            Platform::new(&clip(&os), &clip(&architecture), platform.variant.as_deref())
        });
        offers.push(Offer { content: content(&entry.digest, entry.size)?, platform });
    }
    Ok(Document::Index(offers))
}

fn image(config: Option<OciDescriptor>, layers: Vec<OciDescriptor>) -> Result<Document> {
    let Some(config) = config else {
        bail!("the manifest has no config");
    };
    if !CONFIGS.contains(&config.media_type.as_str()) {
        bail!("this is an artifact of type {}, not an image to run", shown(&config.media_type));
    }
    if layers.len() > LAYERS_LIMIT {
        return Err(anyhow!("the image has {} layers, the limit is {LAYERS_LIMIT}", layers.len()))
            .hint("squash the image where it is built");
    }
    let layers: Vec<Content> = layers.iter().map(layer).collect::<Result<_>>()?;
    let total = layers.iter().try_fold(0u64, |sum, layer| sum.checked_add(layer.size));
    if total.is_none_or(|total| total > i64::MAX as u64) {
        bail!("the declared sizes of the layers are beyond any disk");
    }
    Ok(Document::Image(Manifest { config: content(&config.digest, config.size)?, layers }))
}

fn layer(descriptor: &OciDescriptor) -> Result<Content> {
    let kind = descriptor.media_type.as_str();
    if descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty()) || kind.contains(".foreign.") {
        bail!(
            "layer {} lies outside the registry (foreign layer), which is refused",
            shown(&descriptor.digest)
        );
    }
    // The compression itself is read from the first bytes; the type only has to be one of a root filesystem.
    let plain = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
    ];
    let rest = plain.iter().find_map(|base| kind.strip_prefix(base));
    if !matches!(rest, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd")) {
        bail!(
            "layer {} has the media type {}, which is no layer of an image",
            shown(&descriptor.digest),
            shown(kind)
        );
    }
    content(&descriptor.digest, descriptor.size)
}

fn content(digest: &str, size: i64) -> Result<Content> {
    let digest: Digest = digest.parse()?;
    let size = u64::try_from(size).map_err(|_| anyhow!("{digest} has the declared size {size}"))?;
    Ok(Content { digest, size })
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn shown(text: &str) -> String {
    format!("{:?}", clip(text))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<OciDescriptor>,
    layers: Option<Vec<OciDescriptor>>,
    manifests: Option<Vec<ImageIndexEntry>>,
    fs_layers: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawConfig {
    os: String,
    architecture: String,
    variant: Option<String>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OCI: &str = OCI_IMAGE_MEDIA_TYPE;
    const INDEX: &str = OCI_IMAGE_INDEX_MEDIA_TYPE;

    fn manifest(extra: &str, layer_type: &str, layer_extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{IMAGE_CONFIG_MEDIA_TYPE}","digest":"{A}","size":3}},
            "layers":[{{"mediaType":"{layer_type}","digest":"{A}","size":5{layer_extra}}}]}}"#
        )
    }

    fn outcome(text: &str, content_type: Option<&str>) -> String {
        match parse(text.as_bytes(), content_type) {
            Ok(Document::Image(manifest)) => format!("image of {}", manifest.layers.len()),
            Ok(Document::Index(offers)) => format!("index of {}", offers.len()),
            Err(error) => format!("error {error:#}"),
        }
    }

    #[test]
    fn manifests_that_are_accepted() {
        for kind in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert_eq!(outcome(&manifest("", kind, ""), None), "image of 1", "{kind}");
        }
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let typed = manifest(&format!(r#""mediaType":"{OCI}","#), layer, r#","urls":[]"#);
        for header in [None, Some(OCI), Some("application/json"), Some(&*format!("{OCI}; charset=utf-8"))] {
            assert_eq!(outcome(&typed, header), "image of 1", "{header:?}");
        }
        let nothing = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(outcome(nothing, Some(INDEX)), "index of 0");
    }

    #[test]
    fn manifests_that_are_refused() {
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let good = manifest("", layer, "");
        let many = format!(r#"{{"mediaType":"{layer}","digest":"{A}","size":1}}"#);
        let many = vec![many; LAYERS_LIMIT + 1].join(",");
        let huge = format!(r#"{{"mediaType":"{layer}","digest":"{A}","size":{}}}"#, i64::MAX);
        let with = |layers: &str| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{IMAGE_CONFIG_MEDIA_TYPE}","digest":"{A}","size":3}},"layers":[{layers}]}}"#
            )
        };
        for (text, header, part) in [
            ("", None, "JSON"),
            ("[]", None, "JSON"),
            ("{}", None, "JSON"),
            (r#"{"schemaVersion":2}"#, None, "neither"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "schema 1"),
            (r#"{"schemaVersion":3,"layers":[]}"#, None, "schemaVersion 3"),
            (r#"{"schemaVersion":2,"layers":[]}"#, None, "no config"),
            (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#, None, "ambiguous"),
            (r#"{"schemaVersion":2,"layers":[],"layers":[]}"#, None, "duplicate"),
            (&good, Some(INDEX), "ambiguous"),
            (&good, Some("text/html; x"), "web page"),
            (&good, Some("application/vnd.unknown+json"), "unknown media type"),
            (&manifest(&format!(r#""mediaType":"{INDEX}","#), layer, ""), None, "ambiguous"),
            (
                &manifest(&format!(r#""mediaType":"{OCI}","#), layer, ""),
                Some(IMAGE_MANIFEST_MEDIA_TYPE),
                "ambiguous",
            ),
            (&good.replace(A, "sha256:../../x"), None, "sha256"),
            (&good.replace("\"size\":5", "\"size\":-5"), None, "declared size -5"),
            (&good.replace("\"size\":5", "\"size\":1e99"), None, "JSON"),
            (&manifest("", layer, r#","urls":["http://a/"]"#), None, "foreign"),
            (&manifest("", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""), None, "foreign"),
            (&manifest("", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", ""), None, "no layer"),
            (
                &good.replace(IMAGE_CONFIG_MEDIA_TYPE, "application/vnd.cncf.helm.config.v1+json"),
                None,
                "artifact",
            ),
            (&with(&many), None, "128 layers"),
            (&with(&format!("{huge},{huge}")), None, "beyond any disk"),
        ] {
            let outcome = outcome(text, header);
            assert!(outcome.starts_with("error ") && outcome.contains(part), "{text}: {outcome}");
        }
    }

    #[test]
    fn platforms_are_chosen() {
        let entry = |platform: &str, n: usize| {
            let digest = A.replacen('a', "b", 1).replace("aaaa", &format!("{n:04}"));
            let digest = format!("sha256:{}", &digest[digest.len() - 64..]);
            format!(r#"{{"mediaType":"{OCI}","digest":"{digest}","size":{n},"platform":{platform}}}"#)
        };
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{},{},{{"mediaType":"application/x","digest":"x","size":0}}]}}"#,
            entry(r#"{"os":"linux","architecture":"arm","variant":"v6"}"#, 1),
            entry(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#, 2),
            entry(r#"{"os":"unknown","architecture":"unknown"}"#, 3),
            entry(r#"{"os":"linux","architecture":"amd64"}"#, 4),
        );
        let Ok(Document::Index(offers)) = parse(index.as_bytes(), None) else { panic!("no index") };
        for (wanted, expected) in
            [("linux/amd64", 4), ("linux/arm/v7", 2), ("linux/arm/v6", 1), ("linux/arm", 2)]
        {
            assert_eq!(choose(&offers, &wanted.parse().unwrap()).unwrap().content.size, expected, "{wanted}");
        }
        let error = choose(&offers, &"linux/s390x".parse().unwrap()).unwrap_err();
        assert!(format!("{error:#}").ends_with("only linux/arm/v6, linux/arm, linux/amd64"), "{error:#}");
        assert_eq!(crate::error::hint(&error), Some("choose one with --platform linux/arm/v6"));
    }

    #[test]
    fn configs() {
        let Ok(Document::Image(manifest)) =
            parse(manifest("", "application/vnd.oci.image.layer.v1.tar", "").as_bytes(), None)
        else {
            panic!("no image")
        };
        let config = |diff_ids: &str| {
            let text =
                format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":[{diff_ids}]}}}}"#);
            parse_config(text.as_bytes(), &manifest)
        };
        assert_eq!(config(&format!("{A:?}")).unwrap().diff_ids.len(), 1);
        assert!(format!("{:#}", config("").unwrap_err()).contains("names 0 layers, the manifest 1"));
        assert!(config("\"sha256:x\"").is_err());
        assert!(parse_config(b"{}", &manifest).is_err());
    }
}
