//! Shutting a guest down in good order.

use std::time::{Duration, Instant};

use super::{Hypervisor, State};
use crate::error::Result;
use crate::interrupt;

/// How often a wait asks for the state.
const POLL: Duration = Duration::from_millis(200);

/// How long a guest has to show that it noticed the power button. A guest that boots drops a press
/// that comes before it listens; one that is shutting down ignores another.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Presses the power button until the domain is off; returns false when it still runs at the
/// deadline, so that the caller can stop it by force.
///
/// # Errors
/// When there is no such domain, libvirt does not answer, and on Ctrl-C.
pub fn shut_down(hypervisor: &dyn Hypervisor, domain: &str, deadline: Duration) -> Result<bool> {
    press_until(
        Patience {
            deadline,
            press_again: PRESS_AGAIN,
            poll: POLL,
        },
        &mut || hypervisor.shutdown(domain).map(drop),
        &mut || is_off(hypervisor, domain),
    )
}

fn is_off(hypervisor: &dyn Hypervisor, domain: &str) -> Result<bool> {
    let state = hypervisor.find(domain)?.map(|d| d.state);
    Ok(matches!(
        state,
        None | Some(State::ShutOff | State::Crashed)
    ))
}

struct Patience {
    deadline: Duration,
    press_again: Duration,
    poll: Duration,
}

fn press_until(
    patience: Patience,
    press: &mut dyn FnMut() -> Result<()>,
    is_off: &mut dyn FnMut() -> Result<bool>,
) -> Result<bool> {
    let start = Instant::now();
    press()?;
    let mut pressed = start;
    loop {
        if is_off()? {
            return Ok(true);
        }
        if start.elapsed() >= patience.deadline {
            return Ok(false);
        }
        if pressed.elapsed() >= patience.press_again {
            press()?;
            pressed = Instant::now();
        }
        interrupt::sleep(patience.poll)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn patience(deadline: u64) -> Patience {
        Patience {
            deadline: Duration::from_millis(deadline),
            press_again: Duration::from_millis(20),
            poll: Duration::from_millis(1),
        }
    }

    #[test]
    fn a_press_that_gets_lost_is_repeated() {
        let presses = Cell::new(0);
        let off = press_until(
            patience(10_000),
            &mut || {
                presses.set(presses.get() + 1);
                Ok(())
            },
            &mut || Ok(presses.get() == 3),
        );
        assert!(off.unwrap());
        assert_eq!(presses.get(), 3);
    }

    #[test]
    fn a_guest_that_never_follows_is_given_up_at_the_deadline() {
        assert!(!press_until(patience(50), &mut || Ok(()), &mut || Ok(false)).unwrap());
        assert!(press_until(patience(0), &mut || Ok(()), &mut || Ok(true)).unwrap());
    }
}
