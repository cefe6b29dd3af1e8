//! Questions about names: what we know ourselves is answered, everything else is for the host's nameservers. Pure.

use super::switch::Network;
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};
use std::net::IpAddr;

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is it.
    Known(Vec<u8>),
    /// Others know.
    Forward,
    /// It is no question.
    Ignore,
}

/// Answer `question`, a DNS message (RFC 1035).
pub fn answer(question: &[u8], network: &Network) -> Answer {
    // A question of one name is short; what asks for thousands at once is not even read.
    if question.len() > LONGEST || question.get(4..6) != Some(&[0, 1]) {
        return Answer::Ignore;
    }
    let Ok(message) = Message::from_vec(question) else { return Answer::Ignore };
    let (MessageType::Query, [query]) = (message.metadata.message_type, &message.queries[..]) else {
        return Answer::Ignore;
    };
    let plain = message.metadata.op_code == OpCode::Query && query.query_class() == DNSClass::IN;
    let found = if plain { find(query.name(), query.query_type(), network) } else { None };
    let (code, records) = match found {
        Some(Some(records)) => (ResponseCode::NoError, records),
        Some(None) => (ResponseCode::NXDomain, Vec::new()),
        None if network.settings.internal => (ResponseCode::NXDomain, Vec::new()),
        None => return Answer::Forward,
    };
    reply(&message, code, records).map_or(Answer::Ignore, Answer::Known)
}

/// What we know of what `question` of another network asks; `None`: nobody here is called so.
pub fn found(question: &[u8], network: &Network) -> Option<Vec<u8>> {
    match answer(question, network) {
        Answer::Known(reply) if !denies(&reply) && reply.len() <= LONGEST_FOUND => Some(reply),
        _ => None,
    }
}

/// Whether `answer` says that there is no such name.
pub fn denies(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| flags & 15 == ResponseCode::NXDomain.low())
}

/// Those of the member called `name`.
fn addresses(name: &str, network: &Network) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for member in network.members.values().filter(|member| member.names.iter().any(|one| one == name)) {
        addresses.extend(member.v4.map(IpAddr::V4));
        addresses.extend(member.v6.map(IpAddr::V6));
    }
    addresses
}

fn reply(message: &Message, code: ResponseCode, records: Vec<Record>) -> Option<Vec<u8>> {
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(message.queries.iter().take(1).cloned());
    reply.add_answers(records);
    reply.to_vec().ok()
}

fn text(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    text.truncate(text.trim_end_matches('.').len());
    text
}

fn records(name: &Name, kind: RecordType, addresses: &[IpAddr]) -> Vec<Record> {
    let data = addresses.iter().filter_map(|address| match (*address, kind) {
        (IpAddr::V4(address), RecordType::A | RecordType::ANY) => Some(RData::A(A(address))),
        (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    });
    data.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect()
}

/// "We tried": the answer to `question` when no nameserver gave one.
pub fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(question).ok()?;
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = ResponseCode::ServFail;
    reply.add_queries(message.queries);
    reply.to_vec().ok()
}

/// Whether `answer` is one to `question`, which was sent under the identifier `id`.
pub fn answers(answer: &[u8], id: u16, question: &[u8]) -> bool {
    let (Some(head), Some(asked)) = (answer.first_chunk::<12>(), question.get(12..)) else { return false };
    // The identifier, that it is a response, and the question word for word; it ends behind a name, a type and a class.
    let labels = |bytes: &[u8]| {
        let mut at = 0;
        loop {
            match *bytes.get(at)? {
                0 => return bytes.get(..at + 5).map(<[u8]>::to_vec),
                length @ 1..64 => at += 1 + usize::from(length),
                _ => return None,
            }
        }
    };
    let asked = labels(asked);
    head[..2] == id.to_be_bytes() && head[2] & 0x80 != 0 && asked.is_some() && labels(&answer[12..]) == asked
}

/// Bytes of a question.
const LONGEST: usize = 4096;

/// Bytes of an answer that goes from one network to another: as numbers in JSON they take four times that.
const LONGEST_FOUND: usize = 16 << 10;

/// Seconds that an answer of ours may be kept: a container that is started anew has another address.
const TTL: u32 = 5;

/// `None`: not ours to say. `Some(None)`: there is no such name. Else what there is of that type, perhaps nothing.
#[expect(clippy::option_option, reason = "each layer is one question: whose name, and is there one")]
fn find(name: &Name, kind: RecordType, network: &Network) -> Option<Option<Vec<Record>>> {
    if let Ok(address) = name.parse_arpa_name()
        && (address.prefix_len() == address.max_prefix_len())
    {
        return pointer(name, kind, address.addr(), network);
    }
    let text = text(name);
    let mut addresses = addresses(&text, network);
    if addresses.is_empty() && matches!(&*text, "host.containers.internal" | "host.docker.internal") {
        addresses.extend(network.settings.host_alias.filter(|_| !network.settings.internal).map(IpAddr::V4));
    }
    if addresses.is_empty() {
        return None;
    }
    Some(Some(records(name, kind, &addresses)))
}

#[expect(clippy::option_option, reason = "as above")]
fn pointer(name: &Name, kind: RecordType, address: IpAddr, network: &Network) -> Option<Option<Vec<Record>>> {
    let member = network.by_address.get(&address).and_then(|number| network.members.get(number));
    if let Some(target) =
        member.and_then(|member| Name::from_ascii(format!("{}.", member.names.first()?)).ok())
    {
        let records = match kind {
            RecordType::PTR | RecordType::ANY => {
                vec![Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target)))]
            }
            _ => Vec::new(),
        };
        return Some(Some(records));
    }
    super::reach::is_within(&network.settings, address).then_some(None)
}
