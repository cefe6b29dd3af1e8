//! What stays beside a live container: a process of its own that starts it, keeps and passes on its output, and takes its
//! exit status; and how clients talk to it. No threads; everything it waits for is a descriptor in one poll(2).

mod begin;
mod client;
mod clients;
mod control;
mod ended;
mod event;
mod exec;
mod health;
mod hold;
mod input;
mod journal;
pub mod journal_reader;
pub mod keys;
mod launch;
mod life;
pub mod log;
pub mod log_follow;
pub mod log_line;
pub mod log_reader;
mod networks;
mod notify;
mod orders;
mod pidfiles;
mod preparation;
mod pump;
mod restarts;
mod streams;
mod terminal;
mod watch;

pub use begin::{Begun, Manner, begin};
pub use client::{Attendance, Outcome, Readiness, ask_to_attach, attend};
pub use control::{Ask, Channel, Tell, reach};
pub use exec::begin as exec;
pub use health::check_now;
pub use journal::SOCKET as JOURNAL;
pub use keys::{DEFAULT as DETACH_KEYS, Keys};
pub use orders::{
    Stopping, begin_stop, follow_networks, go, reload, settled, signal, stop, wait, wait_for_the_end_of,
    wait_until,
};
