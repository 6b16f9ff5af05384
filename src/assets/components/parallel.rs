//! Several downloads or builds at a time, reported as one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::progress::StepSink;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `job` for every item, `width` at a time, and answers in the order of the items. The first
/// failure sets `stop`, which the others are expected to look at, and is the one returned.
pub(super) fn for_each<I: Sync, O: Send>(
    width: usize,
    items: &[I],
    stop: &AtomicBool,
    job: impl Fn(usize, &I) -> Result<O> + Sync,
) -> Result<Vec<O>> {
    let queue = Mutex::new(items.iter().enumerate());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..width.min(items.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some((index, item)) = lock(&queue).next() else {
                        return;
                    };
                    let result = job(index, item);
                    let failed = result.is_err();
                    lock(&results).push((index, result));
                    stop.fetch_or(failed, Ordering::Relaxed);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = results.iter().position(|(_, result)| result.is_err()) {
        results = vec![results.swap_remove(first)];
    }
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Adds up the bytes of several downloads for one step.
pub(super) struct Sum {
    sink: Arc<dyn StepSink>,
    parts: Mutex<Vec<(u64, Option<u64>)>>,
}

impl Sum {
    pub(super) fn new(sink: Arc<dyn StepSink>, parts: usize) -> Arc<Self> {
        Arc::new(Sum {
            sink,
            parts: Mutex::new(vec![(0, None); parts]),
        })
    }

    /// Returns the sink for one of the downloads.
    pub(super) fn part(self: &Arc<Self>, index: usize) -> Arc<dyn StepSink> {
        Arc::new(Part {
            sum: Arc::clone(self),
            index,
        })
    }
}

struct Part {
    sum: Arc<Sum>,
    index: usize,
}

impl StepSink for Part {
    fn detail(&self, text: &str) {
        self.sum.sink.detail(text);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        // Reported under the lock, so that the sum never seems to go back.
        let mut parts = lock(&self.sum.parts);
        parts[self.index] = (done, total);
        let done = parts.iter().map(|(done, _)| done).sum();
        // Unknown until every part has begun.
        let total = parts.iter().map(|(_, total)| *total).sum();
        self.sum.sink.bytes(done, total);
    }

    // The step is ended by its owner, once.
    fn done(&self, _summary: &str) {}
    fn skipped(&self, _summary: &str) {}
    fn failed(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn answers_keep_the_order() {
        let out = for_each(
            4,
            &[5, 1, 3, 2, 4, 0],
            &AtomicBool::new(false),
            |index, item| {
                std::thread::sleep(std::time::Duration::from_millis(*item));
                Ok((index, *item))
            },
        );
        assert_eq!(
            out.unwrap(),
            [(0, 5), (1, 1), (2, 3), (3, 2), (4, 4), (5, 0)]
        );
    }

    #[test]
    fn the_first_failure_stops_the_others() {
        let stop = AtomicBool::new(false);
        let items: Vec<u32> = (0..100).collect();
        let started = Mutex::new(0);
        let error = for_each(4, &items, &stop, |_, item| {
            *lock(&started) += 1;
            if *item == 2 {
                return Err(Error::assets("two"));
            }
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Err::<(), _>(Error::assets("stopped"))
        })
        .unwrap_err();
        assert_eq!(error.message(), "two");
        assert!(*lock(&started) <= 4);
    }

    #[test]
    fn bytes_add_up_and_the_total_is_known_last() {
        #[derive(Default)]
        struct Last(Mutex<(u64, Option<u64>)>);
        impl StepSink for Last {
            fn detail(&self, _: &str) {}
            fn bytes(&self, done: u64, total: Option<u64>) {
                *lock(&self.0) = (done, total);
            }
            fn done(&self, _: &str) {}
            fn skipped(&self, _: &str) {}
            fn failed(&self) {}
        }
        let last = Arc::new(Last::default());
        let sum = Sum::new(last.clone(), 2);
        sum.part(0).bytes(3, Some(10));
        assert_eq!(*lock(&last.0), (3, None));
        sum.part(1).bytes(4, Some(20));
        assert_eq!(*lock(&last.0), (7, Some(30)));
    }
}
