//! What -p and --expose are given: refused, or as many ports as the text has, which read the same when they are written.
#![no_main]

use ctr::network::ports::{parse, parse_exposed, shown, with_exposed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(exposed) = parse_exposed(text) {
        assert!((1..=1024).contains(&exposed.len()));
        assert!(with_exposed(Vec::new(), &exposed).len() <= exposed.len());
    }
    let Ok(ports) = parse(text) else { return };
    assert!((1..=1024).contains(&ports.len()));
    assert!(ports.iter().all(|port| port.port > 0));
    // An address without a port of the host's means something else once that was chosen.
    if ports.iter().all(|port| port.host_port > 0) {
        let written = shown(&ports).replace("->", ":");
        assert_eq!(parse(&written).map(|again| shown(&again)).ok(), Some(shown(&ports)), "{text} {written}");
    }
});
