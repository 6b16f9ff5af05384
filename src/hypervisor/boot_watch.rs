//! Tells a boot that takes its time from one that will never end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::accel::Acceleration;
use super::console::{self, Trouble};

/// How long the console may be silent during a boot with KVM before that is a stall. The longest
/// silence of a healthy boot is a few seconds there.
const SILENCE_WITH_KVM: Duration = Duration::from_secs(30);

/// How long a machine that boots may do nothing at all. A healthy boot is never idle for more than
/// a second or two; one whose processor lost an interrupt is for ever. (Emulated processors can
/// lose one when a kernel that changes its own code meets a host with more work than processors.)
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// The part of that time that a machine which does nothing still takes of one host processor, in
/// percent: QEMU's own work and the guest's ticks, 1 to 6 as the host is. A machine that boots
/// takes 20 and more even on a crowded host.
const IDLE_PERCENT: u32 = 15;

/// How long nothing may happen on a machine whose kernel says that a timer does not wake it: one
/// processor has lost an interrupt and waits for ever, while the others keep QEMU busy enough to
/// look alive.
const SILENCE_WITHOUT_TIMER: Duration = Duration::from_secs(30);

/// What a boot does at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootState {
    /// It goes on, or is through and waits at the login prompt.
    Progressing,
    /// It will not go on.
    Broken(Trouble),
    /// Nothing was written for longer than a healthy boot is ever silent.
    Stalled {
        /// The length of the silence.
        since: Duration,
    },
    /// Its processors have had nothing to do for longer than in any healthy boot.
    Idle {
        /// The length of the rest.
        since: Duration,
    },
}

/// Watches one boot by what its console says.
#[derive(Debug)]
pub struct BootWatch {
    silence_limit: Duration,
    seen: u64,
    last_output: Duration,
    /// Times since the start, each with what the processors had done until then; as far back as
    /// the first that is [`IDLE_LIMIT`] ago.
    work: VecDeque<(Duration, Duration)>,
}

impl BootWatch {
    /// A watch whose patience fits the acceleration.
    pub fn new(acceleration: Acceleration) -> Self {
        Self::with_silence_limit(SILENCE_WITH_KVM * acceleration.deadline_factor())
    }

    /// A watch that takes a longer silence than `limit` for a stall.
    pub fn with_silence_limit(limit: Duration) -> Self {
        BootWatch {
            silence_limit: limit,
            seen: digest(""),
            last_output: Duration::ZERO,
            work: VecDeque::new(),
        }
    }

    /// Judges the console's text and the processors' time at the time `elapsed` since the start.
    /// The text may be all since the start or only its end, as long as new output changes it.
    pub fn observe(&mut self, elapsed: Duration, console: &str, cpu_time: Duration) -> BootState {
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
            return BootState::Stalled { since: silence };
        }
        let rest = self.rest(elapsed, cpu_time);
        if rest >= IDLE_LIMIT && !state.login {
            return BootState::Idle { since: rest };
        }
        BootState::Progressing
    }

    /// How long the processors have had nothing to do; nothing for less than [`IDLE_LIMIT`].
    fn rest(&mut self, elapsed: Duration, cpu_time: Duration) -> Duration {
        self.work.push_back((elapsed, cpu_time));
        let old = |entry: &(Duration, Duration)| elapsed.saturating_sub(entry.0) >= IDLE_LIMIT;
        while self.work.get(1).is_some_and(old) {
            self.work.pop_front();
        }
        let (since, before) = self.work[0];
        let length = elapsed.saturating_sub(since);
        let worked = cpu_time.saturating_sub(before);
        if worked * 100 < length * IDLE_PERCENT {
            length
        } else {
            Duration::ZERO
        }
    }
}

/// Of all but the reports of a kernel that nothing happens: they are no progress.
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
        assert_eq!(watch.observe(at(0), "", at(0)), BootState::Progressing);
        assert_eq!(watch.observe(at(10), "", at(10)), BootState::Progressing);
        assert_eq!(
            watch.observe(at(11), "", at(11)),
            BootState::Stalled { since: at(11) }
        );
        assert_eq!(watch.observe(at(12), "a", at(12)), BootState::Progressing);
        assert_eq!(watch.observe(at(22), "a", at(22)), BootState::Progressing);
        assert_eq!(
            watch.observe(at(23), "a", at(23)),
            BootState::Stalled { since: at(11) }
        );
        // Cut to its end, the text changes without growing.
        assert_eq!(watch.observe(at(24), "b", at(24)), BootState::Progressing);
        assert_eq!(watch.observe(at(34), "b", at(34)), BootState::Progressing);
    }

    #[test]
    fn a_machine_at_its_login_prompt_may_be_silent() {
        let mut watch = BootWatch::with_silence_limit(at(10));
        let text = "Debian GNU/Linux 13 kubby ttyS0\r\n\r\nkubby login: ";
        assert_eq!(watch.observe(at(5), text, at(5)), BootState::Progressing);
        assert_eq!(
            watch.observe(at(500), text, at(500)),
            BootState::Progressing
        );
    }

    #[test]
    fn a_machine_that_does_nothing_is_told_from_one_that_works() {
        let mut watch = BootWatch::with_silence_limit(at(1000));
        // Four seconds of work of two processors, then next to nothing.
        for second in 0..=4 {
            let seen = watch.observe(at(second), "", at(2 * second));
            assert_eq!(seen, BootState::Progressing);
        }
        for second in 5..14 {
            let work = at(8) + Duration::from_millis(60 * (second - 4));
            assert_eq!(watch.observe(at(second), "", work), BootState::Progressing);
        }
        let work = at(8) + Duration::from_millis(600);
        let idle = BootState::Idle { since: at(10) };
        assert_eq!(watch.observe(at(14), "", work), idle);
        // A fifth of a processor is work.
        for second in 15..60 {
            let work = work + Duration::from_millis(200 * (second - 14));
            let seen = watch.observe(at(second), "", work);
            // The rest before is still in sight at first.
            if second > 23 {
                assert_eq!(seen, BootState::Progressing, "at {second} s");
            }
        }
        // Whoever waits for a login may rest.
        let mut watch = BootWatch::with_silence_limit(at(1000));
        for second in 0..60 {
            let seen = watch.observe(at(second), "kubby login: ", at(1));
            assert_eq!(seen, BootState::Progressing);
        }
    }

    #[test]
    fn reports_of_a_lost_timer_are_no_progress() {
        let mut watch = BootWatch::with_silence_limit(at(1000));
        let boot = "[    0.1] Linux version 6\n[    2.1] smp: Brought up 1 node, 4 CPUs\n";
        let busy = |second: u64| at(second / 2);
        assert_eq!(watch.observe(at(2), boot, busy(2)), BootState::Progressing);
        // As one said it, every 21 and 63 seconds.
        let report = "[   23.376342] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n\
            [   23.379082] rcu: \t3-...!: (0 ticks this GP) idle=c6f0/0/0x0 softirq=13/13 fqs=0\n";
        let mut text = format!("{boot}{report}");
        // That a processor was slow is no reason to give up.
        let seen = watch.observe(at(100), &text, busy(100));
        assert_eq!(seen, BootState::Progressing);
        text.push_str(
            "[   23.399486] rcu: rcu_preempt kthread timer wakeup didn't happen for 5251 jiffies! g-1139\n",
        );
        let seen = watch.observe(at(101), &text, busy(101));
        assert_eq!(seen, BootState::Stalled { since: at(99) });
        // It woke up after all.
        text.push_str("[   24.1] devtmpfs: initialized\n");
        let seen = watch.observe(at(102), &text, busy(102));
        assert_eq!(seen, BootState::Progressing);
    }

    #[test]
    fn a_panic_is_reported_at_once() {
        let mut watch = BootWatch::new(Acceleration::Kvm);
        let state = watch.observe(
            at(1),
            "[ 1.0] Kernel panic - not syncing: no init found\r\n",
            at(1),
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
            kvm.observe(at(100), "", at(100)),
            BootState::Stalled { .. }
        ));
        assert_eq!(tcg.observe(at(100), "", at(100)), BootState::Progressing);
        assert!(matches!(
            tcg.observe(at(300), "", at(300)),
            BootState::Stalled { .. }
        ));
    }
}
