//! The lines of log files: Kubernetes' format (time, stream, F for a whole line or P for a part of one, text) as conmon
//! writes it, and Docker's (one JSON object a line). Pure.

use jiff::{Timestamp, tz::TimeZone};
use memchr::memchr;
use serde::Deserialize;
use std::{borrow::Cow, cell::OnceCell, fmt::Write as _};

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// stdout, and all of a terminal.
    #[default]
    Stdout,
    /// stderr.
    Stderr,
}

impl Kind {
    /// As logs spell it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Stdout => "stdout",
            Kind::Stderr => "stderr",
        }
    }

    fn named(word: &[u8]) -> Option<Kind> {
        [Kind::Stdout, Kind::Stderr].into_iter().find(|kind| kind.word().as_bytes() == word)
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `--log-driver=k8s-file`.
    Kubernetes,
    /// `--log-driver=json-file`.
    Docker,
}

/// A line, or a part of one, as it was printed. Kept from one to the next, it allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub kind: Kind,
    /// When, as the log has it.
    pub stamp: String,
    /// It ends a line.
    pub whole: bool,
    /// What, without the line feed.
    pub text: Vec<u8>,
}

impl Entry {
    /// When.
    pub fn time(&self) -> Option<Timestamp> {
        self.stamp.parse().ok()
    }
}

#[derive(Deserialize)]
struct Docker<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

impl Format {
    /// Add `line`, which ends with a line feed unless it is a part of one, to `out`. JSON can't hold all bytes: what is no
    /// UTF-8 becomes U+FFFD there, as with Docker.
    pub fn encode(self, stamp: &str, kind: Kind, line: &[u8], out: &mut Vec<u8>) {
        let whole = line.ends_with(b"\n");
        match self {
            Format::Kubernetes => {
                out.extend_from_slice(stamp.as_bytes());
                out.extend_from_slice(match (kind, whole) {
                    (Kind::Stdout, true) => b" stdout F ",
                    (Kind::Stdout, false) => b" stdout P ",
                    (Kind::Stderr, true) => b" stderr F ",
                    (Kind::Stderr, false) => b" stderr P ",
                });
                out.extend_from_slice(line);
                if !whole {
                    out.push(b'\n');
                }
            }
            Format::Docker => {
                let (line, feed) = line.strip_suffix(b"\n").map_or((line, ""), |line| (line, "\\n"));
                // Most lines are plain: valid as they are, and nothing in them is to be escaped.
                let text =
                    std::str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::from);
                out.extend_from_slice(b"{\"log\":");
                match text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
                    true => [b"\"", text.as_bytes()].into_iter().for_each(|part| out.extend_from_slice(part)),
                    false => {
                        // Writing to memory doesn't fail. The quote at its end comes after the line feed.
                        let _ = serde_json::to_writer(&mut *out, &text);
                        out.pop();
                    }
                }
                for part in [feed, "\",\"stream\":\"", kind.word(), "\",\"time\":\"", stamp, "\"}\n"] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
    }

    /// Read `raw`, a line of the file without its line feed, into `entry`; false when it is none of ours.
    pub fn decode(self, raw: &[u8], entry: &mut Entry) -> bool {
        entry.text.clear();
        entry.stamp.clear();
        match self {
            Format::Kubernetes => {
                let mut fields = raw.splitn(4, |byte| *byte == b' ');
                let (stamp, kind, tag) = (fields.next(), fields.next(), fields.next());
                let stamp = stamp.and_then(|stamp| std::str::from_utf8(stamp).ok());
                let (Some(stamp), Some(kind), Some(tag)) = (stamp, kind.and_then(Kind::named), tag) else {
                    return false;
                };
                (entry.kind, entry.whole) = (kind, tag.first() == Some(&b'F'));
                entry.stamp.push_str(stamp);
                entry.text.extend_from_slice(fields.next().unwrap_or_default());
                matches!(tag, [b'F' | b'P'] | [b'F' | b'P', b':', ..])
            }
            Format::Docker => {
                let Ok(line) = serde_json::from_slice::<Docker<'_>>(raw) else { return false };
                let Some(kind) = Kind::named(line.stream.as_bytes()) else { return false };
                let text = line.log.strip_suffix('\n');
                (entry.kind, entry.whole) = (kind, text.is_some());
                entry.stamp.push_str(&line.time);
                entry.text.extend_from_slice(text.unwrap_or(&line.log).as_bytes());
                true
            }
        }
    }

    /// Whether the line of the file that begins with `head` and ends with `tail` ends a line that was printed. [`EDGE`]
    /// bytes of each are enough.
    pub fn is_whole(self, head: &[u8], tail: &[u8]) -> bool {
        match self {
            Format::Kubernetes => head.splitn(4, |byte| *byte == b' ').nth(2).is_some_and(|tag| tag != b"P"),
            Format::Docker => {
                let Some(end) = memchr::memmem::rfind(tail, br#"","stream":"#) else { return true };
                let slashes = tail[..end]
                    .strip_suffix(b"n")
                    .map_or(0, |before| before.iter().rev().take_while(|byte| **byte == b'\\').count());
                slashes % 2 == 1
            }
        }
    }
}

/// Whether JSON has `byte` as it is within a string.
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

/// Bytes at a line's edges that say whether it is whole.
pub const EDGE: usize = 128;

/// `text` in lines, each with its line feed; the last may have none.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let line;
        (line, rest) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
        (!line.is_empty()).then_some(line)
    })
}

/// Writes the time; the parts that stay for a second are made once in it.
#[derive(Debug)]
pub struct Clock {
    /// Known from the first line on: many a container prints nothing.
    zone: OnceCell<TimeZone>,
    local: bool,
    second: i64,
    text: String,
}

impl Clock {
    /// conmon writes the local time, Docker that of UTC.
    pub fn of(format: Format) -> Clock {
        let local = matches!(format, Format::Kubernetes);
        Clock { zone: OnceCell::new(), local, second: 0, text: String::new() }
    }

    /// What was written last.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `now`, as in 2026-11-22T23:25:12.123456789+00:00.
    pub fn write(&mut self, now: Timestamp) -> &str {
        if now.as_second() != self.second || self.text.is_empty() {
            self.second = now.as_second();
            self.text.clear();
            let zone = self.zone.get_or_init(|| if self.local { TimeZone::system() } else { TimeZone::UTC });
            let local = now.to_zoned(zone.clone());
            let zone = if *zone == TimeZone::UTC { "Z" } else { "%:z" };
            let format = format!("%Y-%m-%dT%H:%M:%S.000000000{zone}");
            let _ = write!(self.text, "{}", local.strftime(&format));
        }
        let mut digits = [b'0'; 9];
        let mut left = now.subsec_nanosecond().unsigned_abs();
        for digit in digits.iter_mut().rev() {
            *digit += (left % 10) as u8;
            left /= 10;
        }
        self.text.replace_range(FRACTION, std::str::from_utf8(&digits).unwrap_or_default());
        &self.text
    }
}

/// Where the nanoseconds stand.
const FRACTION: std::ops::Range<usize> = 20..29;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMP: &str = "2026-11-22T23:25:12.000000001+01:00";

    #[test]
    fn kubernetes() {
        for (raw, expected) in [
            ("T stdout F a b ", Some((Kind::Stdout, true, "a b "))),
            ("T stderr P  x", Some((Kind::Stderr, false, " x"))),
            ("T stdout F ", Some((Kind::Stdout, true, ""))),
            ("T stdout F", Some((Kind::Stdout, true, ""))),
            ("T stdout F:more x", Some((Kind::Stdout, true, "x"))),
            ("T stdin F x", None),
            ("T stdout X x", None),
            ("\0\0\0\0", None),
            ("", None),
        ] {
            let mut entry = Entry::default();
            let good = Format::Kubernetes.decode(raw.as_bytes(), &mut entry);
            let found = good.then(|| (entry.kind, entry.whole, std::str::from_utf8(&entry.text).unwrap()));
            assert_eq!(found, expected, "{raw:?}");
        }
    }

    #[test]
    fn docker() {
        let mut out = Vec::new();
        Format::Docker.encode("T", Kind::Stderr, b"a\"\\\x01\xff\xc3\xa4\n", &mut out);
        let expected = "{\"log\":\"a\\\"\\\\\\u0001\u{fffd}ä\\n\",\"stream\":\"stderr\",\"time\":\"T\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut entry = Entry::default();
        let dockers = br#"{"log":"a\u003c\n","stream":"stdout","attrs":{"x":"y"},"time":"T"}"#;
        assert!(Format::Docker.decode(dockers, &mut entry) && entry.text == b"a<" && entry.whole);
        assert!(!Format::Docker.decode(b"{\"log\":\"torn", &mut entry));
    }

    #[test]
    fn the_clock() {
        let mut clock = Clock {
            zone: TimeZone::fixed(jiff::tz::offset(1)).into(),
            local: true,
            second: 0,
            text: String::new(),
        };
        for nanos in [1, 999_999_999, 0] {
            let now = Timestamp::new(1_795_389_912, nanos).unwrap();
            let text = clock.write(now);
            assert_eq!(text.parse::<Timestamp>().unwrap(), now, "{text}");
            assert!(text.ends_with(&format!(".{nanos:09}+01:00")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text: Vec<u8>, printable: String, stderr: bool) {
            let kind = if stderr { Kind::Stderr } else { Kind::Stdout };
            for (format, text) in [(Format::Kubernetes, &text[..]), (Format::Docker, printable.as_bytes())] {
                let mut file = Vec::new();
                lines(text).for_each(|line| format.encode(STAMP, kind, line, &mut file));
                let (mut back, mut entry) = (Vec::new(), Entry::default());
                for raw in lines(&file) {
                    let raw = &raw[..raw.len() - 1];
                    prop_assert!(format.decode(raw, &mut entry));
                    prop_assert_eq!((entry.kind, entry.stamp.as_str()), (kind, STAMP));
                    let (head, tail) = (&raw[..raw.len().min(EDGE)], &raw[raw.len().saturating_sub(EDGE)..]);
                    prop_assert_eq!(format.is_whole(head, tail), entry.whole);
                    back.extend_from_slice(&entry.text);
                    back.extend_from_slice(if entry.whole { b"\n" } else { b"" });
                }
                prop_assert_eq!(&back[..], text);
            }
        }

        #[test]
        fn nothing_panics(raw: Vec<u8>) {
            for format in [Format::Kubernetes, Format::Docker] {
                let _ = (format.decode(&raw, &mut Entry::default()), format.is_whole(&raw, &raw));
            }
        }
    }
}
