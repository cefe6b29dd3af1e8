//! A monitor's life: start the container, stay beside it, record its end, start it again if that was asked for, clean up.

use super::{
    begin::Manner,
    control::{Channel, Tell, Told},
    ended::Ended,
    event::{Event, Subject},
    health::Supervision,
    hold::{hold, introduce},
    networks::Networks,
    notify::Herald,
    orders, pidfiles,
    preparation::Preparation,
    pump::leave_streams,
    restarts::{After, again},
    watch::Watch,
};
use crate::{
    container::{
        cage,
        create::Container,
        events, health,
        leftovers::Leftovers,
        pod,
        record::{LogDriver, Record},
        remove::{self, Remains},
        service::{Notify, Service},
        state::{Exit, Process, Status},
    },
    namespaces::{Mapping, Promised},
    network::plug::Inside,
    storage::Store,
    sys::fork::Child,
};
use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Who waits for the first start.
#[derive(Debug)]
pub struct Beginning {
    /// The line to it.
    pub line: Channel,
    /// How it goes on.
    pub manner: Manner,
    /// What a service manager gave to it.
    pub service: Service,
    /// The user namespace for the first start.
    pub namespace: Option<Promised>,
}

/// Live it; the process's exit status: that of the container, for a service manager that was told of us.
pub fn live(store: &Store, container: Container, mapping: &Mapping, beginning: Beginning) -> i32 {
    let Container { dir, record, .. } = &container;
    let mut watch = match pidfiles::of_monitor(record).and_then(|()| Watch::new(dir, record)) {
        Ok(watch) => watch,
        Err(failure) => {
            let _ = beginning.line.say(&Tell::Failed(Told::of(&failure)), &[]);
            return 1;
        }
    };
    let Beginning { line, manner, service, namespace } = beginning;
    if !manner.foreground && record.log.driver != LogDriver::Passthrough {
        // Nobody is to wait for the end of our caller's streams because of the container.
        leave_streams();
    }
    let client = watch.admit(line, manner.foreground);
    let herald = Herald::new(record, &service, manner.foreground.then_some(client));
    let mut life = Life {
        store,
        container,
        mapping,
        watch,
        first: Some((client, manner)),
        namespace,
        count: 0,
        renew: false,
        reload: false,
        service,
        herald,
        remains: None,
        status: 0,
    };
    loop {
        let started = Timestamp::now();
        let after = match life.once(started) {
            Ok(Some(ended)) => life.settle(ended, started),
            Ok(None) => life.never_ran(),
            Err(failure) => life.failed(&failure, started),
        };
        match after {
            After::Again(pause) if life.rest(pause) => {}
            _ => return life.close(),
        }
    }
}

struct Life<'a> {
    store: &'a Store,
    container: Container,
    mapping: &'a Mapping,
    watch: Watch,
    /// The client that waits for the first start.
    first: Option<(u64, Manner)>,
    /// The user namespace that is there for the first start.
    namespace: Option<Promised>,
    /// Starts since the first.
    count: u32,
    /// It was stopped to be started again, whatever its policy.
    renew: bool,
    /// The record was changed.
    reload: bool,
    /// What a service manager gave to the one who started us.
    service: Service,
    /// The way to it.
    herald: Option<Herald>,
    /// What to delete in the end.
    remains: Option<Remains>,
    /// Ours, which a service manager sees that was told of us: that of the container.
    status: u8,
}

impl Life<'_> {
    /// One start and its end; `None` when it was stopped before its command ran.
    fn once(&mut self, started: Timestamp) -> Result<Option<Ended>> {
        let Life {
            store, container, mapping, watch, first, namespace, count, renew, service, herald, ..
        } = self;
        let Container { dir, record, .. } = &*container;
        // What a monitor left that was killed.
        cage::forget(dir);
        let pidfile = pidfiles::of_payload(record)?;
        let notify = watch.notify_socket().map(Path::to_owned);
        let (mut goes, mut held) = (true, false);
        let gate = |child: &Child, networks: &mut Networks| {
            held = first.as_ref().is_some_and(|(_, manner)| manner.hold);
            if held {
                events::record(store, "init", record);
            }
            let inside = Inside::of(child, &record.mapping(mapping));
            goes = hold(store, dir, watch, first, child, networks, inside)?;
            ensure!(goes, "stopped before it was started");
            // Before the payload runs: then nothing that kills us can make it look as if it had not.
            Exit::foresee(dir, started, *count)
        };
        let mut preparation = Preparation::new(store, container, mapping, Box::new(gate))?;
        preparation.serve(service, notify.as_deref());
        if let Some(namespace) = namespace.take() {
            preparation.enter(namespace)?;
        }
        let begun = preparation.start();
        let mut helpers = preparation.into_helpers();
        let (mut begun, ends, driver) = match begun {
            Err(_) if !goes => return Ok(None),
            begun => begun?,
        };
        self.reload |= held;
        if driver != record.storage_driver {
            Record::change(dir, |record| Ok(Record { storage_driver: driver.to_owned(), ..record }))?;
        }
        let pid = begun.child.pid;
        let cgroup = helpers.cage.group().map(|group| group.path().to_owned());
        let _leftovers = Leftovers::of(&begun.child, record, cgroup.is_some());
        Process { restart_count: *count, cgroup, ..Process::of(pid.as_raw_pid())? }.write(dir)?;
        if let Some(mut pidfile) = pidfile {
            write!(pidfile, "{}", pid.as_raw_pid()).context("write the process id to the pidfile")?;
        }
        match (begun.terminal.take(), ends) {
            (Some(master), _) => watch.adopt_terminal(master)?,
            (None, Some(ends)) => watch.adopt_pipes(ends),
            (None, None) => {}
        }
        if record.timeout > 0 {
            watch.limit(Duration::from_secs(record.timeout));
        }
        events::record(store, "start", record);
        // Before anybody hears that it runs: then its health is there to be asked for.
        let mut health = Supervision::new(dir, record)?;
        let subject = Subject::new(&begun.child, helpers.networks.memberships(), helpers.cage.group());
        match first.take() {
            Some((client, manner)) => introduce(watch, client, manner, record.tty, subject)?,
            None => watch.introduce(None, subject),
        }
        herald.iter().for_each(|herald| herald.ready(watch, Notify::Conmon));
        let inside = Inside::of(&begun.child, &record.mapping(mapping));
        let mut well = true;
        loop {
            let subject = Subject::new(&begun.child, helpers.networks.memberships(), helpers.cage.group());
            let due = [health.due(), herald.as_ref().and_then(Herald::due)].into_iter().flatten().min();
            let event = watch.until(Some(Subject { check: health.event(), ..subject }), due)?;
            match event {
                Event::Ended(ended) => return Ok(Some(ended)),
                Event::Due => {
                    herald.iter_mut().for_each(|herald| herald.feed(watch, well));
                    health.begin_if_due();
                }
                Event::Checked => {
                    if let Some(verdict) = health.finish() {
                        if let Some(status) = verdict.changed {
                            events::health(store, record, &status.to_string());
                            well = status != health::Status::Unhealthy;
                            if status == health::Status::Healthy {
                                herald.iter().for_each(|herald| herald.ready(watch, Notify::Healthy));
                            }
                        }
                        *renew |= super::health::act(watch, subject, &verdict);
                    }
                }
                Event::Reload => {
                    self.reload = true;
                    if let Ok(Some(changed)) = Record::read(dir) {
                        health.change(changed.health);
                    }
                }
                Event::Networks(client) => {
                    self.reload = true;
                    watch.tell(client, &helpers.networks.obey(store, dir, inside), &[]);
                }
                Event::Line => helpers.networks.attend(dir, inside),
                Event::Notice(text) => herald.iter().for_each(|herald| herald.tell(watch, &text)),
                Event::Stop | Event::Go => {}
            }
        }
    }

    /// Record the end, and decide what comes after it.
    fn settle(&mut self, ended: Ended, started: Timestamp) -> After {
        if std::mem::take(&mut self.reload) {
            self.read_again();
        }
        let Container { dir, record, .. } = &self.container;
        let ran = Timestamp::now().duration_since(started).unsigned_abs();
        let after = match self.watch.was_stopped() {
            true => After::End,
            false if std::mem::take(&mut self.renew) => After::Again(Duration::ZERO),
            false => again(record.restart, ended.code, self.count, ran),
        };
        let restarts = matches!(after, After::Again(_));
        let exit = Exit {
            restarts,
            restart_count: self.count,
            stopped: self.watch.was_stopped(),
            oom: ended.oom,
            ..Exit::of(ended.code, ended.signal, started)
        };
        // What can't be recorded was recorded as the worst; what is removed now needs no record.
        if restarts || !record.auto_remove {
            let _ = exit.write(dir);
        }
        self.status = ended.code;
        if ended.oom {
            events::record(self.store, "oom", record);
        }
        events::died(self.store, record, ended.code);
        if !restarts {
            self.retire();
        }
        let lost = ended.lost.map(rustix::io::Errno::raw_os_error);
        self.watch.announce(&Tell::Exited { code: ended.code, lost, restarts });
        after
    }

    /// It was stopped before `start` let it go: it is as if `init` had not been, but `--rm` holds.
    fn never_ran(&mut self) -> After {
        self.container.dir.remove_pid_file();
        self.retire();
        self.watch
            .announce(&Tell::Failed(Told::of(&anyhow!("the container was stopped before it was started"))));
        After::End
    }

    /// What may be changed of a container that lives.
    fn read_again(&mut self) {
        if let Ok(Some(record)) = Record::read(&self.container.dir) {
            self.container.record = record;
        }
    }

    /// The start failed. Whoever waits for it decides what becomes of the container.
    fn failed(&mut self, failure: &anyhow::Error, started: Timestamp) -> After {
        let first = self.first.take();
        let after = match first.is_some() || self.watch.was_stopped() {
            true => After::End,
            false => again(self.container.record.restart, 125, self.count, Duration::ZERO),
        };
        let restarts = matches!(after, After::Again(_));
        let exit = Exit { restarts, restart_count: self.count, ..Exit::failed(failure, started) };
        self.status = crate::error::status(failure);
        let _ = exit.write(&self.container.dir);
        if let Some((client, _)) = first {
            self.watch.tell(client, &Tell::Failed(Told::of(failure)), &[]);
            return After::End;
        }
        self.watch.announce(&Tell::Failed(Told::of(failure)));
        if !restarts {
            self.retire();
        }
        after
    }

    /// Wait before the next start; false when somebody wants none.
    fn rest(&mut self, pause: Duration) -> bool {
        let due = Instant::now() + pause;
        loop {
            match self.watch.until(None, Some(due)) {
                Ok(Event::Due) => break,
                Ok(Event::Reload) => {
                    self.read_again();
                    let code =
                        Status::of(&self.container.dir).ok().and_then(|s| s.exit().map(|exit| exit.code));
                    let policy = self.container.record.restart;
                    if let After::End = again(policy, code.unwrap_or(125), self.count, Duration::ZERO) {
                        self.stay_ended();
                        return false;
                    }
                }
                Ok(Event::Stop) | Err(_) => {
                    self.stay_ended();
                    return false;
                }
                Ok(_) => {}
            }
        }
        self.count += 1;
        true
    }

    /// What was to be started again is not.
    fn stay_ended(&mut self) {
        let dir = self.container.dir.clone();
        if let Ok(Status::Restarting(exit)) = Status::of(&dir) {
            let _ = Exit { restarts: false, stopped: self.watch.was_stopped(), ..exit.clone() }.write(&dir);
            self.retire();
            self.watch.announce(&Tell::Exited { code: exit.code, lost: None, restarts: false });
        }
    }

    /// Out of everybody's sight; nobody has to wait for the rest to hear of the end.
    fn retire(&mut self) {
        let Container { dir, record, lock, .. } = &self.container;
        if record.auto_remove {
            self.remains = remove::retire(self.store, dir, lock, Some(record), false).ok();
        }
        if record.remove_image {
            // Who wants the image still has it: nobody is there to hear of a failure.
            let _ = remove::image_of(self.store, record, self.mapping);
        }
    }

    /// Let go of the container, of its readers, and of its pod where that is to end with its members.
    fn close(self) -> i32 {
        let Life { store, container, watch, status, remains, .. } = self;
        container.dir.remove_socket_file();
        let pod = container.record.member_of.clone();
        drop(container);
        watch.flush();
        let _ = remains.map(Remains::delete);
        if let Some(dir) = pod.and_then(|pod| pod::left_alone(store, &pod)) {
            let _ = orders::stop(&dir, None, None);
        }
        status.into()
    }
}
