//! Shutting a guest down in good order.

use std::time::{Duration, Instant};

use super::{Hypervisor, State};
use crate::error::Result;
use crate::wait;

/// The pause between two looks at the state.
const POLL: Duration = Duration::from_millis(200);

/// The time in which a guest has to react to the power button. A guest that boots drops a press
/// that comes before it listens; one that is shutting down ignores another.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Presses the power button until the domain is off; returns false when it still runs at the
/// deadline, so that the caller can stop it by force.
///
/// # Errors
/// When there is no such domain, libvirt does not answer, and on Ctrl-C.
pub fn shut_down(hypervisor: &dyn Hypervisor, domain: &str, deadline: Duration) -> Result<bool> {
    let press = || hypervisor.shutdown(domain).map(drop);
    let is_off = || {
        let state = hypervisor.find(domain)?.map(|d| d.state);
        Ok(!state.is_some_and(State::is_active))
    };
    press_until(deadline, (POLL, PRESS_AGAIN), press, is_off)
}

fn press_until(
    deadline: Duration,
    (poll, press_again): (Duration, Duration),
    mut press: impl FnMut() -> Result<()>,
    mut is_off: impl FnMut() -> Result<bool>,
) -> Result<bool> {
    let mut pressed: Option<Instant> = None;
    let off = wait::poll(Instant::now() + deadline, poll, || {
        if pressed.is_none_or(|at| at.elapsed() >= press_again) {
            press()?;
            pressed = Some(Instant::now());
        }
        Ok(is_off()?.then_some(()))
    })?;
    Ok(off.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const OFTEN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

    #[test]
    fn a_press_that_gets_lost_is_repeated() {
        let presses = Cell::new(0);
        let off = press_until(
            Duration::from_secs(10),
            OFTEN,
            || {
                presses.set(presses.get() + 1);
                Ok(())
            },
            || Ok(presses.get() == 3),
        );
        assert!(off.unwrap());
        assert_eq!(presses.get(), 3);
    }

    #[test]
    fn a_guest_that_never_follows_is_given_up_at_the_deadline() {
        let limit = Duration::from_millis(50);
        assert!(!press_until(limit, OFTEN, || Ok(()), || Ok(false)).unwrap());
        assert!(press_until(Duration::ZERO, OFTEN, || Ok(()), || Ok(true)).unwrap());
    }
}
