//! What stays beside a live container: it starts it, carries its output, passes signals on and takes its exit status. No
//! threads; everything it waits for is a descriptor in one poll(2).

mod guard;
mod launch;
mod pump;
mod terminal;
mod watch;

pub use launch::{Failed, Preparation, Started, start};
pub use pump::{Ends, pipes};
pub use watch::{Exit, Watch, watch};
