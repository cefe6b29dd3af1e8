//! From all Quadlet files of a place to all services: what each says, and the links that start it.

use super::{
    build, container,
    draft::{Draft, Settings, USER_NETWORK},
    image, keys, network, pod,
    unit::{Kind, Source, is_unit_name},
    unit_file::UnitFile,
    volume,
};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// What the generator is to write.
#[derive(Default)]
pub struct Plan {
    /// The services.
    pub services: Vec<Service>,
    /// Why others can't be, each with the name of its file.
    pub failures: Vec<Error>,
}

/// A service of systemd.
pub struct Service {
    /// `web.service`.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Links beside it that start it with others, as `multi-user.target.wants/web.service`, and what they lead to.
    pub links: Vec<(String, String)>,
}

/// Plan the services of `sources`. One that can't be is left out, and so are those that need it.
pub fn plan(sources: &[Source], settings: &Settings) -> Plan {
    let all: BTreeMap<&str, &Source> = sources.iter().map(|source| (source.name.as_str(), source)).collect();
    let mut plan = Plan::default();
    let mut drafts = BTreeMap::new();
    for source in sources {
        match draft(source, &all, settings).with_context(|| source.name.clone()) {
            Ok(draft) => drop(drafts.insert(source.name.as_str(), draft)),
            Err(failure) => plan.failures.push(failure),
        }
    }
    plan.failures.extend(leave_out_circles(&mut drafts));
    plan.failures.extend(leave_out_the_unneeded(&mut drafts));
    start_with_pods(&mut drafts);
    let mut names = BTreeSet::new();
    for draft in drafts.into_values() {
        match service(&draft, &mut names).with_context(|| draft.source.name.clone()) {
            Ok(service) => plan.services.push(service),
            Err(failure) => plan.failures.push(failure),
        }
    }
    if plan.services.iter().any(|service| service.text.contains(USER_NETWORK)) {
        let text = WAIT_FOR_NETWORK.to_owned();
        plan.services.push(Service { name: USER_NETWORK.to_owned(), text, links: Vec::new() });
    }
    plan
}

// A user's systemd can't wait for targets of the system's: this asks until that has no job left for the target. Where nobody
// wants the target there is none, and nothing to wait for.
const WAIT_FOR_NETWORK: &str = "\
[Unit]
Description=Wait for the network of the system to be online

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=90s
ExecStart=/bin/sh -c 'while systemctl --system list-jobs --no-legend 2>/dev/null | grep -q \" network-online.target \"; do sleep 0.5; done'
";

fn draft<'a>(
    source: &'a Source,
    all: &'a BTreeMap<&'a str, &'a Source>,
    settings: &'a Settings<'a>,
) -> Result<Draft<'a>> {
    let mut draft = Draft::new(source, all, settings)?;
    match source.kind {
        Kind::Container => container::build(&mut draft)?,
        Kind::Volume => volume::build(&mut draft)?,
        Kind::Network => network::build(&mut draft)?,
        Kind::Image => image::build(&mut draft)?,
        Kind::Build => build::build(&mut draft)?,
        Kind::Pod => pod::build(&mut draft)?,
    }
    Ok(draft)
}

/// Services that need each other would never start.
fn leave_out_circles(drafts: &mut BTreeMap<&str, Draft>) -> Vec<Error> {
    let circle = |start: &str| {
        let mut waiting: Vec<Vec<String>> = vec![vec![start.to_owned()]];
        let mut seen = BTreeSet::new();
        while let Some(way) = waiting.pop() {
            for next in
                way.last().and_then(|last| drafts.get(last.as_str())).iter().flat_map(|draft| &draft.needs)
            {
                let longer = [way.clone(), vec![next.clone()]].concat();
                if next == start {
                    return Some(longer.join(" -> "));
                }
                if seen.insert(next.clone()) {
                    waiting.push(longer);
                }
            }
        }
        None
    };
    let circles: Vec<(String, String)> =
        drafts.keys().filter_map(|name| Some(((*name).to_owned(), circle(name)?))).collect();
    circles
        .into_iter()
        .map(|(name, circle)| {
            drafts.remove(name.as_str());
            anyhow!("{name}: it needs itself: {circle}")
        })
        .collect()
}

/// What needs something that is left out is left out, too.
fn leave_out_the_unneeded(drafts: &mut BTreeMap<&str, Draft>) -> Vec<Error> {
    let mut failures = Vec::new();
    loop {
        let missing = drafts.iter().find_map(|(name, draft)| {
            let missing = draft.needs.iter().find(|need| !drafts.contains_key(need.as_str()))?;
            Some(((*name).to_owned(), missing.clone()))
        });
        let Some((name, missing)) = missing else { return failures };
        drafts.remove(name.as_str());
        failures.push(anyhow!("{name}: it needs {missing}, which can't be"));
    }
}

/// A pod starts its containers.
fn start_with_pods(drafts: &mut BTreeMap<&str, Draft>) {
    let members: Vec<(String, String)> = drafts
        .values()
        .filter_map(|draft| Some((draft.pod.clone()?, draft.source.service().ok()?)))
        .collect();
    for (pod, service) in members {
        if let Some(draft) = drafts.get_mut(pod.as_str()) {
            draft.unit.add("Unit", "Wants", &service);
            draft.unit.add("Unit", "Before", &service);
        }
    }
}

fn service(draft: &Draft, names: &mut BTreeSet<String>) -> Result<Service> {
    let name = draft.source.service()?;
    let links = links(&draft.source.file, &name)?;
    let aliases = links.iter().map(|(link, _)| link).filter(|link| !link.contains('/'));
    for own in aliases.chain([&name]) {
        ensure!(own != USER_NETWORK && names.insert(own.clone()), "another file makes {own}, too");
    }
    let text = format!("# Made by ctr of {}\n\n{}", draft.source.path.display(), draft.unit);
    Ok(Service { name, text, links })
}

/// What `systemctl enable` would make of `[Install]`: for services that are made anew at each boot it can't.
fn links(unit: &UnitFile, service: &str) -> Result<Vec<(String, String)>> {
    const KEYS: [(&str, &str); 3] =
        [("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")];
    for key in unit.keys("Install") {
        let known =
            KEYS.iter().any(|(known, _)| key == *known) || ["Alias", "DefaultInstance"].contains(&key);
        ensure!(known, "[Install] has no key {key}");
    }
    let named = |key: &str| -> Result<Vec<String>> {
        let names = keys::list(unit, "Install", key)?;
        match names.iter().find(|name| !is_unit_name(name)) {
            Some(bad) => bail!("{key}={bad}: not the name of a unit"),
            None => Ok(names),
        }
    };
    let mut links = Vec::new();
    for alias in named("Alias")? {
        ensure!(
            alias.ends_with(".service") && alias != service,
            "Alias={alias}: not another name of a service"
        );
        links.push((alias, service.to_owned()));
    }
    let instance = unit.last("Install", "DefaultInstance").filter(|instance| !instance.is_empty());
    let started = match (service.strip_suffix("@.service"), instance) {
        (None, Some(_)) if !service.contains('@') => bail!("DefaultInstance= is for templates"),
        (None, _) => Some(service.to_owned()),
        (Some(_), None) => None,
        (Some(prefix), Some(instance)) => Some(format!("{prefix}@{instance}.service")),
    };
    for (key, directory) in KEYS {
        for target in named(key)? {
            if let Some(started) = &started {
                ensure!(is_unit_name(started), "DefaultInstance=: {started} can't be the name of a unit");
                links.push((format!("{target}.{directory}/{started}"), format!("../{service}")));
            }
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{draft::Refusal, load::from_text},
        *,
    };

    /// The services of files; our command line has everything but `--ip`.
    fn made(files: &[(&str, &str)]) -> Plan {
        let read = |(name, text): &(&str, &str)| from_text(format!("/q/{name}").as_ref(), text, &[]).unwrap();
        let sources: Vec<Source> = files.iter().map(read).collect();
        let accepts = |words: &[String]| match words.iter().any(|word| word.starts_with("--ip=")) {
            true => Err(Refusal { word: Some("--ip".into()), why: "`ctr run` has no option --ip".into() }),
            false => Ok(()),
        };
        plan(&sources, &Settings { program: "/bin/ctr", user: false, accepts: &accepts })
    }

    fn failures(files: &[(&str, &str)]) -> Vec<String> {
        made(files).failures.iter().map(|failure| format!("{failure:#}")).collect()
    }

    #[test]
    fn commands() {
        const RUN: &str = "/bin/ctr run --replace --rm --label=PODMAN_SYSTEMD_UNIT=%n --name=systemd-a --cgroups=split --sdnotify=conmon";
        const LOG: &str = "--log-driver=passthrough";
        for (files, key, expected) in [
            (&[("a.container", "[Container]\nImage=i\n")][..], "ExecStart", format!("{RUN} {LOG} i")),
            (
                &[("a.container", "[Container]\nRootfs=/r\nExec=sh -c \"a 'b' %i\"\nEntrypoint=\n")],
                "ExecStart",
                format!("{RUN} {LOG} --entrypoint= --rootfs /r sh -c \"a 'b' %i\""),
            ),
            (
                &[("a.container", "[Container]\nImage=i\nPod=p.pod\n"), ("p.pod", "[Pod]\nPodName=x\n")],
                "ExecStart",
                format!("{RUN} {LOG} --pod=x i"),
            ),
            (
                &[("a.container", "[Container]\nImage=b.build\n"), ("b.build", "[Build]\nImageTag=t\nFile=/x/F\n")],
                "ExecStart",
                format!("{RUN} {LOG} t"),
            ),
            (
                &[("b.build", "[Build]\nImageTag=t\nFile=F\nSetWorkingDirectory=unit\n")],
                "ExecStart",
                "/bin/ctr build --tag=t --file=F .".into(),
            ),
            (
                &[("p.pod", "[Pod]\nPublishPort=80:80\nExitPolicy=continue\n")],
                "ExecStartPre",
                "/bin/ctr pod create --infra-conmon-pidfile=%t/%N.pid --replace --exit-policy=continue --publish=80:80 \
                 --name=systemd-p"
                    .into(),
            ),
            (
                &[("n.network", "[Network]\nSubnet=10.0.0.0/24\nSubnet=10.1.0.0/24\nGateway=10.0.0.1\nInternal=yes\n")],
                "ExecStart",
                "/bin/ctr network create --ignore --internal=true --subnet=10.0.0.0/24 --gateway=10.0.0.1 \
                 --subnet=10.1.0.0/24 systemd-n"
                    .into(),
            ),
            (
                &[("i.image", "[Image]\nImage=r/i\nTLSVerify=no\nGlobalArgs=--root /x\nPodmanArgs=-q\n")],
                "ExecStart",
                "/bin/ctr --root /x image pull --tls-verify=false -q r/i".into(),
            ),
        ] {
            let plan = made(files);
            assert!(plan.failures.is_empty(), "{files:?}: {:?}", plan.failures);
            let text = &plan.services[0].text;
            assert!(text.contains(&format!("\n{key}={expected}\n")), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_pod_starts_its_containers() {
        let pod = ("p.pod", "[Pod]\n");
        let plan = made(&[
            pod,
            ("a.container", "[Container]\nImage=i\nPod=p.pod\n"),
            ("b.container", "[Container]\nImage=i\nPod=p.pod\nStartWithPod=no\n"),
        ]);
        let text = |name: &str| &plan.services.iter().find(|service| service.name == name).unwrap().text;
        assert!(text("p-pod.service").contains("\nWants=a.service\nBefore=a.service\n"));
        assert!(!text("p-pod.service").contains("b.service"));
        assert!(text("b.service").contains("\nBindsTo=p-pod.service\nAfter=p-pod.service\n"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, about) in [
            ("Image=i\nFoo=1", "a.container: [Container] has no key Foo"),
            ("Image=i\nIP=10.0.0.1", "a.container: IP=: `ctr run` has no option --ip"),
            ("Image=i\nAutoUpdate=registry", "AutoUpdate= is not built"),
            ("Image=i\nVolume=x.volume:/x", "Volume=x.volume:/x: there is no x.volume"),
            ("Image=x.image", "there is no x.image"),
            ("Image=i\nNetwork=a.container", "a.container: it needs itself: a.container -> a.container"),
            ("Image=i\nExec=it's", "Exec=: \"it's\": ' is not closed"),
            ("Image=i\nReadOnly=perhaps", "ReadOnly=: ReadOnly=perhaps: neither yes nor no"),
            ("Image=i\nServiceName=../x", "ServiceName=../x"),
            ("Image=i\nContainerName=a/b", "ContainerName=a/b"),
            ("Image=--privileged\nExec=i", "Image=--privileged: it begins with a hyphen"),
            ("Image=i\n[Unit]\nAfter=x.kube", "After=x.kube: x.kube: .kube files are not built"),
            ("Exec=x", "neither Image= nor Rootfs="),
            ("Image=i\n[Volume]", "no section [Volume]"),
            ("Image=i\n[Service]\nKillMode=process", "KillMode=process"),
            ("Image=i\n[Service]\nType=forking", "Type=forking"),
            (
                "Image=i\nNotify=yes\n[Service]\nType=oneshot",
                "Notify= and Type=oneshot can't be used together",
            ),
            ("Image=i\n[Unit]\nAfter=x.volume", "there is no x.volume"),
            ("Image=i\n[Quadlet]\nFoo=1", "[Quadlet] has no key Foo"),
            ("Image=i\n[Install]\nAlso=x.service", "[Install] has no key Also"),
            ("Image=i\n[Install]\nWantedBy=../x.target", "WantedBy=../x.target: not the name of a unit"),
            ("Image=i\n[Install]\nWantedBy=/etc/x.target", "WantedBy=/etc/x.target"),
            ("Image=i\n[Install]\nAlias=../../x.service", "Alias=../../x.service"),
            ("Image=i\n[Install]\nDefaultInstance=1", "DefaultInstance= is for templates"),
        ] {
            let text = format!("[Container]\n{text}\n");
            let plan = made(&[("a.container", &text), ("good.volume", "[Volume]\n")]);
            assert_eq!(plan.services.len(), 1, "{text}");
            let failure = format!("{:#}", plan.failures[0]);
            assert!(failure.contains(about) && plan.failures.len() == 1, "{about}: {:?}", plan.failures);
        }
    }

    #[test]
    fn what_needs_it_is_left_out_too() {
        let container = |other: &str| format!("[Container]\nImage=i\nNetwork={other}.container\n");
        let all = failures(&[
            ("a.container", &container("b")),
            ("b.container", &container("a")),
            ("c.container", &container("b")),
        ]);
        assert_eq!(
            all,
            [
                "a.container: it needs itself: a.container -> b.container -> a.container",
                "b.container: it needs itself: b.container -> a.container -> b.container",
                "c.container: it needs b.container, which can't be",
            ]
        );
        let all = failures(&[
            ("a.container", "[Container]\nImage=i\nVolume=v.volume:/v\n"),
            ("v.volume", "[Volume]\nDriver=image\n"),
        ]);
        assert_eq!(all.len(), 2);
        let all =
            failures(&[("a.volume", "[Volume]\nServiceName=x\n"), ("b.volume", "[Volume]\nServiceName=x\n")]);
        assert_eq!(all, ["b.volume: another file makes x.service, too"]);
    }

    #[test]
    fn links_of_install() {
        let of = |name: &str, text: &str| {
            let plan = made(&[(name, &format!("[Container]\nImage=i\n[Install]\n{text}\n"))]);
            assert!(plan.failures.is_empty(), "{:?}", plan.failures);
            let links = plan.services[0].links.iter().map(|(link, target)| format!("{link} -> {target}"));
            links.collect::<Vec<_>>()
        };
        assert_eq!(
            of(
                "a.container",
                "WantedBy=x.target y.target\nRequiredBy=z.service\nAlias=b.service\nUpheldBy=u.target"
            ),
            [
                "b.service -> a.service",
                "x.target.wants/a.service -> ../a.service",
                "y.target.wants/a.service -> ../a.service",
                "z.service.requires/a.service -> ../a.service",
                "u.target.upholds/a.service -> ../a.service",
            ]
        );
        assert_eq!(of("a@.container", "WantedBy=x.target"), [""; 0]);
        assert_eq!(
            of("a@.container", "WantedBy=x.target\nDefaultInstance=1"),
            ["x.target.wants/a@1.service -> ../a@.service"]
        );
        assert_eq!(
            of("a@2.container", "WantedBy=x.target"),
            ["x.target.wants/a@2.service -> ../a@2.service"]
        );
    }

    #[test]
    fn systemd_waits_for_a_slow_stop() {
        for (text, expected) in [
            ("", None),
            ("StopTimeout=10", None),
            ("StopTimeout=300", Some("330")),
            ("StopTimeout=300\n[Service]\nTimeoutStopSec=5", Some("5")),
        ] {
            let plan = made(&[("a.container", &format!("[Container]\nImage=i\n{text}\n"))]);
            let unit = UnitFile::parse(&plan.services[0].text).unwrap();
            assert_eq!(unit.last("Service", "TimeoutStopSec"), expected, "{text}");
        }
    }

    #[test]
    fn templates_name_templates() {
        let volume = ("d@.volume", "[Volume]\n");
        let plan = made(&[("a@.container", "[Container]\nImage=i\nVolume=d@.volume:/d\n"), volume]);
        let text = &plan.services[0].text;
        assert!(
            text.contains("--volume=systemd-d-%i:/d") && text.contains("Requires=d-volume@.service"),
            "{text}"
        );
        let refused = failures(&[("a.container", "[Container]\nImage=i\nVolume=d@.volume:/d\n"), volume]);
        assert!(
            refused[0].contains("d@.volume is a template, and a.container has no instance"),
            "{refused:?}"
        );
    }
}
