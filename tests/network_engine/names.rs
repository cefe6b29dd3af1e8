//! Names that members ask for.

use crate::ground::{SERVERS, couple, outside, run, settings};
use ctr::network::wire::Settings;
use hickory_proto::{
    op::{Message, Query},
    rr::{RData, Record, RecordType},
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// Ask `server` for a name from the current namespace.
fn ask(server: &str, name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.id = 4711;
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.parse().expect("a name"), kind));
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("patience");
    socket.connect((server, 53)).expect("connect");
    socket.send(&question.to_vec().expect("a message")).expect("send");
    let mut bytes = vec![0; 4096];
    let length = socket.recv(&mut bytes).expect("an answer");
    let answer = Message::from_vec(&bytes[..length]).expect("a message");
    assert_eq!((answer.metadata.id, &answer.queries), (4711, &question.queries));
    answer
}

fn told(answer: &Message) -> String {
    let records: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    format!("{:?} {}", answer.metadata.response_code, records.join(" "))
}

#[test]
fn names() {
    if !outside() {
        return;
    }
    // What the host's resolv.conf says here.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "nameserver 192.0.2.1\n").expect("to write");
    run(&format!("mount --bind {} /etc/resolv.conf", file.path().display()));
    let nameserver = UdpSocket::bind("192.0.2.1:53").expect("bind");
    thread::spawn(move || {
        let mut bytes = vec![0; 4096];
        while let Ok((length, from)) = nameserver.recv_from(&mut bytes) {
            let question = Message::from_vec(&bytes[..length]).expect("a question");
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            let query = question.queries[0].clone();
            let data = RData::A("203.0.113.7".parse().unwrap());
            answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            answer.add_query(query);
            // First a liar's.
            let mut lie = answer.clone();
            lie.metadata.id = question.metadata.id.wrapping_add(1);
            for message in [lie, answer] {
                nameserver.send_to(&message.to_vec().expect("a message"), from).expect("to answer");
            }
        }
    });
    let ([(one, line), (_other, second)], _dir) = couple(&settings());
    thread::spawn(move || while line.serve().is_ok() {});
    let cases = [
        ("eight.", RecordType::A, "NoError 10.0.2.8"),
        ("EIGHT.", RecordType::AAAA, "NoError fd00::8"),
        ("eight.", RecordType::MX, "NoError "),
        ("7.2.0.10.in-addr.arpa.", RecordType::PTR, "NoError seven."),
        ("77.2.0.10.in-addr.arpa.", RecordType::PTR, "NXDomain "),
        ("host.containers.internal.", RecordType::A, "NoError 169.254.1.2"),
        ("example.org.", RecordType::A, "NoError 203.0.113.7"),
        ("example.com.", RecordType::A, "NoError 203.0.113.7"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(one.does(move || told(&ask("10.0.2.3", name, kind))), expected, "{name} {kind}");
    }
    let both = one.does(|| ask("10.0.2.3", "alias.", RecordType::A));
    assert_eq!(both.answers.len(), 2);
    // The host's network changed.
    std::fs::write(file.path(), "nameserver 192.0.2.99\nnameserver 192.0.2.1\n").expect("to write");
    assert_eq!(one.does(|| told(&ask("10.0.2.3", "example.net.", RecordType::A))), "NoError 203.0.113.7");
    drop(second);
}

#[test]
fn an_internal_network_leads_nowhere() {
    if !outside() {
        return;
    }
    let ([(one, _line), (_other, _second)], _dir) = couple(&Settings { internal: true, ..settings() });
    let server = TcpListener::bind(SERVERS[0]).expect("listen");
    let address = server.local_addr().unwrap();
    for address in [address, SocketAddr::new("169.254.1.2".parse().unwrap(), address.port())] {
        one.does(move || TcpStream::connect(address).expect_err("a way out"));
    }
    assert_eq!(one.does(|| told(&ask("10.0.2.3", "eight.", RecordType::A))), "NoError 10.0.2.8");
    assert_eq!(one.does(|| told(&ask("10.0.2.3", "example.org.", RecordType::A))), "NXDomain ");
}
