//! The keys that detach a client from a container's terminal (podman-attach(1), `--detach-keys`). Pure.

use anyhow::{Result, bail};

/// Looks for the sequence in what is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What Docker and Podman use unless they are told otherwise.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

impl Keys {
    /// `a,b`: letters, or `ctrl-` and one of a to z @ [ \ ] ^ _. Empty: no keys detach.
    pub fn parse(text: &str) -> Result<Keys> {
        let keys = text.split(',').filter(|_| !text.is_empty()).map(key);
        Ok(Keys { sequence: keys.collect::<Result<_>>()?, matched: 0 })
    }

    /// What of `typed` goes on to the container, and whether the sequence is complete. A sequence that breaks off is
    /// passed on with what broke it.
    pub fn scan(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(self.sequence.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            } else if self.sequence.len() == 1 {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

fn key(text: &str) -> Result<u8> {
    match text.as_bytes() {
        [letter] if letter.is_ascii_graphic() => Ok(*letter),
        [b'c', b't', b'r', b'l', b'-', key] if matches!(key, b'a'..=b'z' | b'@' | b'['..=b'_') => {
            Ok(key.to_ascii_uppercase() & 0x1f)
        }
        _ => bail!("{text:?} is no key: write one letter, or ctrl- and one of a to z, @, [, \\, ], ^ and _"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        for (text, expected) in [
            (DEFAULT, Some(&[0x10, 0x11][..])),
            ("a", Some(b"a")),
            ("ctrl-@,x,ctrl-_", Some(&[0, b'x', 0x1f])),
            ("", Some(b"")),
            ("ctrl-A", None),
            ("ctrl-", None),
            ("ab", None),
            ("a,", None),
            (",", None),
            ("é", None),
        ] {
            let keys = Keys::parse(text).ok().map(|keys| keys.sequence);
            assert_eq!(keys.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn typed() {
        for (chunks, passed, detached) in [
            (&["\x10\x11"][..], "", true),
            (&["ab\x10", "\x11cd"], "ab", true),
            (&["\x10a\x10\x11"], "\x10a", true),
            (&["\x10\x10\x11"], "\x10", true),
            (&["\x11\x10"], "\x11", false),
            (&["\x10", "x"], "\x10x", false),
        ] {
            let mut keys = Keys::parse(DEFAULT).unwrap();
            let mut all = Vec::new();
            let mut done = false;
            for chunk in chunks {
                let (part, detach) = keys.scan(chunk.as_bytes());
                all.extend(part);
                done |= detach;
            }
            assert_eq!((String::from_utf8(all).unwrap().as_str(), done), (passed, detached), "{chunks:?}");
        }
        let mut none = Keys::parse("").unwrap();
        assert_eq!(none.scan(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
