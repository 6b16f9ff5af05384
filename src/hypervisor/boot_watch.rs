//! Tells a boot that takes its time from one that will never end.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::accel::Acceleration;
use super::console::{self, Trouble};

/// How long the console may be silent during a boot with KVM before that is a stall. The longest
/// silence of a healthy boot is a few seconds there.
const SILENCE_WITH_KVM: Duration = Duration::from_secs(30);

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
}

/// Watches one boot by what its console says.
#[derive(Debug)]
pub struct BootWatch {
    silence_limit: Duration,
    seen: u64,
    last_output: Duration,
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
        }
    }

    /// Judges the console's text at the time `elapsed` since the start. The text may be all since
    /// the start or only its end, as long as new output changes it.
    pub fn observe(&mut self, elapsed: Duration, console: &str) -> BootState {
        let digest = digest(console);
        if digest != self.seen {
            self.seen = digest;
            self.last_output = elapsed;
        }
        let state = console::scan(console);
        if let Some(trouble) = state.trouble {
            return BootState::Broken(trouble);
        }
        let silence = elapsed.saturating_sub(self.last_output);
        if silence > self.silence_limit && !state.login {
            return BootState::Stalled { since: silence };
        }
        BootState::Progressing
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
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
        assert_eq!(watch.observe(at(0), ""), BootState::Progressing);
        assert_eq!(watch.observe(at(10), ""), BootState::Progressing);
        assert_eq!(
            watch.observe(at(11), ""),
            BootState::Stalled { since: at(11) }
        );
        assert_eq!(watch.observe(at(12), "a"), BootState::Progressing);
        assert_eq!(watch.observe(at(22), "a"), BootState::Progressing);
        assert_eq!(
            watch.observe(at(23), "a"),
            BootState::Stalled { since: at(11) }
        );
        // Cut to its end, the text changes without growing.
        assert_eq!(watch.observe(at(24), "b"), BootState::Progressing);
        assert_eq!(watch.observe(at(34), "b"), BootState::Progressing);
    }

    #[test]
    fn a_machine_at_its_login_prompt_may_be_silent() {
        let mut watch = BootWatch::with_silence_limit(at(10));
        let text = "Debian GNU/Linux 13 kubby ttyS0\r\n\r\nkubby login: ";
        assert_eq!(watch.observe(at(5), text), BootState::Progressing);
        assert_eq!(watch.observe(at(500), text), BootState::Progressing);
    }

    #[test]
    fn a_panic_is_reported_at_once() {
        let mut watch = BootWatch::new(Acceleration::Kvm);
        let state = watch.observe(
            at(1),
            "[ 1.0] Kernel panic - not syncing: no init found\r\n",
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
            kvm.observe(at(100), ""),
            BootState::Stalled { .. }
        ));
        assert_eq!(tcg.observe(at(100), ""), BootState::Progressing);
        assert!(matches!(
            tcg.observe(at(300), ""),
            BootState::Stalled { .. }
        ));
    }
}
