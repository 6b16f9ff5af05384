//! Distinguishes a slow boot from one that will never end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::accel::Acceleration;
use super::console::{self, Trouble};

/// The time that the console may be silent during a boot with KVM before that is a stall. The
/// longest silence of a healthy boot is a few seconds there.
const SILENCE_WITH_KVM: Duration = Duration::from_secs(30);

/// The time that a machine that boots may do nothing at all. A healthy boot is never idle for more
/// than a second or two; one whose processor lost an interrupt is idle forever. (Emulated
/// processors can lose one when a kernel that changes its own code meets a host with more work than
/// processors.)
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// The part of that time that a machine which does nothing still takes of one host processor, in
/// percent: QEMU's own work and the guest's ticks, 1 to 6 as the host is. A machine that boots
/// takes 20 and more even on a crowded host.
const IDLE_PERCENT: u32 = 15;

/// The part of that time that the host must have had a processor to spare, in percent of one: a machine
/// that gets none does nothing either, and will when its turn comes.
const SPARE_PERCENT: u32 = 50;

/// The time that nothing may happen on a machine whose kernel says that a timer did not fire: one
/// processor has lost an interrupt and waits forever, while the others keep QEMU busy enough to
/// look alive.
const SILENCE_WITHOUT_TIMER: Duration = Duration::from_secs(30);

/// The state of a boot at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootState {
    /// It makes progress, or has ended at the login prompt.
    Progressing,
    /// It will make no more progress.
    Broken(Trouble),
    /// Nothing was written for this time, longer than a healthy boot is ever silent.
    Stalled(Duration),
    /// Its processors have had nothing to do for this time, longer than in any healthy boot.
    Idle(Duration),
}

/// A watch on one boot, by what its console says.
#[derive(Debug)]
pub(crate) struct BootWatch {
    silence_limit: Duration,
    seen: u64,
    last_output: Duration,
    /// As far back as the first that is [`IDLE_LIMIT`] ago.
    work: VecDeque<Work>,
}

/// The work of processors until a moment.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// The time since the start.
    at: Duration,
    /// The time that the machine's have worked.
    machine: Duration,
    /// The time that the host's had nothing to do, all together; `None` where it is unknown.
    spare: Option<Duration>,
}

impl BootWatch {
    /// Returns a watch whose limits fit the acceleration.
    pub(crate) fn new(acceleration: Acceleration) -> Self {
        Self::with_silence_limit(SILENCE_WITH_KVM * acceleration.deadline_factor())
    }

    /// Returns a watch that takes a longer silence than `limit` for a stall.
    pub(crate) fn with_silence_limit(limit: Duration) -> Self {
        BootWatch {
            silence_limit: limit,
            seen: digest(""),
            last_output: Duration::ZERO,
            work: VecDeque::new(),
        }
    }

    /// Judges the console's text and the processors' time at the time `elapsed` since the start.
    /// The text may be all since the start or only its end, as long as new output changes it. `spare`
    /// is the time that the host's processors had nothing to do, see [`spare_time`](super::spare_time);
    /// where that is not known they are taken to have had time.
    pub(crate) fn observe(
        &mut self,
        elapsed: Duration,
        console: &str,
        cpu_time: Duration,
        spare: Option<Duration>,
    ) -> BootState {
        let digest = digest(console);
        let state = console::scan(console);
        let limit = match state.timer_lost {
            true => self.silence_limit.min(SILENCE_WITHOUT_TIMER),
            false => self.silence_limit,
        };
        if digest != self.seen {
            self.seen = digest;
            self.last_output = elapsed;
        }
        if let Some(trouble) = state.trouble {
            return BootState::Broken(trouble);
        }
        let silence = elapsed.saturating_sub(self.last_output);
        if silence > limit && !state.login {
            return BootState::Stalled(silence);
        }
        let rest = self.rest(Work {
            at: elapsed,
            machine: cpu_time,
            spare,
        });
        if rest >= IDLE_LIMIT && !state.login {
            return BootState::Idle(rest);
        }
        BootState::Progressing
    }

    /// Returns the time that the processors have had nothing to do; zero for less than
    /// [`IDLE_LIMIT`], and nothing where the host's had no time for them.
    fn rest(&mut self, now: Work) -> Duration {
        self.work.push_back(now);
        let old = |entry: &Work| now.at.saturating_sub(entry.at) >= IDLE_LIMIT;
        while self.work.get(1).is_some_and(old) {
            self.work.pop_front();
        }
        let before = self.work[0];
        let length = now.at.saturating_sub(before.at);
        let worked = now.machine.saturating_sub(before.machine);
        let spare = match (now.spare, before.spare) {
            (Some(now), Some(before)) => now.saturating_sub(before),
            _ => length,
        };
        if worked * 100 < length * IDLE_PERCENT && spare * 100 >= length * SPARE_PERCENT {
            length
        } else {
            Duration::ZERO
        }
    }
}

/// Returns a digest of all but the kernel's reports of a stall, which are not progress.
fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for line in text.lines().filter(|line| !console::is_stall_report(line)) {
        line.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_a_stall_only_after_its_limit() {
        let mut watch = BootWatch::with_silence_limit(at(10));
        assert_eq!(
            watch.observe(at(0), "", at(0), None),
            BootState::Progressing
        );
        assert_eq!(
            watch.observe(at(10), "", at(10), None),
            BootState::Progressing
        );
        assert_eq!(
            watch.observe(at(11), "", at(11), None),
            BootState::Stalled(at(11))
        );
        assert_eq!(
            watch.observe(at(12), "a", at(12), None),
            BootState::Progressing
        );
        assert_eq!(
            watch.observe(at(22), "a", at(22), None),
            BootState::Progressing
        );
        assert_eq!(
            watch.observe(at(23), "a", at(23), None),
            BootState::Stalled(at(11))
        );
        // Cut to its end, the text changes without growing.
        assert_eq!(
            watch.observe(at(24), "b", at(24), None),
            BootState::Progressing
        );
        assert_eq!(
            watch.observe(at(34), "b", at(34), None),
            BootState::Progressing
        );
    }

    #[test]
    fn a_machine_at_its_login_prompt_may_be_silent() {
        let mut watch = BootWatch::with_silence_limit(at(10));
        let text = "Debian GNU/Linux 13 kubby ttyS0\r\n\r\nkubby login: ";
        assert_eq!(
            watch.observe(at(5), text, at(5), None),
            BootState::Progressing
        );
        assert_eq!(
            watch.observe(at(500), text, at(500), None),
            BootState::Progressing
        );
    }

    #[test]
    fn a_machine_that_does_nothing_is_told_from_one_that_works() {
        let mut watch = BootWatch::with_silence_limit(at(1000));
        // Four seconds of work of two processors, then next to nothing.
        for second in 0..=4 {
            let seen = watch.observe(at(second), "", at(2 * second), None);
            assert_eq!(seen, BootState::Progressing);
        }
        for second in 5..14 {
            let work = at(8) + Duration::from_millis(60 * (second - 4));
            assert_eq!(
                watch.observe(at(second), "", work, None),
                BootState::Progressing
            );
        }
        let work = at(8) + Duration::from_millis(600);
        let idle = BootState::Idle(at(10));
        assert_eq!(watch.observe(at(14), "", work, None), idle);
        // A fifth of a processor is work.
        for second in 15..60 {
            let work = work + Duration::from_millis(200 * (second - 14));
            let seen = watch.observe(at(second), "", work, None);
            // The rest before is still in sight at first.
            if second > 23 {
                assert_eq!(seen, BootState::Progressing, "at {second} s");
            }
        }
        // A machine that waits for a login may be idle.
        let mut watch = BootWatch::with_silence_limit(at(1000));
        for second in 0..60 {
            let seen = watch.observe(at(second), "kubby login: ", at(1), None);
            assert_eq!(seen, BootState::Progressing);
        }
    }

    #[test]
    fn a_machine_that_gets_no_processor_does_not_rest() {
        let mut watch = BootWatch::with_silence_limit(at(1000));
        // For a minute the host's two processors have no time, then one of them has.
        for second in 0..60 {
            let seen = watch.observe(at(second), "", at(1), Some(at(100)));
            assert_eq!(seen, BootState::Progressing, "at {second} s");
        }
        for second in 60..64 {
            let seen = watch.observe(at(second), "", at(1), Some(at(41 + second)));
            assert_eq!(seen, BootState::Progressing, "at {second} s");
        }
        let seen = watch.observe(at(70), "", at(1), Some(at(111)));
        assert_eq!(seen, BootState::Idle(at(10)));
    }

    #[test]
    fn reports_of_a_lost_timer_are_no_progress() {
        let mut watch = BootWatch::with_silence_limit(at(1000));
        let boot = "[    0.1] Linux version 6\n[    2.1] smp: Brought up 1 node, 4 CPUs\n";
        let busy = |second: u64| at(second / 2);
        assert_eq!(
            watch.observe(at(2), boot, busy(2), None),
            BootState::Progressing
        );
        // As one said it, every 21 and 63 seconds.
        let report = "[   23.376342] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n\
            [   23.379082] rcu: \t3-...!: (0 ticks this GP) idle=c6f0/0/0x0 softirq=13/13 fqs=0\n";
        let mut text = format!("{boot}{report}");
        // A slow processor is not a reason to give up.
        let seen = watch.observe(at(100), &text, busy(100), None);
        assert_eq!(seen, BootState::Progressing);
        text.push_str(
            "[   23.399486] rcu: rcu_preempt kthread timer wakeup didn't happen for 5251 jiffies! g-1139\n",
        );
        let seen = watch.observe(at(101), &text, busy(101), None);
        assert_eq!(seen, BootState::Stalled(at(99)));
        // It worked again after all.
        text.push_str("[   24.1] devtmpfs: initialized\n");
        let seen = watch.observe(at(102), &text, busy(102), None);
        assert_eq!(seen, BootState::Progressing);
    }

    #[test]
    fn a_panic_is_reported_at_once() {
        let mut watch = BootWatch::new(Acceleration::Kvm);
        let state = watch.observe(
            at(1),
            "[ 1.0] Kernel panic - not syncing: no init found\r\n",
            at(1),
            None,
        );
        let line = "Kernel panic - not syncing: no init found".to_owned();
        assert_eq!(state, BootState::Broken(Trouble::Panic(line)));
    }

    #[test]
    fn emulation_gets_more_patience() {
        let (mut kvm, mut tcg) = (
            BootWatch::new(Acceleration::Kvm),
            BootWatch::new(Acceleration::Tcg),
        );
        assert!(matches!(
            kvm.observe(at(100), "", at(100), None),
            BootState::Stalled(_)
        ));
        assert_eq!(
            tcg.observe(at(100), "", at(100), None),
            BootState::Progressing
        );
        assert!(matches!(
            tcg.observe(at(300), "", at(300), None),
            BootState::Stalled(_)
        ));
    }
}
