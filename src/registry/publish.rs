//! Layers that have come appear in the store together: one wait for the disk for all that are whole by then.

use super::{
    failure::{Failure, ours},
    worker::Worker,
};
use crate::storage::LayerDraft;
use std::{
    cell::{Cell, RefCell},
    time::Duration,
};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

/// So long those that have come wait for those that may be about to: other pulls may wait for them.
const LINGER: Duration = Duration::from_secs(1);

/// The layers of one image.
pub struct Publisher {
    /// So many have neither come nor are in the store.
    missing: Cell<usize>,
    last_came: Notify,
    waiting: RefCell<Vec<LayerDraft>>,
    turn: Mutex<()>,
}

impl Publisher {
    /// For so many layers.
    pub fn new(missing: usize) -> Publisher {
        let (last_came, waiting, turn) = (Notify::new(), RefCell::default(), Mutex::default());
        Publisher { missing: Cell::new(missing), last_came, waiting, turn }
    }

    /// One of them is whole, or another process has published it. When this returns, it is in the store.
    pub async fn publish(&self, draft: Option<LayerDraft>) -> Result<(), Failure> {
        self.waiting.borrow_mut().extend(draft);
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 {
            self.last_came.notify_one();
        }
        let _turn = self.turn.lock().await;
        if self.waiting.borrow().is_empty() {
            // With somebody else's turn, or nothing was to be done.
            return Ok(());
        }
        if self.missing.get() > 0 {
            let _ = timeout(LINGER, self.last_came.notified()).await;
        }
        let drafts = self.waiting.take();
        let publishing = Worker::start("publish", |_| LayerDraft::publish_all(drafts)).map_err(ours)?;
        publishing.join().await.map_err(ours)
    }
}
