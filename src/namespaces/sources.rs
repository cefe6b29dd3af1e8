//! What operations take from the host, opened before ids change: a user namespace may lack the user who runs us, and then nobody
//! in it can walk through that user's private directories.

use super::{
    mount::{Operation, clone_tree},
    volume::TOP,
};
use rustix::fs::{CWD, Mode, openat};

/// Open what is to be bound while we are the one who may: what can't be opened is left to [`super::mount::Mounter::execute`].
pub fn hold(operations: &mut [Operation]) {
    for operation in operations {
        match operation {
            Operation::Bind { source, recursive, held, .. } => {
                *held = clone_tree(CWD, source, *recursive).ok()
            }
            Operation::Volume(volume) => {
                if let Some(fresh) = &mut volume.fresh {
                    fresh.held = fresh.open().ok();
                }
            }
            Operation::Overlay(overlay) => overlay.held = overlay.open().unwrap_or_default(),
            Operation::Secret(secret) => {
                secret.held = openat(CWD, &secret.stage, TOP, Mode::empty()).ok();
            }
            Operation::FirstOf(all) => hold(all),
            _ => {}
        }
    }
}
