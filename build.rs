//! Compiles the default seccomp profile for the target, with the sources that compile profiles at run time.

#![allow(clippy::print_stdout, reason = "cargo reads a build script's stdout")]

#[path = "src/security/seccomp/abi.rs"]
mod abi;
#[path = "src/security/seccomp/bpf.rs"]
mod bpf;
#[allow(dead_code, reason = "the library uses the rest")]
#[path = "src/security/capset.rs"]
mod capset;
#[path = "src/security/seccomp/compile.rs"]
mod compile;
#[path = "src/security/seccomp/profile.rs"]
mod profile;

use anyhow::{Context, Result};
use capset::CapSet;
use serde_json::Value;
use std::fmt::Write;
use std::{env, fs, path::Path, process::Command};

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/security/capset.rs");
    println!("cargo:rerun-if-changed=src/security/seccomp");
    pack_relocations()?;
    drop_unwind_tables()?;
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let abi = abi::Abi::of_target(&target).context("ctr runs on x86_64 and aarch64")?;
    let json = fs::read("src/security/seccomp/default.json")?;
    let mut source = format!("pub const GATES: u64 = {:#x};\n", gates(&json)?.bits());
    program(&mut source, "DEFAULT", &json, abi, CapSet::DEFAULT)?;
    program(&mut source, "NETWORK", &fs::read("src/security/seccomp/network.json")?, abi, CapSet::EMPTY)?;
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join("filters.rs"), source)?)
}

/// Neither of our profiles asks for a kernel version: each is one program wherever the binary runs.
fn program(source: &mut String, name: &str, json: &[u8], abi: abi::Abi, caps: CapSet) -> Result<()> {
    let filter =
        compile::compile(&profile::parse(json)?, &profile::Environment { abi, caps, kernel: (0, 0) })?;
    writeln!(source, "pub static {name}: [Instruction; {}] = [", filter.len())?;
    for bpf::Instruction { code, jt, jf, k } in filter {
        writeln!(source, "    Instruction {{ code: {code:#04x}, jt: {jt}, jf: {jf}, k: {k:#x} }},")?;
    }
    source.push_str("];\n");
    Ok(())
}

/// Some 16,000 addresses of the static binary are filled in at each of its starts: packed they are 5 KB to read, not 400.
/// The C library, which is linked in, knows how from 2.36 on.
fn pack_relocations() -> Result<()> {
    if env::var("CARGO_CFG_TARGET_ENV")? != "gnu" || env::var("HOST")? != env::var("TARGET")? {
        return Ok(());
    }
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().map(|output| output.stdout);
    let version = said.ok().and_then(|said| String::from_utf8(said).ok());
    let number = |part: Option<&str>| part?.trim().parse::<u32>().ok();
    let known = version
        .as_deref()
        .and_then(|said| said.strip_prefix("glibc ")?.split_once('.'))
        .is_some_and(|(major, minor)| (number(Some(major)), number(Some(minor))) >= (Some(2), Some(36)));
    if known {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// A release aborts where it panics: what says how to unwind is read by nobody, and is a twelfth of the file. rustc's own linker
/// for x86_64, lld, leaves it out when told so by a script; another linker reads another language.
fn drop_unwind_tables() -> Result<()> {
    let release = env::var("PROFILE")? == "release";
    let usual = env::var("TARGET")? == "x86_64-unknown-linux-gnu"
        && env::var("RUSTC_LINKER").is_err()
        && !env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().contains("link");
    if release && usual {
        let script = Path::new(&env::var("OUT_DIR")?).join("without_unwind_tables.ld");
        fs::write(
            &script,
            "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table .gcc_except_table.*) } } INSERT AFTER .text;\n",
        )?;
        println!("cargo:rustc-link-arg-bins={}", script.display());
    }
    Ok(())
}

/// The capabilities that some rule asks for.
fn gates(json: &[u8]) -> Result<CapSet> {
    let document: Value = serde_json::from_slice(json)?;
    let rules = document["syscalls"].as_array().into_iter().flatten();
    let filters = rules.flat_map(|rule| [&rule["includes"]["caps"], &rule["excludes"]["caps"]]);
    filters.filter_map(Value::as_array).flatten().try_fold(CapSet::EMPTY, |gates, name| {
        let name = name.as_str().and_then(CapSet::named).with_context(|| format!("capability {name}"))?;
        Ok(gates.union(name))
    })
}
