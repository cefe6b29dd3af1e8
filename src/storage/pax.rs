//! PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"). Pure.

use super::sparse::{Segment, SparseHeader};
use anyhow::{Context, Result, bail};

/// What the records of one extended header say about the entry that follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pax {
    /// `path`, or `GNU.sparse.name`, which wins: with it `path` is a placeholder.
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: Option<(i64, u32)>,
    /// `SCHILY.xattr.*`: names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<SparseHeader>,
}

/// Read the records of a local extended header.
///
/// # Errors
/// Anything that two readers could understand differently.
pub fn parse(mut records: &[u8]) -> Result<Pax> {
    let mut pax = Pax::default();
    let mut sparse_name = None;
    while let Some((key, value, rest)) = record(records)? {
        records = rest;
        // An empty value takes a record back: the header's own field counts.
        if value.is_empty() {
            continue;
        }
        let text = || std::str::from_utf8(value).context("it is not text");
        let number = || text()?.parse::<u64>().context("it is not a number");
        let name = || if value.contains(&0) { bail!("it contains NUL") } else { Ok(value.to_vec()) };
        let sparse = &mut pax.sparse;
        let mut read = || -> Result<()> {
            match key {
                b"path" => pax.path = Some(name()?),
                b"linkpath" => pax.linkpath = Some(name()?),
                b"size" => pax.size = Some(number()?),
                b"uid" => pax.uid = Some(number()?),
                b"gid" => pax.gid = Some(number()?),
                b"mtime" => pax.mtime = Some(time(text()?)?),
                b"GNU.sparse.name" => sparse_name = Some(name()?),
                b"GNU.sparse.major" => sparse.get_or_insert_default().major = number()?,
                b"GNU.sparse.minor" => sparse.get_or_insert_default().minor = number()?,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    sparse.get_or_insert_default().size = Some(number()?);
                }
                b"GNU.sparse.map" => sparse.get_or_insert_default().segments = sparse_map(text()?)?,
                b"GNU.sparse.offset" => {
                    let segments = &mut sparse.get_or_insert_default().segments;
                    segments.push(Segment { offset: number()?, length: 0 });
                }
                b"GNU.sparse.numbytes" => {
                    let last = sparse.get_or_insert_default().segments.last_mut();
                    last.context("it precedes its offset")?.length = number()?;
                }
                _ => {
                    if let Some(xattr) = key.strip_prefix(b"SCHILY.xattr.") {
                        pax.xattrs.push((xattr.to_vec(), value.to_vec()));
                    }
                }
            }
            Ok(())
        };
        read().with_context(|| format!("PAX record {:?}", String::from_utf8_lossy(key)))?;
    }
    if let (Some(name), Some(_)) = (sparse_name, &pax.sparse) {
        pax.path = Some(name);
    }
    Ok(pax)
}

/// A global extended header must not rename or resize what follows: GNU tar applies it, Go's reader doesn't.
pub fn check_global(mut records: &[u8]) -> Result<()> {
    while let Some((key, _, rest)) = record(records)? {
        records = rest;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            bail!("global PAX header sets {:?}", String::from_utf8_lossy(key));
        }
    }
    Ok(())
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first of `records` as key, value and what follows: `"%d %s=%s\n", length, keyword, value`. Values may hold any
/// byte.
fn record(records: &[u8]) -> Result<Option<Record<'_>>> {
    if records.is_empty() {
        return Ok(None);
    }
    let split = || {
        let digits = records.iter().take(20).position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(&records[..digits]).ok()?.parse().ok()?;
        let (newline, body) = records.get(digits + 1..length)?.split_last()?;
        let equals = body.iter().position(|b| *b == b'=')?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        (*newline == b'\n' && !key.is_empty() && !key.contains(&0)).then(|| (key, value, &records[length..]))
    };
    split().context("malformed PAX header").map(Some)
}

/// Decimal seconds with a fraction, possibly negative: `-1.5` is 1.5 s before the epoch.
fn time(text: &str) -> Result<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        bail!("it is not a time");
    }
    let seconds: i64 = whole.parse().context("it is not a time")?;
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().context("it is not a time")?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Ok((seconds.saturating_sub(1), 1_000_000_000 - nanoseconds)),
        _ => Ok((seconds, nanoseconds)),
    }
}

fn sparse_map(text: &str) -> Result<Vec<Segment>> {
    let numbers: Vec<u64> =
        text.split(',').map(str::parse).collect::<Result<_, _>>().context("it is not a sparse map")?;
    if !numbers.len().is_multiple_of(2) {
        bail!("it is not a sparse map");
    }
    Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|n| n.to_string().len() + rest == *n).unwrap();
            all.extend(format!("{length} {key}=").bytes());
            all.extend(*value);
            all.push(b'\n');
        }
        all
    }

    #[test]
    fn fields() {
        let pax = parse(&records(&[
            ("path", b"a\nb"),
            ("linkpath", b""),
            ("size", b"7"),
            ("uid", b"4294967296"),
            ("mtime", b"12.5"),
            ("SCHILY.xattr.security.capability", b"\x01\n\0="),
            ("comment", b"x"),
        ]));
        let expected = Pax {
            path: Some(b"a\nb".to_vec()),
            size: Some(7),
            uid: Some(1 << 32),
            mtime: Some((12, 500_000_000)),
            xattrs: vec![(b"security.capability".to_vec(), b"\x01\n\0=".to_vec())],
            ..Pax::default()
        };
        assert_eq!(pax.unwrap(), expected);
    }

    #[test]
    fn sparse_headers() {
        let segment = |offset, length| Segment { offset, length };
        for (pairs, expected) in [
            (
                &[("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.offset", b"1"), ("GNU.sparse.numbytes", b"2")]
                    [..],
                SparseHeader { size: Some(9), segments: vec![segment(1, 2)], major: 0, minor: 0 },
            ),
            (
                &[("GNU.sparse.realsize", b"9"), ("GNU.sparse.map", b"1,2,4,5")],
                SparseHeader {
                    size: Some(9),
                    segments: vec![segment(1, 2), segment(4, 5)],
                    major: 0,
                    minor: 0,
                },
            ),
            (
                &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")],
                SparseHeader { size: Some(9), segments: vec![], major: 1, minor: 0 },
            ),
        ] {
            let mut all = vec![("GNU.sparse.name", &b"real"[..]), ("path", b"GNUSparseFile.0/real")];
            all.extend(pairs);
            let pax = parse(&records(&all)).unwrap();
            assert_eq!((pax.path.unwrap().as_slice(), pax.sparse.unwrap()), (&b"real"[..], expected));
        }
    }

    #[test]
    fn refused() {
        for broken in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=bb\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b"2 \n",
            b"1 \n",
            b"4 =\n",
            b"99999999999999999999 a=b\n",
            b"5 ab\n",
            b"-1 a=b\n",
        ] {
            assert!(parse(broken).is_err(), "{broken:?}");
        }
        for (key, value) in [
            ("size", &b"-1"[..]),
            ("size", b"1x"),
            ("size", b"18446744073709551616"),
            ("path", b"a\0b"),
            ("mtime", b"1.x"),
            ("GNU.sparse.map", b"1,2,3"),
            ("GNU.sparse.numbytes", b"1"),
        ] {
            assert!(parse(&records(&[(key, value)])).is_err(), "{key}");
        }
        assert!(check_global(&records(&[("size", b"1")])).is_err());
        assert!(check_global(&records(&[("comment", b"0123"), ("mtime", b"1")])).is_ok());
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", (0, 0)),
            ("1.000000001", (1, 1)),
            ("1.0000000019", (1, 1)),
            ("-1", (-1, 0)),
            ("-1.5", (-2, 500_000_000)),
            ("-0.25", (-1, 750_000_000)),
        ] {
            assert_eq!(time(text).unwrap(), expected, "{text}");
        }
    }
}
