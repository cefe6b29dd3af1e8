//! From a profile to the program the kernel runs at each system call. build.rs compiles this file as well.
//!
//! The numbers of a convention fall into ranges with one decision each; a balanced tree of comparisons finds the range.
//! Linux runs the program once for each number when it is installed and keeps a bitmap of those allowed whatever their
//! arguments (kernel/seccomp.c, seccomp_cache_prepare), so that at run time only argument checks cost anything.

use super::abi::{Abi, X32_BIT};
use super::bpf::{AND, AT_LEAST, Assembler, EQUAL, GREATER, Instruction, LOAD, Label};
use super::profile::{Condition, Environment, Operator, Profile};
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, HashMap};

/// BPF_MAXINSNS of linux/bpf_common.h.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The filter that gives the same verdicts as `profile` there. Calls of other conventions kill the process; so do x32's,
/// which no distribution enables.
///
/// # Errors
/// The program would be longer than the kernel takes.
pub fn compile(profile: &Profile, to: &Environment) -> Result<Vec<Instruction>> {
    let mut program = Program::default();
    let mut entry = program.bpf.verdict(KILL_PROCESS);
    let i386 = (profile.i386 && to.abi == Abi::X86_64).then_some(Abi::I386);
    for abi in i386.into_iter().chain([to.abi]) {
        let calls = program.calls(abi, &decisions(profile, abi, to)?)?;
        let calls = program.bpf.step(LOAD, NUMBER_AT, calls);
        entry = program.bpf.branch(EQUAL, abi.audit_arch(), calls, entry);
    }
    entry = program.bpf.step(LOAD, ARCHITECTURE_AT, entry);
    program.check_size()?;
    Ok(program.bpf.finish(entry))
}

/// Offsets in `struct seccomp_data` (linux/seccomp.h) on a little-endian machine.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
/// A bound on what a hostile profile can make us hold: one rule may name every call and carry any number of conditions.
const MAX_ALTERNATIVES: usize = 1 << 16;

/// What happens to one call: the first alternative that matches, else the fallback.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Decision {
    checks: Vec<(Vec<Condition>, u32)>,
    otherwise: u32,
}

impl Decision {
    fn always(verdict: u32) -> Decision {
        Decision { checks: vec![], otherwise: verdict }
    }
}

/// The decision from each number up to the next one, beginning at 0.
fn decisions(profile: &Profile, abi: Abi, to: &Environment) -> Result<Vec<(u32, Decision)>> {
    let default = Decision::always(profile.default);
    let numbers = abi.numbers();
    let mut calls: BTreeMap<u32, (Decision, bool)> = BTreeMap::new();
    let mut alternatives = 0;
    for rule in profile.rules.iter().filter(|rule| rule.applies(to)) {
        for number in rule.names.iter().filter_map(|name| numbers.get(name.as_str())) {
            let (decision, settled) = calls.entry(*number).or_insert((default.clone(), false));
            if *settled {
                continue;
            }
            if rule.alternatives.is_empty() {
                (decision.otherwise, *settled) = (rule.verdict, true);
            }
            decision.checks.extend(rule.alternatives.iter().map(|all| (all.clone(), rule.verdict)));
            alternatives += rule.alternatives.len();
            ensure!(alternatives <= MAX_ALTERNATIVES, "more than {MAX_ALTERNATIVES} argument checks");
        }
    }
    let mut ranges = vec![(0, default.clone())];
    for (number, (decision, _)) in calls {
        ranges.push((number, decision));
        ranges.push((number + 1, default.clone()));
    }
    if abi == Abi::X86_64 {
        ranges.push((X32_BIT, Decision::always(KILL_PROCESS)));
        // -1 is no x32 call but what a tracer writes to skip a call (ptrace(2)).
        ranges.push((u32::MAX, default));
    }
    // Of ranges that begin at the same number the last one counts; a range that repeats the one before adds nothing.
    ranges.reverse();
    ranges.dedup_by_key(|(start, _)| *start);
    ranges.reverse();
    ranges.dedup_by(|next, previous| next.1 == previous.1);
    Ok(ranges)
}

#[derive(Default)]
struct Program {
    bpf: Assembler,
    decided: HashMap<(bool, Decision), Label>,
}

impl Program {
    /// The tree that finds the accumulator's range.
    fn calls(&mut self, abi: Abi, ranges: &[(u32, Decision)]) -> Result<Label> {
        if let [(_, decision)] = ranges {
            return self.decision(abi, decision);
        }
        let (lower, upper) = ranges.split_at(ranges.len() / 2);
        let (yes, no) = (self.calls(abi, upper)?, self.calls(abi, lower)?);
        Ok(self.bpf.branch(AT_LEAST, upper[0].0, yes, no))
    }

    fn decision(&mut self, abi: Abi, decision: &Decision) -> Result<Label> {
        if decision.checks.is_empty() {
            return Ok(self.bpf.verdict(decision.otherwise));
        }
        let key = (abi.is_narrow(), decision.clone());
        if let Some(&label) = self.decided.get(&key) {
            return Ok(label);
        }
        let mut next = self.bpf.verdict(decision.otherwise);
        for (conditions, verdict) in decision.checks.iter().rev() {
            self.check_size()?;
            let mut matched = self.bpf.verdict(*verdict);
            for condition in conditions.iter().rev() {
                matched = self.condition(abi, condition, matched, next);
            }
            next = matched;
        }
        self.decided.insert(key, next);
        Ok(next)
    }

    /// Compare an argument, the high word first; the kernel hands a narrow one over with a high word of zero.
    fn condition(&mut self, abi: Abi, condition: &Condition, yes: Label, no: Label) -> Label {
        let Condition { value, value_two, op, index } = *condition;
        let (high, low) = match abi.is_narrow() {
            true => (0, value as u32),
            false => ((value >> 32) as u32, value as u32),
        };
        let low_at = ARGUMENTS_AT + 8 * u32::from(index);
        let mut words = Words { bpf: &mut self.bpf, low_at, narrow: abi.is_narrow() };
        match op {
            Operator::Equal => words.equal(high, low, yes, no),
            Operator::NotEqual => words.equal(high, low, no, yes),
            Operator::Greater => words.above(GREATER, high, low, yes, no),
            Operator::LessOrEqual => words.above(GREATER, high, low, no, yes),
            Operator::GreaterOrEqual => words.above(AT_LEAST, high, low, yes, no),
            Operator::Less => words.above(AT_LEAST, high, low, no, yes),
            Operator::MaskedEqual => words.masked_equal(value, value_two, yes, no),
        }
    }

    fn check_size(&self) -> Result<()> {
        let fits = self.bpf.len() <= MAX_INSTRUCTIONS;
        ensure!(
            fits,
            "the profile needs more than the {MAX_INSTRUCTIONS} instructions that the kernel takes"
        );
        Ok(())
    }
}

/// The two halves of an argument: the accumulator holds 32 bits.
struct Words<'a> {
    bpf: &'a mut Assembler,
    low_at: u32,
    narrow: bool,
}

impl Words<'_> {
    fn equal(&mut self, high: u32, low: u32, yes: Label, no: Label) -> Label {
        let low = self.bpf.branch(EQUAL, low, yes, no);
        let low = self.bpf.step(LOAD, self.low_at, low);
        if self.narrow {
            return low;
        }
        let high = self.bpf.branch(EQUAL, high, low, no);
        self.bpf.step(LOAD, self.low_at + 4, high)
    }

    fn above(&mut self, code: u16, high: u32, low: u32, yes: Label, no: Label) -> Label {
        let low = self.bpf.branch(code, low, yes, no);
        let low = self.bpf.step(LOAD, self.low_at, low);
        if self.narrow {
            return low;
        }
        let tie = self.bpf.branch(EQUAL, high, low, no);
        let high = self.bpf.branch(GREATER, high, yes, tie);
        self.bpf.step(LOAD, self.low_at + 4, high)
    }

    fn masked_equal(&mut self, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let value = value & mask;
        let mut next = self.masked_word(self.low_at, mask as u32, value as u32, yes, no);
        if !self.narrow {
            next = self.masked_word(self.low_at + 4, (mask >> 32) as u32, (value >> 32) as u32, next, no);
        }
        next
    }

    fn masked_word(&mut self, at: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
        if mask == 0 {
            return yes;
        }
        let mut next = self.bpf.branch(EQUAL, value, yes, no);
        if mask != u32::MAX {
            next = self.bpf.step(AND, mask, next);
        }
        self.bpf.step(LOAD, at, next)
    }
}
