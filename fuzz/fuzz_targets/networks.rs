//! `--network` with its options, subnets, and whose namespaces a container shares: any words are refused or what they say, and
//! no name of an interface or of a host leads anywhere else.
#![no_main]

use ctr::{
    container::{pod, sharing::{self, Whose}},
    network::{
        networks::{Wish, parse_alias, parse_mac},
        subnet::{Prefix, Subnet},
    },
};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fuzz_target!(|text: &str| {
    if let Ok(wish) = text.parse::<Wish>() {
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        assert!(wish.interface.is_none_or(|name| plain(&name) && (1..16).contains(&name.len()) && name != ".."));
        assert!(wish.aliases.iter().all(|name| plain(name) && (1..64).contains(&name.len())));
        assert!(wish.mac.is_none_or(|mac| mac[0] & 1 == 0));
    }
    let mut words = text.split(' ');
    if let Some(Ok(net)) = words.next().map(str::parse::<Prefix>) {
        assert_eq!(net.to_string().parse::<Prefix>().expect("its own words"), net);
        let gateway = words.next().and_then(|word| word.parse().ok());
        let range = words.next().and_then(|word| word.parse().ok());
        if let Ok(subnet) = Subnet::new(net, gateway, range) {
            let mut taken = BTreeSet::new();
            while let (true, Ok(address)) = (taken.len() < 4, subnet.choose(None, &taken)) {
                assert!(net.contains(address) && address != subnet.gateway && taken.insert(address), "{subnet:?}");
            }
        }
    }
    for whose in [sharing::parse(text), sharing::parse_ipc(text)].into_iter().flatten() {
        match whose {
            Whose::Path(path) => assert!(path.is_absolute()),
            Whose::Container(name) => assert!(!name.is_empty()),
            Whose::Private | Whose::Host => {}
        }
    }
    let _ = (pod::parse_share(text), parse_alias(text), parse_mac(text));
});
