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

/// Returns the sinks of several downloads, whose bytes are added up for one step.
pub(super) fn parts(sink: &Arc<dyn StepSink>, count: usize) -> Vec<Arc<dyn StepSink>> {
    let bytes = Arc::new(Mutex::new(vec![(0, None); count]));
    let part = |index| -> Arc<dyn StepSink> {
        Arc::new(Part {
            sink: Arc::clone(sink),
            bytes: Arc::clone(&bytes),
            index,
        })
    };
    (0..count).map(part).collect()
}

/// The bytes of a download that are done, and their total.
type Bytes = (u64, Option<u64>);

/// The sink of one of the downloads. The step is ended by its owner, once.
struct Part {
    sink: Arc<dyn StepSink>,
    /// Those of all downloads.
    bytes: Arc<Mutex<Vec<Bytes>>>,
    index: usize,
}

impl StepSink for Part {
    fn detail(&self, text: &str) {
        self.sink.detail(text);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        // Reported under the lock, so that the sum never seems to go back.
        let mut all = lock(&self.bytes);
        all[self.index] = (done, total);
        let done = all.iter().map(|(done, _)| done).sum();
        // Unknown until every part has begun.
        let total = all.iter().map(|(_, total)| *total).sum();
        self.sink.bytes(done, total);
    }
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
        }
        let last = Arc::new(Last::default());
        let sink: Arc<dyn StepSink> = last.clone();
        let parts = parts(&sink, 2);
        parts[0].bytes(3, Some(10));
        assert_eq!(*lock(&last.0), (3, None));
        parts[1].bytes(4, Some(20));
        assert_eq!(*lock(&last.0), (7, Some(30)));
    }
}
