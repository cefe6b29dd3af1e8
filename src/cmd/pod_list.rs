//! `ctr pod ls` and `ctr pod inspect` (podman-pod-ps(1), podman-pod-inspect(1)).

use super::{
    Globals, each,
    list_args::ListArgs,
    output,
    run_args::takes_a_truth_value,
    template::{Columns, Format},
    warn,
};
use crate::{
    container::{pod, state::Container},
    error::Explain,
};
use anyhow::Result;
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
#[command(mut_args = takes_a_truth_value)]
pub struct LsArgs {
    /// Names of the containers, too
    #[arg(long)]
    ctr_names: bool,
    #[command(flatten)]
    list: ListArgs,
}

/// Print the list.
pub fn ls(args: &LsArgs, globals: &Globals) -> Result<u8> {
    let (pods, damaged) = pod::list(&globals.store()?)?;
    damaged.iter().for_each(warn);
    let id = |pod: &Container| {
        if args.list.no_trunc { pod.record.id.as_str() } else { pod.record.id.short() }.to_owned()
    };
    if args.list.quiet && args.list.format.is_none() {
        output::print(&pods.iter().map(|(pod, _)| id(pod) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Value> = pods.iter().map(|(pod, members)| row(pod, members, &id(pod))).collect();
    let names = if args.ctr_names { r"\t{{.ContainerNames}}" } else { "" };
    let row = format!(
        r"{{{{.Id}}}}\t{{{{.Name}}}}\t{{{{.Status}}}}\t{{{{.Created}}}}\t{{{{.NumberOfContainers}}}}{names}"
    );
    let headings =
        &[("Id", "POD ID"), ("NumberOfContainers", "# OF CONTAINERS"), ("ContainerNames", "CONTAINER NAMES")];
    args.list
        .format
        .clone()
        .unwrap_or_default()
        .print(&rows, &Columns { row: &row, headings, noheading: args.list.noheading })?;
    Ok(0)
}

fn row(pod: &Container, members: &[Container], id: &str) -> Value {
    let record = &pod.record;
    let of = |word: &dyn Fn(&Container) -> String| members.iter().map(word).collect::<Vec<_>>().join(",");
    json!({
        "Id": id,
        "Name": record.name,
        "Status": pod::status(pod, members),
        "Created": format!("{} ago", output::since(record.created)),
        "InfraId": record.id,
        "NumberOfContainers": members.len(),
        "ContainerIds": of(&|member| member.record.id.short().to_owned()),
        "ContainerNames": of(&|member| member.record.name.to_string()),
        "ContainerStatuses": of(&|member| member.status.word().to_owned()),
        "Labels": record.labels,
        "Networks": [record.network.clone()],
    })
}

#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// `json` or a Go template
    #[arg(short, long, default_value = "json")]
    format: Format,
    /// Name, id or the beginning of an id
    #[arg(value_name = "POD", required = true)]
    pods: Vec<String>,
}

/// Print an array of what there is.
pub fn inspect(args: &InspectArgs, globals: &Globals) -> Result<u8> {
    let store = globals.store()?;
    let mut found = Vec::new();
    let status = each(&args.pods, |name| {
        let pod = pod::find(&store, name).status(125)?;
        found.push(all_about(&pod, &pod::members(&store, &pod.record.id)?));
        Ok(())
    });
    let format = if matches!(args.format, Format::Default) { &Format::Json } else { &args.format };
    format.print(&found, &Columns { row: "", headings: &[], noheading: false })?;
    Ok(status)
}

fn all_about(pod: &Container, members: &[Container]) -> Value {
    let record = &pod.record;
    let share = record.pod.as_ref().map(|pod| pod.share.as_slice()).unwrap_or_default();
    let entry = |c: &Container| json!({"Id": c.record.id, "Name": c.record.name, "State": c.status.word()});
    let containers: Vec<Value> = [pod].into_iter().chain(members).map(entry).collect();
    json!({
        "Id": record.id,
        "Name": record.name,
        "Created": record.created,
        "CreateCommand": record.command_line,
        "State": pod::status(pod, members),
        "Hostname": record.hostname,
        "Labels": record.labels,
        "CreateInfra": true,
        "InfraContainerID": record.id,
        "SharedNamespaces": share.iter().map(|kind| kind.word()).collect::<Vec<_>>(),
        "NumContainers": members.len() + 1,
        "Containers": containers,
        "ExitPolicy": if record.pod.as_ref().is_some_and(|pod| pod.ends_with_members) { "stop" } else { "continue" },
    })
}
