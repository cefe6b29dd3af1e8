//! How verbs print: tables, sizes and times as Podman words them, YAML. Text of images and containers is hostile: it
//! reaches a terminal without control characters.

use crate::{error::Explain, sys::signal};
use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{ErrorKind, Write as _, stdout},
};

/// Write `text` to stdout, as it is.
///
/// # Errors
/// The disk behind it is full. (Where nobody reads on, SIGPIPE has ended us.)
pub fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        signal::broken_output();
    }
    written.context("write to standard output")
}

/// Like [`print`], and a newline.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Ask a question on stderr; whether the answer is yes. No terminal, no answer: no.
pub fn confirm(question: &str) -> Result<bool> {
    use std::io::{BufRead, IsTerminal, Read, stderr, stdin};
    if !stdin().is_terminal() {
        return Err(anyhow::anyhow!("nobody is there to be asked")).hint("--force doesn't ask");
    }
    let _ = write!(stderr(), "{question}");
    let mut answer = String::new();
    stdin().lock().take(64).read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Characters to which cells are aligned: an image's words may be mebibytes, and there is one for each row.
const WIDEST: usize = 500;

/// Rows under headings, columns aligned. With `headings` empty there is no first line.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let first = (!headings.is_empty()).then(|| headings.iter().map(|h| (*h).to_owned()).collect());
    let lines: Vec<Vec<String>> =
        first.into_iter().chain(rows.iter().map(|row| row.iter().map(|c| printable(c)).collect())).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<usize> =
        (0..columns).map(|column| width(column).unwrap_or(0).clamp(10, WIDEST) + 2).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:width$}");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// `text` with everything that could steer a terminal written as an escape.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        // Also the marks that reorder a line (Unicode, "Bidirectional Algorithm").
        if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// The first `length` characters, and `...` where something is left out.
pub fn clip(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Bytes with three significant digits and a decimal unit: `80.4 MB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // 999.5 would be rounded to 1000.
    while value >= 999.5
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = next;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let digits = format!("{value:.decimals$}");
    let digits = if decimals > 0 { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits} {unit}")
}

/// The same with four digits and no space, as some of Podman's verbs have it: `1.988MB`.
pub fn short_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = next;
    }
    let decimals = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        usize::from(value < 1000.0)
    };
    let digits = format!("{value:.decimals$}");
    let digits = if decimals > 0 { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits}{unit}")
}

/// How long ago `then` was, without the `ago`.
pub fn since(then: Timestamp) -> String {
    duration(Timestamp::now().as_second() - then.as_second())
}

fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `value` as indented JSON.
pub fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `value` as YAML.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let _ = write!(out, "{indent}{}:", scalar(&Value::String(key.clone())));
                nested(value, depth + 1, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                block(item, depth + 1, &mut inner);
                let _ = write!(out, "{indent}- {}", inner.trim_start());
            }
        }
        other => {
            let _ = writeln!(out, "{indent}{}", scalar(other));
        }
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    let empty = match value {
        Value::Object(map) => map.is_empty().then_some("{}"),
        Value::Array(items) => items.is_empty().then_some("[]"),
        _ => None,
    };
    match (value, empty) {
        (_, Some(empty)) => {
            let _ = writeln!(out, " {empty}");
        }
        (Value::Object(_) | Value::Array(_), None) => {
            out.push('\n');
            block(value, depth, out);
        }
        (other, None) => {
            let _ = writeln!(out, " {}", scalar(other));
        }
    }
}

/// A JSON string is a YAML string; quotes are left away where nothing else could be meant.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " /._-+()=,@;`".contains(c))
        && !text.ends_with(' ')
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&text.to_lowercase().as_str());
    if plain { text.clone() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables() {
        let rows = [
            vec!["a".to_owned(), "b".to_owned()],
            vec!["a long cell here".to_owned(), "\x1b[2Jü".to_owned()],
        ];
        let expected = "ID                TWO\na                 b\na long cell here  \\u{1b}[2Jü\n";
        assert_eq!(table(&["ID", "TWO"], &rows), expected);
        assert_eq!(table(&["REPOSITORY", "TAG", "IMAGE ID"], &[]), "REPOSITORY  TAG         IMAGE ID\n");
        assert_eq!(table(&[], &rows[..1]), "a           b\n");
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1234, "1.23 kB"),
            (39_970, "40 kB"),
            (80_400_000, "80.4 MB"),
            (9_996, "10 kB"),
            (99_960, "100 kB"),
            (999_600, "1 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn short_sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (2048, "2.048kB"),
            (1_987_655, "1.988MB"),
            (19_876_550, "19.88MB"),
            (198_765_500, "198.8MB"),
            (1_000_000_000, "1GB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(short_size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn durations() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, text) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (2 * HOUR, "2 hours"),
            (2 * DAY, "2 days"),
            (14 * DAY, "2 weeks"),
            (60 * DAY, "2 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn clipping() {
        for (text, clipped) in [("abc", "abc"), ("äbcd", "äbc..."), ("", "")] {
            assert_eq!(clip(text, 3), clipped);
        }
    }

    #[test]
    fn yaml_blocks() {
        let value = json!({"a": {"b": 1, "c": []}, "list": [{"x": "1.0", "y": "no"}, "plain /text"], "odd": "a: b\n", "t": true});
        let expected = "a:\n  b: 1\n  c: []\nlist:\n  - x: \"1.0\"\n    \"y\": \"no\"\n  - plain /text\nodd: \"a: b\\n\"\nt: true\n";
        assert_eq!(yaml(&value), expected);
    }
}
