//! What `ctr run` runs: an image and how it is pulled, or a directory of the user's (`--rootfs`).

use super::{option_value::one, run_args::Args};
use crate::{
    container::{
        grammar,
        request::{Pull, Rootfs, Source},
    },
    error::Explain,
};
use anyhow::{Context, Result, anyhow, bail};

impl Args {
    /// `image` as it was named.
    pub(super) fn source(&self, image: String) -> Result<Source> {
        if image.is_empty() {
            return Err(anyhow!("the image's name is empty")).hint("name one, as in ctr run ubuntu");
        }
        if !self.rootfs {
            return Ok(Source::Image {
                name: image,
                pull: Pull {
                    policy: grammar::parse_pull_policy(self.pull.as_deref().unwrap_or("missing"))
                        .with_context(|| format!("--pull {}", self.pull.as_deref().unwrap_or_default()))
                        .hint("write it as --pull=always, missing, never or newer")?,
                    platform: one(
                        "--platform",
                        &self.platform,
                        "--platform linux/arm64",
                        grammar::parse_platform,
                    )?,
                    quiet: self.quiet,
                    tls_verify: self.tls_verify,
                    authfile: self.authfile.clone(),
                },
            });
        }
        let for_images = [
            ("--pull", self.pull.is_some()),
            ("--platform", self.platform.is_some()),
            ("--tls-verify", self.tls_verify.is_some()),
            ("--authfile", self.authfile.is_some()),
        ];
        if let Some((option, _)) = for_images.iter().find(|(_, given)| *given) {
            bail!("{option} can't be used with --rootfs, which pulls no image");
        }
        let (dir, overlay) = grammar::parse_rootfs(&image).with_context(|| format!("--rootfs {image}"))?;
        let found = std::fs::canonicalize(dir).with_context(|| format!("--rootfs {dir}"));
        let dir = found.hint("name the directory with the root file system")?;
        if !dir.is_dir() {
            bail!("--rootfs {}: not a directory", dir.display());
        }
        Ok(Source::Rootfs(Rootfs { dir, overlay }))
    }
}
