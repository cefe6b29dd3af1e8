//! `.image`: a service that pulls an image once.

use super::draft::{Draft, of, own};
use anyhow::{Context, Result, ensure};

/// What Podman pulls from that is no registry.
const TRANSPORTS: [&str; 6] =
    ["containers-storage", "dir", "docker-archive", "docker-daemon", "oci", "oci-archive"];

/// Add the service.
pub fn build(draft: &mut Draft) -> Result<()> {
    let image = draft.value("Image").context("[Image] has no Image=")?;
    let transport = image.split_once(':').map_or("", |(transport, _)| transport);
    ensure!(!TRANSPORTS.contains(&transport), "Image={image}: only registries are pulled from");
    let mut words = own(["image", "pull"]);
    words.extend(draft.options()?);
    words.extend(draft.extra()?);
    words.push(of("Image", image));
    draft.once(true);
    draft.command("ExecStart", "", words)
}
