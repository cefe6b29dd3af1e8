//! What ps(1) shows of a process that stays a copy of `ctr` inside a container: nothing of the command line that the
//! user typed outside.

use std::{fs, io};

/// Where the kernel reads this process's command line from.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine {
    start: usize,
    end: usize,
}

impl CommandLine {
    /// Look it up (proc_pid_stat(5): arg_start, arg_end); before the fork, while /proc is the host's.
    pub fn of_this_process() -> io::Result<CommandLine> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        // The list starts with field 3; these are 48 and 49.
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse().ok());
        match (field(48), field(49)) {
            (Some(start), Some(end)) if start != 0 && start < end => Ok(CommandLine { start, end }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Show `name` instead. Nothing may read the arguments after that.
    pub fn replace(self, name: &str) {
        let length = self.end - self.start;
        let name = &name.as_bytes()[..name.len().min(length - 1)];
        // SAFETY: the kernel said that [start, end) holds this process's argument strings, which are writable memory on
        // its stack; the process is single-threaded and its caller promises that nothing reads them any more.
        unsafe {
            let arguments = std::slice::from_raw_parts_mut(self.start as *mut u8, length);
            arguments.fill(0);
            arguments[..name.len()].copy_from_slice(name);
        }
    }
}
