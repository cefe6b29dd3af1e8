//! `.quadlets` files: several Quadlet files in one (podman-quadlet-install(1)). Pure.

use super::unit::Kind;
use anyhow::{Context, Result, ensure};

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The file's name.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Take a bundle apart at its `---` lines. Each part says its name in a comment, `# FileName=web`, and its kind by its
/// section.
pub fn split(bundle: &str) -> Result<Vec<Part>> {
    let lines: Vec<&str> = bundle.lines().collect();
    let parts = lines
        .split(|line| line.trim() == "---")
        .filter(|part| part.iter().any(|line| !line.trim().is_empty()));
    let parts: Vec<Part> = parts.map(part).collect::<Result<_>>()?;
    ensure!(!parts.is_empty(), "there is nothing in it");
    Ok(parts)
}

fn part(lines: &[&str]) -> Result<Part> {
    let name = lines.iter().find_map(|line| line.trim().strip_prefix('#')?.trim().strip_prefix("FileName="));
    let name = name.context("a part has no line `# FileName=NAME`")?.trim();
    let extension = lines.iter().find_map(|line| {
        let section = line.trim().strip_prefix('[')?.strip_suffix(']')?.to_ascii_lowercase();
        matches!(Kind::of(&format!("a.{section}")), Ok(Some(_)) | Err(_)).then_some(section)
    });
    let extension = extension.with_context(|| format!("{name}: no section says what it is"))?;
    let name = format!("{name}.{extension}");
    Kind::of(&name)?;
    Ok(Part { name, text: format!("{}\n", lines.join("\n").trim()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_apart() {
        let part = |name: &str, text: &str| Part { name: name.into(), text: text.into() };
        let bundle =
            "# FileName=web\n[Unit]\nA=b\n[Container]\nImage=x\n---\n\n#FileName=data\n[Volume]\n\n ---\n";
        assert_eq!(
            split(bundle).unwrap(),
            [
                part("web.container", "# FileName=web\n[Unit]\nA=b\n[Container]\nImage=x\n"),
                part("data.volume", "#FileName=data\n[Volume]\n"),
            ]
        );
        for bad in [
            "",
            "---\n",
            "[Volume]\n",
            "# FileName=a\n[Unit]\n",
            "# FileName=../a\n[Volume]\n",
            "# FileName=a\n[Kube]\n",
        ] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }
}
