//! What an image may say about a container: its default command, environment, user, directory, stop signal, labels and
//! volumes. No other field is read, so none can choose a mount, a capability, a filter or a namespace.

use crate::{
    network::{ports::parse_exposed, wire::Protocol},
    weakened,
};
use anyhow::{Result, bail};
use oci_spec::image::ImageConfiguration;
use std::collections::BTreeMap;

/// The fields that are read: bounded, without NUL bytes, otherwise as the image has them.
#[derive(Clone, Default, Debug)]
pub struct ImageDefaults<'a> {
    /// Comes before any command.
    pub entrypoint: &'a [String],
    /// The command when the user gives none.
    pub cmd: &'a [String],
    /// Names and values. An entry without a value is no request for the host's.
    pub env: Vec<(&'a str, &'a str)>,
    /// `USER[:GROUP]` or empty.
    pub user: &'a str,
    /// Working directory or empty.
    pub workdir: &'a str,
    /// A signal's name or empty.
    pub stop_signal: &'a str,
    /// Metadata.
    pub labels: BTreeMap<&'a str, &'a str>,
    /// Ports, for a user who asks for all of them (`--publish-all`); those that are none are left out.
    pub ports: Vec<(u16, Protocol)>,
    /// Directories that must exist, absolute; none of the container's own.
    pub volumes: Vec<&'a str>,
}

/// Bytes of all these fields together.
pub const BYTES_LIMIT: usize = 1 << 20;
/// Entries of each list.
pub const ENTRIES_LIMIT: usize = 1024;

impl<'a> ImageDefaults<'a> {
    /// The defaults in `image`'s configuration.
    ///
    /// # Errors
    /// They are larger than [`BYTES_LIMIT`] or [`ENTRIES_LIMIT`], or contain a NUL byte.
    pub fn read(image: &'a ImageConfiguration) -> Result<ImageDefaults<'a>> {
        let Some(config) = image.config() else { return Ok(ImageDefaults::default()) };
        let list = |list: &'a Option<Vec<String>>| list.as_deref().unwrap_or_default();
        let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        let (entrypoint, cmd) = (list(config.entrypoint()), list(config.cmd()));
        let (env, volumes) = (list(config.env()), list(config.volumes()));
        let labels: BTreeMap<_, _> =
            config.labels().iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let (user, workdir, stop_signal) =
            (text(config.user()), text(config.working_dir()), text(config.stop_signal()));

        let counts = [entrypoint.len(), cmd.len(), env.len(), volumes.len(), labels.len()];
        let lists = [entrypoint, cmd, env, volumes].into_iter().flatten().map(String::as_str);
        let pairs = labels.iter().flat_map(|(key, value)| [*key, *value]);
        let mut bytes = 0;
        for text in lists.chain(pairs).chain([user, workdir, stop_signal]) {
            bytes += text.len();
            if text.contains('\0') {
                bail!("read the image's configuration: {:?} contains a NUL byte", clip(text));
            }
        }
        if !weakened::is("config-size") && bytes > BYTES_LIMIT
            || counts.iter().any(|count| *count > ENTRIES_LIMIT)
        {
            bail!("read the image's configuration: more than {BYTES_LIMIT} bytes or {ENTRIES_LIMIT} entries");
        }

        let pair = |entry: &'a String| match weakened::is("image-env") {
            true => Some((entry.as_str(), &*std::env::var(entry).ok()?.leak())),
            false => entry.split_once('='),
        };
        let env = env.iter().filter_map(pair).filter(|(name, _)| !name.is_empty());
        let ports = config.exposed_ports().iter().flatten().take(ENTRIES_LIMIT);
        let ports = ports.filter_map(|text| parse_exposed(text).ok()).flatten().take(ENTRIES_LIMIT).collect();
        let volumes = volumes.iter().map(String::as_str).filter(|path| is_ordinary(path));
        Ok(ImageDefaults {
            entrypoint,
            cmd,
            env: env.collect(),
            user,
            workdir,
            stop_signal,
            labels,
            ports,
            volumes: volumes.collect(),
        })
    }
}

fn is_ordinary(path: &str) -> bool {
    let parts = || path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let own = matches!(parts().next(), None | Some("proc" | "sys" | "dev"));
    path.starts_with('/') && !own && parts().all(|part| part != "..")
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
pub mod tests {
    //! Also: an image that other tests start from.

    use super::*;

    /// An image whose `config` is this JSON.
    pub fn image(config: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn nothing_is_filled_in_from_the_host() {
        let image =
            image(r#"{"Env":["A=b=c","PATH","*","HOM*","=x","","E="],"Entrypoint":null,"Volumes":null}"#);
        let defaults = ImageDefaults::read(&image).unwrap();
        assert_eq!(defaults.env, [("A", "b=c"), ("E", "")]);
        assert!(defaults.entrypoint.is_empty() && defaults.volumes.is_empty() && defaults.user.is_empty());
    }

    #[test]
    fn volumes_are_places_of_the_image() {
        let image = image(
            r#"{"Volumes":{"/data":{},"data":{},"/":{},"/../x":{},"/proc/x":{},"//dev":{},"/a/./b":{}}}"#,
        );
        let mut volumes = ImageDefaults::read(&image).unwrap().volumes;
        volumes.sort();
        assert_eq!(volumes, ["/a/./b", "/data"]);
    }

    #[test]
    fn bounds() {
        let long = "x".repeat(BYTES_LIMIT + 1);
        for config in [
            format!(r#"{{"Cmd":["{long}"]}}"#),
            format!(r#"{{"Labels":{{"a":"{long}"}}}}"#),
            format!(r#"{{"User":"{long}"}}"#),
            format!(r#"{{"Env":[{}"A=b"]}}"#, "\"A=b\",".repeat(ENTRIES_LIMIT)),
            r#"{"Cmd":["a\u0000b"]}"#.to_owned(),
            r#"{"WorkingDir":"/\u0000"}"#.to_owned(),
            r#"{"Env":["A=\u0000"]}"#.to_owned(),
        ] {
            assert!(ImageDefaults::read(&image(&config)).is_err(), "{}", &config[..20]);
        }
    }
}
