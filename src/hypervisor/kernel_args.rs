//! The arguments of a node's kernel.

use super::accel::Acceleration;
use crate::error::{Error, Result};

/// Joins the kernel's arguments and adds what this machine needs.
pub(super) fn command_line(args: &[String], acceleration: Acceleration) -> Result<String> {
    for arg in args {
        let splits = arg.chars().any(|c| c.is_whitespace() || c.is_control());
        if arg.is_empty() || splits {
            return Err(Error::usage(format!("{arg:?} is not one kernel argument")));
        }
    }
    let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut add = |key: &str, arg: &'static str| {
        if !args.iter().any(|a| a.starts_with(key)) {
            all.push(arg);
        }
    };
    add("console=", "console=ttyS0");
    if acceleration == Acceleration::Tcg {
        // Emulated code has no speculation to guard against, yet pays for each guard.
        add("mitigations=", "mitigations=off");
        // All emulated CPUs read one counter, but the kernel's test of that fails under emulation;
        // without it each look at the clock leaves the guest for the HPET, and Go looks often.
        add("tsc=", "tsc=reliable");
        // Timers by the tick of 4 ms rather than to the microsecond: each finer one interrupts the
        // guest and has it program the next, and Go's programs set them all the time.
        add("highres=", "highres=off");
        // QEMU runs string instructions element by element, and claims that they are fast: without
        // that Linux copies and clears memory with plain moves, which is quicker.
        add(
            "clearcpuid=",
            "clearcpuid=erms,fsrm,fsrs,fzrm,fsrc,rep_good",
        );
    }
    Ok(all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_the_caller_win_over_the_added_ones() {
        let line = |args: &[&str], acceleration| {
            let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
            command_line(&args, acceleration).unwrap()
        };
        assert_eq!(line(&[], Acceleration::Kvm), "console=ttyS0");
        assert_eq!(
            line(&["rw"], Acceleration::Tcg),
            "rw console=ttyS0 mitigations=off tsc=reliable highres=off clearcpuid=erms,fsrm,fsrs,fzrm,fsrc,rep_good"
        );
        assert_eq!(
            line(
                &[
                    "console=hvc0",
                    "mitigations=auto",
                    "tsc=x",
                    "highres=on",
                    "clearcpuid=y",
                ],
                Acceleration::Tcg
            ),
            "console=hvc0 mitigations=auto tsc=x highres=on clearcpuid=y"
        );
    }
}
