//! A pod's process: some fifty bytes of machine code that reap what others leave behind, and end when asked to. It can be
//! looked at by everybody in the pod, so nothing of `ctr` is in it.

use super::{fork, sealed};
use rustix::io::Errno;
use std::{
    arch::global_asm,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
};

/// Become it. Every descriptor above 2 is closed by that; `report` is left open only when it fails, and then this returns.
pub fn execute(report: BorrowedFd<'_>) -> Errno {
    let program = match sealed::program(c"ctr-pod", code()) {
        Ok(program) => program,
        Err(error) => return Errno::from_io_error(&error).unwrap_or(Errno::IO),
    };
    fork::close_descriptors_except(&[report, program.as_fd()], 0);
    let (name, end) = (c"ctr-pod".as_ptr(), ptr::null());
    // SAFETY: both vectors end with NULL and point to constants; the two descriptors that are left close on execution.
    unsafe {
        let environment = [end, end];
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            [name, end].as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn code() -> &'static [u8] {
    unsafe extern "C" {
        static ctr_holder_start: u8;
        static ctr_holder_end: u8;
    }
    // SAFETY: both symbols are defined by the assembly below, in this order and in one section of constants.
    unsafe {
        let start = &raw const ctr_holder_start;
        let end = &raw const ctr_holder_end;
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

// Block all signals and take them one by one: SIGCHLD reaps, SIGTERM, SIGINT and SIGQUIT end it.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.ctr_holder, \"a\"",
    ".globl ctr_holder_start, ctr_holder_end",
    "ctr_holder_start:",
    "  sub rsp, 16",
    "  mov qword ptr [rsp], -1",
    "  mov eax, 14", // rt_sigprocmask(SIG_BLOCK, &all, NULL, 8)
    "  xor edi, edi",
    "  mov rsi, rsp",
    "  xor edx, edx",
    "  mov r10d, 8",
    "  syscall",
    "2:",
    "  mov eax, 128", // rt_sigtimedwait(&all, NULL, NULL, 8)
    "  mov rdi, rsp",
    "  xor esi, esi",
    "  xor edx, edx",
    "  mov r10d, 8",
    "  syscall",
    "  cmp eax, 17",
    "  je 3f",
    "  cmp eax, 15",
    "  je 9f",
    "  cmp eax, 2",
    "  je 9f",
    "  cmp eax, 3",
    "  je 9f",
    "  jmp 2b",
    "3:",
    "  mov eax, 61", // wait4(-1, NULL, WNOHANG, NULL)
    "  mov rdi, -1",
    "  xor esi, esi",
    "  mov edx, 1",
    "  xor r10d, r10d",
    "  syscall",
    "  test eax, eax",
    "  jg 3b",
    "  jmp 2b",
    "9:",
    "  mov eax, 231", // exit_group(0)
    "  xor edi, edi",
    "  syscall",
    "ctr_holder_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.ctr_holder, \"a\"",
    ".balign 4",
    ".globl ctr_holder_start, ctr_holder_end",
    "ctr_holder_start:",
    "  sub sp, sp, #16",
    "  mov x0, #-1",
    "  str x0, [sp]",
    "  mov x8, #135", // rt_sigprocmask(SIG_BLOCK, &all, NULL, 8)
    "  mov x0, #0",
    "  mov x1, sp",
    "  mov x2, #0",
    "  mov x3, #8",
    "  svc #0",
    "2:",
    "  mov x8, #137", // rt_sigtimedwait(&all, NULL, NULL, 8)
    "  mov x0, sp",
    "  mov x1, #0",
    "  mov x2, #0",
    "  mov x3, #8",
    "  svc #0",
    "  cmp x0, #17",
    "  b.eq 3f",
    "  cmp x0, #15",
    "  b.eq 9f",
    "  cmp x0, #2",
    "  b.eq 9f",
    "  cmp x0, #3",
    "  b.eq 9f",
    "  b 2b",
    "3:",
    "  mov x8, #260", // wait4(-1, NULL, WNOHANG, NULL)
    "  mov x0, #-1",
    "  mov x1, #0",
    "  mov x2, #1",
    "  mov x3, #0",
    "  svc #0",
    "  cmp x0, #0",
    "  b.gt 3b",
    "  b 2b",
    "9:",
    "  mov x8, #94", // exit_group(0)
    "  mov x0, #0",
    "  svc #0",
    "ctr_holder_end:",
    ".popsection",
);
