//! `ctr pause` and `ctr unpause`.

use super::{
    Globals,
    targets::{self, Selection},
};
use crate::{
    container::{
        events, pause,
        state::{Container, Status},
    },
    storage::ContainerDir,
};
use anyhow::{Result, anyhow};

/// Stop all their processes.
pub fn pause(selection: &Selection, globals: &Globals) -> Result<u8> {
    each(selection, globals, "pause", &|status| matches!(status, Status::Running(_)), &pause::pause)
}

/// Let them go on.
pub fn unpause(selection: &Selection, globals: &Globals) -> Result<u8> {
    each(selection, globals, "unpause", &|status| matches!(status, Status::Paused(_)), &pause::unpause)
}

fn each(
    selection: &Selection,
    globals: &Globals,
    event: &str,
    fits: &dyn Fn(&Status) -> bool,
    act: &dyn Fn(&Container) -> Result<()>,
) -> Result<u8> {
    let store = globals.store()?;
    targets::for_each(&store, selection, false, fits, &mut |dir| {
        let container = read(dir)?;
        act(&container)?;
        events::record(&store, event, &container.record);
        Ok(())
    })
}

fn read(dir: &ContainerDir) -> Result<Container> {
    let container = Container::read(dir.clone())?;
    container.ok_or_else(|| anyhow!("container {} was never finished", dir.id().short()))
}
