//! Datagrams that a member sends in pieces, as all are that are larger than its link takes: put together again, for a socket of the
//! host cuts them anew. Each piece is hostile: what overlaps is thrown away whole (RFC 5722).

use super::{
    emit,
    frame::{self, ICMP, ICMPV6, Packet, Piece, UDP},
    world::{Source, World},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Datagrams of which something is missing.
#[derive(Debug, Default)]
pub struct Fragments {
    unfinished: HashMap<Key, Unfinished>,
}

/// Which datagram a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    member: u64,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Unfinished {
    since: Instant,
    data: Vec<u8>,
    /// What has come, in order, neighbours as one: begin and end.
    come: Vec<(usize, usize)>,
    length: Option<usize>,
}

impl Fragments {
    /// `packet`, a piece, has come from `member`; gives the whole packet with its last piece.
    pub fn add(&mut self, world: &mut World, member: u64, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let now = world.now;
        let whole = self.put(now, member, packet);
        if !self.unfinished.is_empty() {
            world.timers.set(now + PATIENCE, Source::Pieces);
        }
        whole
    }

    /// The same, for who keeps the time.
    pub fn put(&mut self, now: Instant, member: u64, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let piece = frame::piece(packet)?;
        let (source, destination) = (packet.source, packet.destination);
        if !matches!(piece.protocol, UDP | ICMP | ICMPV6) {
            return None;
        }
        let key = Key { member, source, destination, protocol: piece.protocol, id: piece.id };
        if !self.unfinished.contains_key(&key) {
            self.make_room(now, member);
        }
        let fresh = || Unfinished { since: now, data: Vec::new(), come: Vec::new(), length: None };
        let whole = self.unfinished.entry(key).or_insert_with(fresh);
        if whole.put(&piece).is_none() {
            self.unfinished.remove(&key);
            return None;
        }
        if !whole.is_complete() {
            return None;
        }
        let data = self.unfinished.remove(&key)?.data;
        let mut packet = vec![0; 40];
        let header = emit::ip_header(&mut packet, source, destination, piece.protocol, data.len());
        packet.truncate(header);
        packet.extend(data);
        Some(packet)
    }

    /// Some may have waited long enough.
    pub fn due(&mut self, world: &mut World) {
        self.expire(world.now);
        if let Some(oldest) = self.unfinished.values().map(|whole| whole.since).min() {
            world.timers.set(oldest + PATIENCE, Source::Pieces);
        }
    }

    /// `member` has left.
    pub fn leave(&mut self, member: u64) {
        self.unfinished.retain(|key, _| key.member != member);
    }

    fn expire(&mut self, now: Instant) {
        self.unfinished.retain(|_, whole| now.saturating_duration_since(whole.since) < PATIENCE);
    }

    /// For one more of `member`: what it began first makes it when it has its share, else what anybody began first.
    fn make_room(&mut self, now: Instant, member: u64) {
        self.expire(now);
        let own = self.unfinished.keys().filter(|key| key.member == member).count();
        if own < OF_EACH && self.unfinished.len() < MOST {
            return;
        }
        let begun = self.unfinished.iter().filter(|(key, _)| own < OF_EACH || key.member == member);
        if let Some(first) = begun.min_by_key(|(_, whole)| whole.since).map(|(key, _)| *key) {
            self.unfinished.remove(&first);
        }
    }
}

impl Unfinished {
    /// `None`: no datagram has such pieces.
    fn put(&mut self, piece: &Piece<'_>) -> Option<()> {
        let (begin, end) = (piece.offset, piece.offset + piece.data.len());
        // All but the last end where another one can begin, and nothing follows the last.
        let fits = if piece.more { end % 8 == 0 && end > begin } else { self.length.is_none() };
        if !fits || end > LONGEST || self.length.is_some_and(|length| end > length) {
            return None;
        }
        if !piece.more {
            self.length = Some(end);
            if self.come.last().is_some_and(|last| last.1 > end) {
                return None;
            }
        }
        let at = self.come.partition_point(|come| come.0 < begin);
        let before = at.checked_sub(1).and_then(|before| self.come.get(before));
        if before.is_some_and(|before| before.1 > begin) || self.come.get(at).is_some_and(|next| next.0 < end)
        {
            return None;
        }
        self.come.insert(at, (begin, end));
        for at in [at + 1, at] {
            if let (Some(&next), Some(&before)) =
                (self.come.get(at), at.checked_sub(1).and_then(|at| self.come.get(at)))
                && before.1 == next.0
            {
                self.come.remove(at);
                self.come[at - 1].1 = next.1;
            }
        }
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[begin..end].copy_from_slice(piece.data);
        (self.come.len() <= MOST_GAPS).then_some(())
    }

    fn is_complete(&self) -> bool {
        self.length.is_some_and(|length| self.come == [(0, length)])
    }
}

/// As long as the rest may take: pieces leave one after the other, over no distance.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams of a network, and of a member: each takes 64 KiB at most.
const MOST: usize = 64;
const OF_EACH: usize = 16;
/// Gaps in one.
const MOST_GAPS: usize = 64;
/// Bytes behind an IPv4 header.
const LONGEST: usize = 65535 - 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The packet that carries `data` from `offset` of datagram `id`.
    fn piece(v4: bool, id: u8, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
        let flags = (offset | usize::from(more)) as u16;
        if v4 {
            let (source, destination) = ([10, 0, 2, 7].into(), [192, 0, 2, 1].into());
            let mut packet = vec![0; 20];
            emit::ip_header(&mut packet, source, destination, UDP, data.len());
            packet[5] = id;
            packet[6..8].copy_from_slice(&((flags & 1) << 13 | flags >> 3).to_be_bytes());
            return [packet, data.to_vec()].concat();
        }
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut packet = vec![0; 40];
        emit::ip_header(&mut packet, address("fd00::7"), address("2001:db8::1"), 44, data.len() + 8);
        let [high, low] = flags.to_be_bytes();
        [packet, vec![UDP, 0, high, low, 0, 0, 0, id], data.to_vec()].concat()
    }

    fn put(all: &mut Fragments, now: Instant, member: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let packet = frame::ip(bytes).unwrap();
        assert!(packet.fragment);
        let whole = all.put(now, member, &packet)?;
        Some(frame::ip(&whole).unwrap().body.to_vec())
    }

    #[test]
    fn pieces_in_any_order() {
        let data: Vec<u8> = (0..100).collect();
        for v4 in [true, false] {
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let (mut all, now) = (Fragments::default(), Instant::now());
                let mut wholes = order.map(|part| {
                    let end = if part == 2 { 100 } else { part * 40 + 40 };
                    put(&mut all, now, 1, &piece(v4, 9, part * 40, part < 2, &data[part * 40..end]))
                });
                assert_eq!(wholes[2].take(), Some(data.clone()), "{order:?}");
                assert_eq!((wholes[0].take(), wholes[1].take()), (None, None));
                assert!(all.unfinished.is_empty());
            }
        }
    }

    #[test]
    fn what_no_datagram_has() {
        let long = [0; 16];
        let bad: [&[(usize, bool, usize)]; 6] = [
            &[(0, true, 16), (8, false, 16)],
            &[(0, true, 7), (8, false, 8)],
            &[(8, false, 8), (16, true, 16), (0, true, 8)],
            &[(8, false, 8), (8, false, 8), (0, true, 8)],
            &[(16, true, 8), (0, true, 16), (24, true, 0), (24, false, 1)],
            &[(65528, false, 16), (0, true, 8)],
        ];
        for pieces in bad {
            let (mut all, now) = (Fragments::default(), Instant::now());
            for (offset, more, length) in pieces {
                let whole = put(&mut all, now, 1, &piece(false, 1, *offset, *more, &long[..*length]));
                assert!(whole.is_none(), "{pieces:?}");
            }
        }
    }

    #[test]
    fn nobody_fills_the_memory() {
        let (mut all, begin) = (Fragments::default(), Instant::now());
        for id in 0..200 {
            for member in 1..4 {
                put(&mut all, begin, member, &piece(true, id, 65488, true, &[0; 16]));
            }
        }
        assert_eq!(all.unfinished.len(), 3 * OF_EACH);
        // Other members' begun ones last as long as there is room.
        for member in 4..100 {
            let now = begin + Duration::from_millis(member);
            put(&mut all, now, member, &piece(true, 0, 0, true, &[0; 16]));
        }
        assert_eq!(all.unfinished.len(), MOST);
        assert_eq!(
            put(&mut all, begin, 99, &piece(true, 0, 16, false, &[1; 3])).map(|data| data.len()),
            Some(19)
        );
        all.leave(98);
        assert_eq!(all.unfinished.len(), MOST - 2);
        put(&mut all, begin + 2 * PATIENCE, 1, &piece(true, 0, 0, true, &[0; 16]));
        assert_eq!(all.unfinished.len(), 1);
    }

    proptest! {
        #[test]
        fn no_piece_is_too_much(pieces in proptest::collection::vec((0usize..40, any::<bool>(), 0usize..50), 0..60)) {
            let (mut all, now) = (Fragments::default(), Instant::now());
            for (offset, more, length) in pieces {
                let bytes = piece(false, 1, offset * 8, more, &[7; 50][..length]);
                if let Some(packet) = frame::ip(&bytes).filter(|packet| packet.fragment)
                    && let Some(whole) = all.put(now, 1, &packet)
                {
                    prop_assert!(whole[40..].iter().all(|byte| *byte == 7));
                }
            }
        }
    }
}
