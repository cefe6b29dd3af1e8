//! What a container sends: any frame is dropped, answered within the buffer, or passed on as what it says it is; whoever's
//! address it claims, it comes from its sender's alone. Questions and segments go on into their parsers.
#![no_main]

use ctr::network::{
    engine::{
        dns,
        fragments::Fragments,
        frame,
        stack::{Stack, Wire},
        switch::{Network, Verdict},
    },
    wire::{Member, Net4, Net6, Settings},
};
use libfuzzer_sys::fuzz_target;
use std::{cell::RefCell, net::SocketAddr, os::fd::OwnedFd};

fn network() -> Network {
    let v4 = Net4 { subnet: [10, 0, 2, 0].into(), prefix: 24, gateway: [10, 0, 2, 2].into(), dns: [10, 0, 2, 3].into() };
    let address = |last: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let v6 = Net6 { subnet: address(0), prefix: 64, gateway: address(2), dns: address(3) };
    let settings = Settings {
        name: "fuzz".into(),
        v4: Some(v4),
        v6: Some(v6),
        internal: false,
        dns: true,
        host_loopback: false,
        host_alias: Some([169, 254, 1, 2].into()),
        mtu: 65520,
    };
    let mut network = Network::new(settings);
    for number in [7u8, 8] {
        let member = Member {
            id: number.to_string(),
            mac: [2, 0, 0, 0, 0, number],
            v4: Some([10, 0, 2, number].into()),
            v6: Some(address(number.into())),
            names: vec![format!("name{number}")],
            published: vec![],
        };
        network.add(number.into(), member).expect("free addresses");
    }
    network
}

thread_local! {
    static NETWORK: (Network, OwnedFd, RefCell<Vec<u8>>) = (
        network(),
        std::fs::OpenOptions::new().write(true).open("/dev/null").expect("/dev/null").into(),
        RefCell::new(vec![0; frame::LONGEST]),
    );
}

fuzz_target!(|frames: Vec<&[u8]>| {
    NETWORK.with(|(network, tap, out)| {
        let mut out = out.borrow_mut();
        let now = smoltcp::time::Instant::ZERO;
        let mut stack: Option<(SocketAddr, Stack)> = None;
        let (mut fragments, mut whole) = (Fragments::default(), Vec::new());
        for bytes in frames {
            let mut sent = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 7].to_vec();
            sent.extend_from_slice(bytes);
            sent.truncate(frame::LONGEST - frame::VNET);
            let mut verdict = network.judge(7, &sent, &mut out);
            if let Verdict::Piece(packet) = verdict {
                let at = std::time::Instant::now();
                whole.clear();
                whole.extend(fragments.put(at, 7, &packet).into_iter().flatten());
                verdict = frame::ip(&whole).map_or(Verdict::Drop, |packet| network.judge_whole(7, packet, &mut out));
            }
            match verdict {
                Verdict::Answer(length) => assert!(length <= out.len()),
                Verdict::Forward(to, _) => assert_eq!(to, 8),
                Verdict::Udp(packet, _) => {
                    let _ = frame::udp_payload(packet.body).map(|question| dns::answer(question, network));
                }
                Verdict::Tcp(packet, _) => {
                    assert!(["10.0.2.7", "fd00::7"].contains(&&*packet.source.to_string()));
                    let Some((_, port)) = frame::ports(packet.body) else { continue };
                    let here = SocketAddr::new(packet.destination, port);
                    let mac = [2, 0, 0, 0, 0, 7];
                    let mut wire = Wire { incoming: Some(packet.whole), mac, tap, out: &mut out, mtu: 65520 };
                    match &mut stack {
                        Some((of, stack)) if *of == here => stack.take(now, &mut wire),
                        _ => stack = Some((here, Stack::accept(here, 4096, now, &mut wire))),
                    }
                    if let Some((_, stack)) = &mut stack {
                        let _ = stack.socket().recv(|bytes| (bytes.len() / 2, ()));
                        let _ = stack.socket().send_slice(b"answer");
                        stack.send(now, &mut wire);
                    }
                }
                Verdict::Drop | Verdict::Flood | Verdict::Echo(..) | Verdict::Piece(_) => {}
            }
        }
    });
});
