//! What `ctr inspect` says of a container's networks (Docker Engine API, NetworkSettings).

use crate::{
    container::record::Record,
    network::{networks::Attachment, private},
};
use serde_json::{Map, Value, json};

/// Published ports by the container's (Podman's `PortBindings`).
pub fn bindings(record: &Record) -> Value {
    let mut all = Map::new();
    for port in &record.ports {
        let place = json!({"HostIp": port.host_ip(), "HostPort": port.host_port.to_string()});
        if let Value::Array(places) = all.entry(port.inside()).or_insert_with(|| json!([])) {
            places.push(place);
        }
    }
    all.into()
}

/// Its addresses and networks.
pub fn network(record: &Record) -> Value {
    let place = |place: &Attachment| {
        json!({
            "Aliases": place.aliases,
            "Gateway": "",
            "GlobalIPv6Address": place.v6.map(|v6| v6.to_string()).unwrap_or_default(),
            "IPAddress": place.v4.to_string(),
            "MacAddress": mac(&place.mac),
            "NetworkID": place.network,
        })
    };
    let networks: Map<String, Value> =
        record.networks.iter().map(|one| (one.network.clone(), place(one))).collect();
    let private = record.network.starts_with("private");
    let own = match record.networks.first() {
        Some(first) => (first.v4.to_string(), mac(&first.mac)),
        None if private => (private::OWN.to_string(), mac(&private::mac(record.id.as_str()))),
        None => Default::default(),
    };
    json!({
        "Bridge": "",
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "HairpinMode": false,
        "IPAddress": own.0,
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "MacAddress": own.1,
        "Networks": networks,
        "Ports": bindings(record),
        "SandboxID": "",
        "SandboxKey": "",
    })
}

fn mac(bytes: &[u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
