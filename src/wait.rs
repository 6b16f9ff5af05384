//! Waiting for something by asking for it again and again.

use std::time::{Duration, Instant};

use crate::error::{Kind, Result};
use crate::interrupt;

/// Asks until the answer is there, and returns it; returns `None` when it is not there by the
/// deadline. Asks at least once.
///
/// # Errors
/// Those of `ask`, which end the wait; [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn poll<T>(
    deadline: Instant,
    every: Duration,
    ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    poll_at(deadline, |_| every, ask)
}

/// Does what [`poll`] does, with a pause that depends on the time since the start.
///
/// # Errors
/// As [`poll`].
pub(crate) fn poll_at<T>(
    deadline: Instant,
    pause: impl Fn(Duration) -> Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        interrupt::sleep(pause(started.elapsed()))?;
    }
}

/// Repeats what fails with an error of `passing` until it succeeds, or returns the last error when
/// the deadline has passed.
///
/// # Errors
/// Those of `work`; [`Kind::Interrupted`] on Ctrl-C.
pub(crate) fn retry<T>(
    deadline: Instant,
    every: Duration,
    passing: Kind,
    mut work: impl FnMut() -> Result<T>,
) -> Result<T> {
    let done = poll(deadline, every, || match work() {
        Err(e) if e.kind() == passing && Instant::now() < deadline => Ok(None),
        result => result.map(Some),
    })?;
    match done {
        Some(value) => Ok(value),
        // The deadline passed just after the last try.
        None => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const SOON: Duration = Duration::from_millis(1);

    fn deadline(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn it_is_asked_until_there_is_an_answer_an_error_or_the_deadline() {
        let mut asked = 0;
        let found = poll(deadline(10_000), SOON, || {
            asked += 1;
            Ok((asked == 3).then_some("it"))
        });
        assert_eq!((found.unwrap(), asked), (Some("it"), 3));

        let mut asked = 0;
        let none = poll(deadline(0), SOON, || {
            asked += 1;
            Ok(None::<()>)
        });
        assert_eq!((none.unwrap(), asked), (None, 1));

        let failed = || Err::<Option<()>, _>(Error::state("gone"));
        let e = poll(deadline(10_000), SOON, failed).unwrap_err();
        assert_eq!(e.kind(), Kind::State);
    }

    #[test]
    fn the_pause_may_grow() {
        let began = Instant::now();
        let mut asked = 0;
        let pause = |since: Duration| since + Duration::from_millis(10);
        let none = poll_at(deadline(100), pause, || {
            asked += 1;
            Ok(None::<()>)
        });
        assert_eq!(none.unwrap(), None);
        assert!(asked <= 6 && began.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn only_passing_errors_are_tried_again() {
        let mut tries = 0;
        let mut work = |kind, good| {
            tries += 1;
            if tries == good {
                Ok(tries)
            } else {
                Err(Error::new(kind, format!("try {tries}")))
            }
        };
        let done = retry(deadline(10_000), SOON, Kind::Unhealthy, || {
            work(Kind::Unhealthy, 3)
        });
        assert_eq!(done.unwrap(), 3);
        let e = retry(deadline(10_000), SOON, Kind::Unhealthy, || {
            work(Kind::State, 9)
        });
        assert_eq!(e.unwrap_err().message(), "try 4");
        let e = retry(deadline(0), SOON, Kind::Unhealthy, || {
            work(Kind::Unhealthy, 9)
        });
        assert_eq!(e.unwrap_err().message(), "try 5");
    }
}
