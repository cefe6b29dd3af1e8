//! Classic BPF, as far as seccomp(2) takes it, assembled from the end to the start: what a jump leads to exists before
//! the jump does, so every offset is known, every jump goes forward and the program always ends.

use std::collections::HashMap;

/// One instruction: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it doesn't.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `A = *(u32 *)(seccomp_data + k)`
pub const LOAD: u16 = 0x20;
/// `A &= k`
pub const AND: u16 = 0x54;
/// Skip `k` instructions.
pub const JUMP: u16 = 0x05;
/// Compare `A == k`.
pub const EQUAL: u16 = 0x15;
/// Compare `A > k`, unsigned.
pub const GREATER: u16 = 0x25;
/// Compare `A >= k`, unsigned.
pub const AT_LEAST: u16 = 0x35;
/// End with verdict `k`.
pub const RETURN: u16 = 0x06;

/// An instruction already there, counted from the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program under construction, last instruction first.
#[derive(Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// A `RETURN verdict` that a jump from here can reach directly.
    pub fn verdict(&mut self, verdict: u32) -> Label {
        // Some room, because what jumps there is likely to come a few instructions later.
        match self.returns.get(&verdict) {
            Some(&label) if self.distance(label) < 200 => label,
            _ => {
                let label = self.push(RETURN, 0, 0, verdict);
                self.returns.insert(verdict, label);
                label
            }
        }
    }

    /// `code` without a jump (a load or an arithmetic operation), then go on at `next`.
    pub fn step(&mut self, code: u16, k: u32, next: Label) -> Label {
        if self.distance(next) != 0 {
            self.jump(next);
        }
        self.push(code, 0, 0, k)
    }

    /// Compare the accumulator with `k` and go on at `yes` or `no`.
    pub fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // An offset has eight bits; one less for `no`, because the jump for `yes` may come between.
        let no = if self.distance(no) > 254 { self.jump(no) } else { no };
        let yes = if self.distance(yes) > 255 { self.jump(yes) } else { yes };
        self.push(code, self.distance(yes) as u8, self.distance(no) as u8, k)
    }

    /// Instructions so far.
    pub fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The program that starts at `entry`.
    pub fn finish(mut self, entry: Label) -> Vec<Instruction> {
        self.reversed.truncate(entry.0 + 1);
        self.reversed.reverse();
        self.reversed
    }

    fn jump(&mut self, to: Label) -> Label {
        self.push(JUMP, 0, 0, self.distance(to) as u32)
    }

    /// How many instructions an instruction pushed now would skip to get to `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_of_any_length_arrive() {
        for (first, second) in (250..260).flat_map(|first| (0..6).map(move |second| (first, second))) {
            let mut program = Assembler::default();
            let yes = program.verdict(1);
            let mut padding = yes;
            for _ in 0..second {
                padding = program.step(AND, 7, padding);
            }
            let no = program.push(RETURN, 0, 0, 2);
            for _ in 0..first {
                padding = program.step(AND, 7, padding);
            }
            for (yes, no) in [(yes, no), (no, yes)] {
                let entry = program.branch(EQUAL, 0, yes, no);
                let (at, branch) = (entry.0, program.reversed[entry.0]);
                for (offset, target) in [(branch.jt, yes), (branch.jf, no)] {
                    let mut to = at - 1 - usize::from(offset);
                    while program.reversed[to].code == JUMP {
                        to -= 1 + program.reversed[to].k as usize;
                    }
                    assert_eq!(to, target.0, "{first} {second}");
                }
            }
        }
    }
}
