//! The last program before the payload's: about a hundred bytes of machine code in a sealed memory file.
//!
//! Were the payload executed from `ctr` itself, an image whose command is `#!/proc/self/exe` would make the kernel open
//! `ctr`'s own binary as the interpreter, and a container that can open it can overwrite it (CVE-2019-5736). From here
//! `/proc/self/exe` is this sealed file, which nobody can write and which does nothing but execute its arguments.
//!
//! Arguments: `ctr-exec PATH ARGV…`, and the payload's environment. Behind the name stands, as one byte, how many descriptors
//! from 3 on are the payload's. The one after them is closed on success; on failure it gets a
//! [`crate::sys::exec::Failure`].

use super::sealed;
use std::{arch::global_asm, io, os::fd::OwnedFd};

/// The trampoline, ready to be executed.
pub fn create() -> io::Result<OwnedFd> {
    sealed::program(c"ctr-exec", code())
}

fn code() -> &'static [u8] {
    unsafe extern "C" {
        static ctr_trampoline_start: u8;
        static ctr_trampoline_end: u8;
    }
    // SAFETY: both symbols are defined by the assembly below, in this order and in one section of constants.
    unsafe {
        let start = &raw const ctr_trampoline_start;
        let end = &raw const ctr_trampoline_end;
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

// The stack at entry: argc, argv[0..argc], NULL, envp. Called by anyone but us (argv[0] is not "ctr-exec") it just exits,
// so that a script which names it as its interpreter ends instead of running in circles.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.ctr_trampoline, \"a\"",
    ".globl ctr_trampoline_start, ctr_trampoline_end",
    "ctr_trampoline_start:",
    "  mov rbx, [rsp]",
    "  cmp rbx, 3",
    "  jb 9f",
    "  mov rax, [rsp + 8]",
    "  movabs rcx, 0x636578652d727463", // "ctr-exec"
    "  cmp [rax], rcx",
    "  jne 9f",
    "  movzx r12d, byte ptr [rax + 8]", // the report's descriptor
    "  add r12d, 3",
    "  mov eax, 72", // fcntl(report, F_SETFD, FD_CLOEXEC)
    "  mov edi, r12d",
    "  mov esi, 2",
    "  mov edx, 1",
    "  syscall",
    "  test eax, eax",
    "  js 8f",
    "  mov rdi, [rsp + 16]", // execve(PATH, ARGV, environment)
    "  lea rsi, [rsp + 24]",
    "  lea rdx, [rsp + rbx*8 + 16]",
    "  mov eax, 59",
    "  syscall",
    "8:", // write(report, {{EXEC, 0, errno}}, 12)
    "  neg eax",
    "  sub rsp, 16",
    "  mov dword ptr [rsp], 255",
    "  mov dword ptr [rsp + 4], 0",
    "  mov [rsp + 8], eax",
    "  mov eax, 1",
    "  mov edi, r12d",
    "  mov rsi, rsp",
    "  mov edx, 12",
    "  syscall",
    "9:", // exit_group(127)
    "  mov eax, 231",
    "  mov edi, 127",
    "  syscall",
    "ctr_trampoline_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.ctr_trampoline, \"a\"",
    ".balign 4",
    ".globl ctr_trampoline_start, ctr_trampoline_end",
    "ctr_trampoline_start:",
    "  ldr x19, [sp]",
    "  cmp x19, #3",
    "  b.lo 9f",
    "  ldr x0, [sp, #8]",
    "  ldr x1, [x0]",
    "  movz x2, #0x7463", // "ctr-exec"
    "  movk x2, #0x2d72, lsl #16",
    "  movk x2, #0x7865, lsl #32",
    "  movk x2, #0x6365, lsl #48",
    "  cmp x1, x2",
    "  b.ne 9f",
    "  ldrb w20, [x0, #8]", // the report's descriptor
    "  add w20, w20, #3",
    "  mov x8, #25", // fcntl(report, F_SETFD, FD_CLOEXEC)
    "  mov w0, w20",
    "  mov x1, #2",
    "  mov x2, #1",
    "  svc #0",
    "  cmp x0, #0",
    "  b.lt 8f",
    "  ldr x0, [sp, #16]", // execve(PATH, ARGV, environment)
    "  add x1, sp, #24",
    "  add x2, sp, x19, lsl #3",
    "  add x2, x2, #16",
    "  mov x8, #221",
    "  svc #0",
    "8:", // write(report, {{EXEC, 0, errno}}, 12)
    "  neg w0, w0",
    "  sub sp, sp, #16",
    "  mov w1, #255",
    "  stp w1, wzr, [sp]",
    "  str w0, [sp, #8]",
    "  mov x8, #64",
    "  mov w0, w20",
    "  mov x1, sp",
    "  mov x2, #12",
    "  svc #0",
    "9:", // exit_group(127)
    "  mov x8, #94",
    "  mov x0, #127",
    "  svc #0",
    "ctr_trampoline_end:",
    ".popsection",
);
