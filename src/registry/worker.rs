//! A thread for what blocks, and a future of what it says. None of tokio's: those panic where no thread can be had.

use anyhow::{Context, Result};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tokio::sync::oneshot;

/// Dropped, it is told so and waited for.
pub struct Worker<T> {
    said: oneshot::Receiver<Result<T>>,
    thread: Option<thread::JoinHandle<()>>,
    abandoned: Arc<AtomicBool>,
}

impl<T: Send + 'static> Worker<T> {
    /// Begin `work`; what it is given says whether anybody still waits for it.
    pub fn start(
        name: &str,
        work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<Worker<T>> {
        let (say, said) = oneshot::channel();
        let abandoned = Arc::<AtomicBool>::default();
        let seen = abandoned.clone();
        let work = move || {
            let _ = say.send(work(&seen));
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work).context("start a thread")?;
        Ok(Worker { said, thread: Some(thread), abandoned })
    }

    /// Its last word.
    pub async fn join(mut self) -> Result<T> {
        (&mut self.said).await.context("a thread panicked")?
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
