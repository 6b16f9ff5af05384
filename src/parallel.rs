//! The same work on several things at the same time, each in a thread of its own.

use std::thread;

use crate::error::{Error, Result};

/// Runs `job` on each item at the same time, on an only one in this thread; returns the results in the order of the
/// items. `what` begins the error about a job that panicked.
pub(crate) fn each<I: Send, O: Send>(
    items: impl IntoIterator<Item = I>,
    what: &str,
    job: impl Fn(I) -> Result<O> + Sync,
) -> Vec<Result<O>> {
    let mut items: Vec<I> = items.into_iter().collect();
    if items.len() == 1 {
        return items.drain(..).map(job).collect();
    }
    let job = &job;
    thread::scope(|scope| {
        let threads = items.into_iter();
        let threads: Vec<_> = threads.map(|item| scope.spawn(move || job(item))).collect();
        let panicked = |_| Err(Error::internal(format!("{what} ended in a panic")));
        let ends = threads.into_iter();
        ends.map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_the_items_and_panics_are_errors() {
        let results = each([3, 0, 1], "dividing", |n: u32| match n {
            0 => panic!("zero"),
            n => Ok(6 / n),
        });
        let values: Vec<_> = results.iter().map(|r| r.as_ref().ok().copied()).collect();
        assert_eq!(values, [Some(2), None, Some(6)]);
        let error = results[1].as_ref().unwrap_err();
        assert_eq!(error.message(), "dividing ended in a panic");
    }
}
