//! `.network`: a service that makes a network once.

use super::draft::{Draft, of, own};
use anyhow::{Result, ensure};

/// Add the service.
pub fn build(draft: &mut Draft) -> Result<()> {
    let name = draft.source.resource()?;
    let mut words = own(["network", "create", "--ignore"]);
    words.extend(draft.options()?);
    let [subnets, gateways, ranges] = ["Subnet", "Gateway", "IPRange"].map(|key| draft.values(key));
    ensure!(gateways.len().max(ranges.len()) <= subnets.len(), "each Gateway= and IPRange= needs a Subnet=");
    for (at, subnet) in subnets.iter().enumerate() {
        words.push(of("Subnet", format!("--subnet={subnet}")));
        words.extend(gateways.get(at).map(|gateway| of("Gateway", format!("--gateway={gateway}"))));
        words.extend(ranges.get(at).map(|range| of("IPRange", format!("--ip-range={range}"))));
    }
    words.extend(draft.extra()?);
    words.push(of("NetworkName", name.as_str()));
    draft.once(true);
    draft.command("ExecStart", "", words)?;
    if draft.truth("NetworkDeleteOnStop")? == Some(true) {
        draft.command("ExecStopPost", "", own(["network", "rm", &name]))?;
    }
    Ok(())
}
