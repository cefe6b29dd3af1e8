//! Maps of ids as data: what `--uidmap` writes, put over the ids that a user has. Pure.

use super::user::IdRange;
use crate::weakened;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::str::FromStr;

/// One `--uidmap` or `--gidmap` (podman-run(1)): `[FLAGS]CONTAINER[:FROM[:AMOUNT]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First id in the container.
    pub inside: u32,
    /// First id of those the user has, or with `@` of the host.
    pub from: u32,
    /// `from` is an id of the host.
    pub of_host: bool,
    /// How many ids.
    pub count: u32,
    /// `+`: put over the default map instead of in its place.
    pub extends: bool,
    /// For user ids.
    pub uids: bool,
    /// For group ids.
    pub gids: bool,
}

impl FromStr for Entry {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Entry> {
        let flags = text.len() - text.trim_start_matches(['+', 'u', 'g']).len();
        let (flags, rest) = text.split_at(flags);
        let mut fields = rest.split(':');
        let number = |field: &str| {
            let digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
            field.parse::<u32>().ok().filter(|_| digits).with_context(|| format!("{field:?} is no id"))
        };
        let inside = number(fields.next().unwrap_or_default())?;
        let from = fields.next();
        let extends = flags.contains('+');
        ensure!(from.is_some() || extends, "the id that it maps to is missing");
        let from = from.unwrap_or_else(|| rest.split(':').next().unwrap_or_default());
        let of_host = from.starts_with('@');
        let from = number(from.strip_prefix('@').unwrap_or(from))?;
        let count = fields.next().map_or(Ok(1), number)?;
        ensure!(fields.next().is_none(), "more than three fields");
        ensure!(count > 0, "it maps no id at all");
        for first in [inside, from] {
            ensure!(u64::from(first) + u64::from(count) <= LAST + 1, "it goes beyond the last id, {LAST}");
        }
        let only = (flags.contains('u'), flags.contains('g'));
        let (uids, gids) = if only == (false, false) { (true, true) } else { only };
        Ok(Entry { inside, from, of_host, count, extends, uids, gids })
    }
}

/// The largest id: 4294967295 means "no change" to setresuid(2).
const LAST: u64 = u32::MAX as u64 - 1;

/// The map of a container that `entries` ask for, where the user has the ids `own` (its default map).
///
/// # Errors
/// An id that the user doesn't have; entries that overlap.
pub fn apply(entries: &[Entry], own: &[IdRange]) -> Result<Vec<IdRange>> {
    let mut map = Vec::new();
    for entry in entries {
        let Entry { inside, count, .. } = *entry;
        let from = Span { first: entry.from.into(), count: count.into() };
        let found = if entry.of_host { of_host(from, own) } else { through(from, own) };
        let mut at = inside;
        let pieces = found.with_context(|| {
            let who = if entry.of_host { "of the host " } else { "" };
            let last = from.end() - 1;
            format!("{inside}:{}:{count}: ids {who}{} to {last} are not all yours", entry.from, from.first)
        })?;
        for (host, count) in pieces {
            map.push(IdRange { inside: at, host, count });
            at = at.saturating_add(count);
        }
    }
    if entries.iter().any(|entry| entry.extends) {
        let rest = own.iter().flat_map(|range| without(*range, &map)).collect::<Vec<_>>();
        map.extend(rest);
    }
    check(&map)?;
    Ok(joined(map))
}

/// Ids of a container that every range of `map` has for itself, on both sides.
///
/// # Errors
/// Two of them overlap; there are more than the kernel takes.
pub fn check(map: &[IdRange]) -> Result<()> {
    for (at, one) in map.iter().enumerate() {
        for other in &map[at + 1..] {
            if one.inside_span().meets(other.inside_span()) {
                bail!(
                    "id {} of the container is mapped twice",
                    one.inside_span().first.max(other.inside_span().first)
                );
            }
            if one.host_span().meets(other.host_span()) {
                bail!(
                    "id {} of the host is mapped twice",
                    one.host_span().first.max(other.host_span().first)
                );
            }
        }
    }
    // user_namespaces(7): since Linux 4.15.
    ensure!(map.len() <= 340, "{} ranges, more than 340", map.len());
    Ok(())
}

/// keep-id: the user, the first of the ids `own`, as `inside`; all the others around it in their order (podman-run(1)).
pub fn keep(own: &[IdRange], inside: u32, size: Option<u32>) -> Vec<IdRange> {
    let Some((user, others)) = own.split_first() else { return Vec::new() };
    let total: u64 = own.iter().map(|range| u64::from(range.count)).sum();
    let limit = size.map_or(total, u64::from).max(1);
    let mut map = vec![IdRange { inside, host: user.host, count: 1 }];
    // Container ids below the user's come from the subordinate ones, those above go on where these end.
    let mut at = 0u64;
    for range in others {
        let mut host = range.host;
        let mut left = u64::from(range.count);
        while left > 0 && at < limit.max(u64::from(inside) + 1) {
            if at == u64::from(inside) {
                at += 1;
                continue;
            }
            let end = if at < u64::from(inside) { u64::from(inside) } else { limit };
            let count = left.min(end.saturating_sub(at));
            if count == 0 {
                break;
            }
            map.push(IdRange { inside: at as u32, host, count: count as u32 });
            (at, host, left) = (at + count, host.saturating_add(count as u32), left - count);
        }
    }
    joined(map)
}

/// nomap: the ids `own` without the user, the first of them.
pub fn without_user(own: &[IdRange]) -> Vec<IdRange> {
    let mut at = 0;
    let others = own.iter().skip(if weakened::is("nomap") { 0 } else { 1 }).map(|range| {
        let moved = IdRange { inside: at, ..*range };
        at += range.count;
        moved
    });
    others.collect()
}

/// auto: `size` ids from 0 on, out of those of `own` that nobody has in `taken`, none of them the user's; `forced` are part of
/// it as they are.
///
/// # Errors
/// There are not so many left in one piece; `forced` overlaps.
pub fn allocate(own: &[IdRange], taken: &[IdRange], size: u32, forced: &[IdRange]) -> Result<Vec<IdRange>> {
    let taken = if weakened::is("auto-taken") { &[] } else { taken };
    let mut used: Vec<Span> = taken.iter().chain(forced).map(|range| range.host_span()).collect();
    used.sort_by_key(|span| span.first);
    let wanted = u64::from(size).saturating_sub(forced.iter().map(|range| u64::from(range.count)).sum());
    let start = own.iter().find_map(|range| {
        let mut first = range.host_span().first;
        for span in used.iter().filter(|span| span.meets(range.host_span())) {
            if first + wanted <= span.first {
                break;
            }
            first = first.max(span.end());
        }
        (first + wanted <= range.host_span().end()).then_some(first)
    });
    let start = start.ok_or_else(|| anyhow!("no {wanted} ids in a row are left of your subordinate ids"))?;
    let mut map = forced.to_vec();
    let (mut at, mut host) = (0u64, start);
    let mut taken_inside: Vec<Span> = forced.iter().map(|range| range.inside_span()).collect();
    taken_inside.sort_by_key(|span| span.first);
    let mut left = wanted;
    for span in taken_inside.iter().copied().chain([Span { first: LAST + 1, count: 0 }]) {
        let count = left.min(span.first.saturating_sub(at));
        if count > 0 {
            map.push(IdRange { inside: at as u32, host: host as u32, count: count as u32 });
        }
        (at, host, left) = (span.end().max(at), host + count, left - count);
    }
    check(&map)?;
    Ok(joined(map))
}

/// What id `inside` is on the host.
pub fn to_host(map: &[IdRange], inside: u32) -> Option<u32> {
    map.iter().find(|range| range.has(inside)).map(|range| range.host + (inside - range.inside))
}

/// What id `host` of the host is inside.
pub fn to_inside(map: &[IdRange], host: u32) -> Option<u32> {
    let range = map.iter().find(|range| host >= range.host && host - range.host < range.count)?;
    Some(range.inside + (host - range.host))
}

#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    count: u64,
}

impl Span {
    fn end(self) -> u64 {
        self.first + self.count
    }

    fn meets(self, other: Span) -> bool {
        self.first < other.end() && other.first < self.end()
    }
}

impl IdRange {
    fn inside_span(&self) -> Span {
        Span { first: self.inside.into(), count: self.count.into() }
    }

    fn host_span(&self) -> Span {
        Span { first: self.host.into(), count: self.count.into() }
    }
}

/// The host's ids behind `from`, ids of the default map `own`; `None` when one of them is missing.
fn through(from: Span, own: &[IdRange]) -> Option<Vec<(u32, u32)>> {
    let mut pieces = Vec::new();
    let mut at = from.first;
    while at < from.end() {
        let range = own.iter().find(|range| {
            let span = range.inside_span();
            at >= span.first && at < span.end()
        })?;
        let count = (from.end() - at).min(range.inside_span().end() - at);
        pieces.push(((u64::from(range.host) + at - u64::from(range.inside)) as u32, count as u32));
        at += count;
    }
    Some(pieces)
}

fn of_host(from: Span, own: &[IdRange]) -> Option<Vec<(u32, u32)>> {
    let mut at = from.first;
    while at < from.end() && !weakened::is("own-ids") {
        let span =
            own.iter().map(|range| range.host_span()).find(|span| at >= span.first && at < span.end())?;
        at = span.end();
    }
    Some(vec![(from.first as u32, from.count as u32)])
}

/// What of `range` neither uses an id of the container that `taken` has nor one of the host.
fn without(range: IdRange, taken: &[IdRange]) -> Vec<IdRange> {
    let mut cuts: Vec<(u64, u64)> = Vec::new();
    for other in taken {
        let inside = other.inside_span();
        cuts.push((inside.first, inside.end()));
        let host = other.host_span();
        let base = u64::from(range.host);
        let offset = |at: u64| u64::from(range.inside) + at.saturating_sub(base);
        cuts.push((offset(host.first), if host.end() > base { offset(host.end()) } else { 0 }));
    }
    cuts.sort_unstable();
    let span = range.inside_span();
    let mut pieces = Vec::new();
    let mut at = span.first;
    for (first, end) in cuts.into_iter().chain([(span.end(), span.end())]) {
        let upto = first.min(span.end());
        if at < upto {
            let host = (u64::from(range.host) + at - span.first) as u32;
            pieces.push(IdRange { inside: at as u32, host, count: (upto - at) as u32 });
        }
        at = at.max(end);
    }
    pieces
}

/// In the order of the container's ids, neighbours in one piece: newuidmap(1) and the kernel take them as few lines.
fn joined(mut map: Vec<IdRange>) -> Vec<IdRange> {
    map.sort_by_key(|range| range.inside);
    let mut joined: Vec<IdRange> = Vec::with_capacity(map.len());
    for range in map {
        match joined.last_mut() {
            Some(last)
                if last.inside_span().end() == u64::from(range.inside)
                    && last.host_span().end() == u64::from(range.host) =>
            {
                last.count += range.count;
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As user 1000 with 65536 ids from 100000 on.
    fn own() -> Vec<IdRange> {
        vec![range(0, 1000, 1), range(1, 100_000, 65536)]
    }

    fn range(inside: u32, host: u32, count: u32) -> IdRange {
        IdRange { inside, host, count }
    }

    fn mapped(entries: &[&str]) -> Result<Vec<IdRange>> {
        let entries = entries.iter().map(|entry| entry.parse()).collect::<Result<Vec<_>>>()?;
        apply(&entries, &own())
    }

    #[test]
    fn entries() {
        for (text, expected) in [
            ("0:1:10", &[(0, 100_000, 10)][..]),
            ("0:0:3", &[(0, 1000, 1), (1, 100_000, 2)]),
            ("5:@1000:1", &[(5, 1000, 1)]),
            ("5:@1000", &[(5, 1000, 1)]),
            ("7:@100010:5", &[(7, 100_010, 5)]),
            ("0:0:65537", &[(0, 1000, 1), (1, 100_000, 65536)]),
        ] {
            let expected: Vec<_> = expected.iter().map(|&(i, h, c)| range(i, h, c)).collect();
            assert_eq!(mapped(&[text]).unwrap(), expected, "{text}");
        }
        assert_eq!(mapped(&["10:11:5", "0:1:10"]).unwrap(), [range(0, 100_000, 15)]);
        let extended = mapped(&["+70000:0:1"]).unwrap();
        assert_eq!(extended, [range(1, 100_000, 65536), range(70000, 1000, 1)]);
        let extended = mapped(&["+1000:0"]).unwrap();
        assert_eq!(extended, [range(1, 100_000, 999), range(1000, 1000, 1), range(1001, 101_000, 64536)]);
    }

    #[test]
    fn refused() {
        for (entries, words) in [
            (&["0"][..], "missing"),
            (&["0:0:0"], "no id at all"),
            (&["0:0:1:1"], "three fields"),
            (&["x:0:1"], "\"x\" is no id"),
            (&["0:-1:1"], "is no id"),
            (&["0:+1:1"], "is no id"),
            (&["4294967295:0:1"], "beyond the last id"),
            (&["0:0:65538"], "not all yours"),
            (&["0:@0:1"], "not all yours"),
            (&["0:@99999:2"], "not all yours"),
            (&["0:0:10", "9:20:1"], "id 9 of the container is mapped twice"),
            (&["0:0:10", "10:9:1"], "id 100008 of the host is mapped twice"),
            (&["0:4294967290:6"], "beyond the last id"),
            (&[""], "is no id"),
        ] {
            let error = format!("{:#}", mapped(entries).unwrap_err());
            assert!(error.contains(words), "{entries:?}: {error}");
        }
    }

    #[test]
    fn keep_id() {
        for (inside, size, expected) in [
            (1000, None, &[(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64536)][..]),
            (0, None, &[(0, 1000, 1), (1, 100_000, 65536)]),
            (5, Some(10), &[(0, 100_000, 5), (5, 1000, 1), (6, 100_005, 4)]),
            (100, Some(10), &[(0, 100_000, 100), (100, 1000, 1)]),
            (70000, None, &[(0, 100_000, 65536), (70000, 1000, 1)]),
        ] {
            let expected: Vec<_> = expected.iter().map(|&(i, h, c)| range(i, h, c)).collect();
            assert_eq!(keep(&own(), inside, size), expected, "{inside} {size:?}");
        }
        let pieces = [range(0, 1000, 1), range(1, 5000, 10), range(11, 9000, 10)];
        assert_eq!(
            keep(&pieces, 5, None),
            [range(0, 5000, 5), range(5, 1000, 1), range(6, 5005, 5), range(11, 9000, 10)]
        );
        assert_eq!(keep(&own()[..1], 1000, None), [range(1000, 1000, 1)]);
        assert_eq!(without_user(&pieces), [range(0, 5000, 10), range(10, 9000, 10)]);
    }

    #[test]
    fn auto() {
        let own = &own()[1..];
        assert_eq!(allocate(own, &[], 1024, &[]).unwrap(), [range(0, 100_000, 1024)]);
        let taken = [range(0, 100_000, 1024), range(0, 102_000, 10)];
        assert_eq!(allocate(own, &taken, 900, &[]).unwrap(), [range(0, 101_024, 900)]);
        assert_eq!(allocate(own, &taken, 1024, &[]).unwrap(), [range(0, 102_010, 1024)]);
        let forced = [range(5, 1000, 1)];
        assert_eq!(
            allocate(own, &[], 10, &forced).unwrap(),
            [range(0, 100_000, 5), range(5, 1000, 1), range(6, 100_005, 4)]
        );
        assert!(allocate(own, &[], 70000, &[]).is_err());
        assert!(allocate(own, &[range(0, 100_000, 65536)], 1, &[]).is_err());
    }

    #[test]
    fn both_ways() {
        let map = keep(&own(), 1000, None);
        for id in [0, 999, 1000, 1001, 65536] {
            assert_eq!(to_inside(&map, to_host(&map, id).unwrap()), Some(id));
        }
        assert_eq!((to_host(&map, 65537), to_inside(&map, 0)), (None, None));
    }
}
