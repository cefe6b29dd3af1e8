//! The syntax of unit files (systemd.syntax(7)): sections, repeated keys, continued lines, comments. Pure.

use anyhow::{Context, Result, bail};
use std::fmt;

/// What a unit file says, comments left out. Prints as a unit file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFile {
    sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    name: String,
    lines: Vec<(String, String)>,
}

impl UnitFile {
    /// Read `text`.
    ///
    /// # Errors
    /// The first line that is neither section, assignment nor comment, by its number.
    pub fn parse(text: &str) -> Result<UnitFile> {
        let mut unit = UnitFile::default();
        let mut section = None;
        let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
        while let Some((number, first)) = lines.next() {
            let line = match first.trim_start() {
                "" => continue,
                comment if is_comment(comment) => continue,
                line => joined(line, &mut lines),
            };
            unit.line(&line, &mut section).with_context(|| format!("line {}", number + 1))?;
        }
        Ok(unit)
    }

    fn line(&mut self, line: &str, section: &mut Option<String>) -> Result<()> {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            bail!("a control character");
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').context("a section without `]`")?;
            if name.is_empty() || name.contains(['[', ']']) {
                bail!("{line} is no section");
            }
            self.section(name);
            *section = Some(name.to_owned());
            return Ok(());
        }
        let (key, value) = line.split_once('=').context("neither a [Section] nor KEY=VALUE")?;
        let key = key.trim_end();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            bail!("{key:?} is no key");
        }
        self.add(section.as_deref().context("an assignment before the first section")?, key, value.trim());
        Ok(())
    }

    /// Append the lines of `other`: a drop-in.
    pub fn merge(&mut self, other: UnitFile) {
        for section in other.sections {
            self.section(&section.name).lines.extend(section.lines);
        }
    }

    /// The names of the sections.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| section.name.as_str())
    }

    /// The keys of a section, as often as they are there.
    pub fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        self.lines(section).map(|(key, _)| key)
    }

    /// All values of a key; an empty one takes back those before it.
    pub fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let values = self.lines(section).filter(|(own, _)| *own == key).map(|(_, value)| value);
        values.fold(Vec::new(), |mut all, value| {
            match value {
                "" => all.clear(),
                value => all.push(value),
            }
            all
        })
    }

    /// The last value of a key, without the quotes around it.
    pub fn last(&self, section: &str, key: &str) -> Option<&str> {
        let (_, value) = self.lines(section).filter(|(own, _)| *own == key).last()?;
        let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Some(unquoted.unwrap_or(value))
    }

    /// The last value of a key as a truth value (systemd.syntax(7)).
    pub fn truth(&self, section: &str, key: &str) -> Result<Option<bool>> {
        let is = |words: &[&str], text: &str| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match self.last(section, key) {
            None | Some("") => Ok(None),
            Some(text) if is(&["1", "yes", "y", "true", "t", "on"], text) => Ok(Some(true)),
            Some(text) if is(&["0", "no", "n", "false", "f", "off"], text) => Ok(Some(false)),
            Some(text) => bail!("{key}={text}: neither yes nor no"),
        }
    }

    /// Append an assignment.
    pub fn add(&mut self, section: &str, key: &str, value: &str) {
        self.section(section).lines.push((key.to_owned(), value.to_owned()));
    }

    /// Put an assignment before all others of its section.
    pub fn add_first(&mut self, section: &str, key: &str, value: &str) {
        self.section(section).lines.insert(0, (key.to_owned(), value.to_owned()));
    }

    /// Append an assignment unless the key has one.
    pub fn add_default(&mut self, section: &str, key: &str, value: &str) {
        if self.last(section, key).is_none() {
            self.add(section, key, value);
        }
    }

    /// Give each value of a key another form.
    pub fn change(
        &mut self,
        section: &str,
        key: &str,
        mut to: impl FnMut(&str) -> Result<String>,
    ) -> Result<()> {
        let sections = self.sections.iter_mut().filter(|own| own.name == section);
        for (own, value) in sections.flat_map(|section| &mut section.lines).filter(|(own, _)| own == key) {
            *value = to(value).with_context(|| format!("{own}={value}"))?;
        }
        Ok(())
    }

    /// Give a section another name.
    pub fn rename(&mut self, section: &str, name: &str) {
        for own in self.sections.iter_mut().filter(|own| own.name == section) {
            own.name = name.to_owned();
        }
    }

    /// Have one section before the others.
    pub fn first(&mut self, section: &str) {
        self.section(section);
        self.sections.sort_by_key(|own| own.name != section);
    }

    /// Have one section behind the others.
    pub fn behind(&mut self, section: &str) {
        self.section(section);
        self.sections.sort_by_key(|own| own.name == section);
    }

    fn lines(&self, section: &str) -> impl Iterator<Item = (&str, &str)> {
        let sections = self.sections.iter().filter(move |own| own.name == section);
        sections.flat_map(|section| &section.lines).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn section(&mut self, name: &str) -> &mut Section {
        let at = self.sections.iter().position(|own| own.name == name).unwrap_or_else(|| {
            self.sections.push(Section { name: name.to_owned(), lines: Vec::new() });
            self.sections.len() - 1
        });
        &mut self.sections[at]
    }
}

fn is_comment(line: &str) -> bool {
    line.starts_with(['#', ';'])
}

/// `line` with those that continue it: each `\` at an end becomes a space, comments between are skipped.
fn joined<'a>(line: &str, more: &mut impl Iterator<Item = (usize, &'a str)>) -> String {
    let mut whole = line.to_owned();
    // As Podman has it, also with space behind the backslash.
    while goes_on(whole.trim_end()) {
        whole.truncate(whole.trim_end().len() - 1);
        whole.push(' ');
        match more.map(|(_, line)| line.trim_start()).find(|line| !is_comment(line)) {
            Some(next) => whole.push_str(next),
            None => break,
        }
    }
    whole.truncate(whole.trim_end().len());
    whole
}

/// Whether the backslash at its end is no escaped one.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

impl fmt::Display for UnitFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Section { name, lines }) in self.sections.iter().enumerate() {
            writeln!(f, "{}[{name}]", if number > 0 { "\n" } else { "" })?;
            for (key, value) in lines {
                writeln!(f, "{key}={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_file_says() {
        for (text, expected) in [
            ("", ""),
            ("# comment\n; another\n\n[A]\nk=v\n", "[A]\nk=v\n"),
            ("[A]\n  k  =  v w  \n", "[A]\nk=v w\n"),
            ("[A]\nk=1\n[B]\nk=2\n[A]\nk=3\n", "[A]\nk=1\nk=3\n\n[B]\nk=2\n"),
            ("[A]\nk=a \\\n  b \\\n# between\n  c\nl=1\n", "[A]\nk=a  b  c\nl=1\n"),
            ("[A]\nk=a \\", "[A]\nk=a\n"),
            ("[A]\nk=a\\\\\nl=b\\ \nc\n", "[A]\nk=a\\\\\nl=b c\n"),
            ("[A]\nk=a\\\n\nl=1\n", "[A]\nk=a\nl=1\n"),
            ("\u{feff}[A]\r\nk=v\r\n", "[A]\nk=v\n"),
            ("[X Y]\nk==v=\n", "[X Y]\nk==v=\n"),
        ] {
            assert_eq!(UnitFile::parse(text).unwrap().to_string(), expected, "{text:?}");
        }
        for (bad, line) in [
            ("k=v\n", 1),
            ("[A]\n\nword\n", 3),
            ("[A\n", 1),
            ("[]\n", 1),
            ("[A]\n=v\n", 2),
            ("[A]\nk y=v\n", 2),
            ("[A]\nk=\u{1b}[2J\n", 2),
            ("[A]\nk=\0\n", 2),
        ] {
            let error = format!("{:#}", UnitFile::parse(bad).unwrap_err());
            assert!(error.starts_with(&format!("line {line}: ")), "{bad:?}: {error}");
        }
    }

    #[test]
    fn values() {
        let unit =
            UnitFile::parse("[A]\nk=1\nk=2\nk=\nk=3\nq=\"a b\"\nyes=On\nno=F\nbad=maybe\nnone=\n").unwrap();
        assert_eq!(unit.all("A", "k"), ["3"]);
        assert_eq!(
            (unit.last("A", "q"), unit.last("A", "none"), unit.last("B", "q")),
            (Some("a b"), Some(""), None)
        );
        assert_eq!(
            (unit.truth("A", "yes").unwrap(), unit.truth("A", "no").unwrap()),
            (Some(true), Some(false))
        );
        assert!(unit.truth("A", "none").unwrap().is_none() && unit.truth("A", "bad").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read_again(lines in proptest::collection::vec(r"\[?[ \\=\]#;ab\PC]{0,9}", 0..9)) {
            if let Ok(unit) = UnitFile::parse(&format!("[A]\n{}", lines.join("\n"))) {
                proptest::prop_assert_eq!(UnitFile::parse(&unit.to_string()).unwrap(), unit);
            }
        }
    }
}
