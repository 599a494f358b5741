//! Whether the threads of a runtime get round: each of them runs one task after another and then sleeps, unless a task keeps
//! it. The runtime counts both, and two looks tell.

use std::time::Duration;

use tokio::runtime::RuntimeMetrics;

/// What the last look saw of each thread.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<Seen>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// How often it went to sleep and woke; odd while it sleeps.
    turns: u64,
    /// Time at tasks, counted after every few of them.
    busy: Duration,
}

impl Rounds {
    /// How many threads have been at one task since the last look, which is this one's predecessor by a time in which no
    /// sound task keeps a thread.
    pub(super) fn hanging(&mut self, runtime: &RuntimeMetrics) -> usize {
        let look = |worker| Seen {
            turns: runtime.worker_park_unpark_count(worker),
            busy: runtime.worker_total_busy_duration(worker),
        };
        let now: Vec<_> = (0..runtime.num_workers()).map(look).collect();
        let hangs = |(was, is): &(&Seen, &Seen)| was == is && is.turns % 2 == 0;
        let hanging = self.0.iter().zip(&now).filter(hangs).count();
        self.0 = now;
        hanging
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    /// Looks until `expected` threads hang; fails the test if they never do.
    fn until_hanging(rounds: &mut Rounds, runtime: &Runtime, expected: usize) {
        let begun = Instant::now();
        while rounds.hanging(&runtime.metrics()) != expected {
            assert!(begun.elapsed() < Duration::from_secs(20), "{expected} threads hang: {rounds:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_thread_that_a_task_keeps_hangs_until_it_is_let_go() {
        let (runtime, mut rounds) = (runtime(), Rounds::default());
        let (go, wait) = mpsc::channel::<()>();
        let kept = runtime.spawn(async move { wait.recv().ok() });
        until_hanging(&mut rounds, &runtime, 1);
        go.send(()).unwrap();
        runtime.block_on(kept).unwrap();
        until_hanging(&mut rounds, &runtime, 0);
    }

    #[test]
    fn threads_with_nothing_to_do_and_threads_with_always_more_do_not_hang() {
        let (runtime, mut rounds) = (runtime(), Rounds::default());
        runtime.block_on(async { tokio::spawn(async {}).await.unwrap() });
        until_hanging(&mut rounds, &runtime, 0);
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                runtime.spawn(async {
                    loop {
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            let _ = rounds.hanging(&runtime.metrics());
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(rounds.hanging(&runtime.metrics()), 0, "{rounds:?}");
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
