use std::{
    sync::{Barrier, Mutex},
    thread,
};

use crate::designs::{BARE, Design, FLOOR};

/// How much is measured.
pub(crate) struct Size {
    pub(crate) rounds: usize,
    /// Requests of one thread in a round.
    pub(crate) requests: usize,
    /// Samples of each design in a storm.
    pub(crate) samples: usize,
}

impl Size {
    pub(crate) const FULL: Self = Self { rounds: 201, requests: 5_000, samples: 400_000 };
    pub(crate) const QUICK: Self = Self { rounds: 5, requests: 200, samples: 2_000 };
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) bytes: usize,
    pub(crate) threads: usize,
    pub(crate) cloned: bool,
}

pub(crate) struct Comparison {
    pub(crate) setting: Setting,
    pub(crate) rows: Vec<Row>,
}

/// Medians over all rounds.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Nanoseconds for one request.
    pub(crate) nanoseconds: f64,
    /// Nanoseconds beyond the bare service of the same round.
    pub(crate) net: f64,
    /// Of the time of the static header in the same round.
    pub(crate) ratio: f64,
}

/// Runs the designs in turns, on as many threads at once as the setting says.
pub(crate) fn compare(designs: &[Design], setting: Setting, size: &Size) -> Comparison {
    let barrier = Barrier::new(setting.threads);
    // Nanoseconds for one request, by round and design, summed up over the threads.
    let sums = Mutex::new(vec![vec![0.0; designs.len()]; size.rounds]);
    thread::scope(|scope| {
        for _ in 0..setting.threads {
            scope.spawn(|| {
                let mut own = vec![vec![0.0; designs.len()]; size.rounds];
                for (round, times) in own.iter_mut().enumerate() {
                    for step in 0..designs.len() {
                        // A design does not always follow the same one.
                        let at = (step * STRIDE + round) % designs.len();
                        let Some((design, time)) = designs.get(at).zip(times.get_mut(at)) else {
                            unreachable!("it is taken modulo the number of designs");
                        };
                        barrier.wait();
                        let elapsed = design.run(size.requests, setting.cloned);
                        *time = nanoseconds(elapsed, size.requests);
                    }
                }
                let mut sums = sums.lock().expect("no thread panics");
                for (sum, time) in sums.iter_mut().flatten().zip(own.iter().flatten()) {
                    *sum += time;
                }
            });
        }
    });
    let sums = sums.into_inner().expect("no thread panics");
    Comparison { setting, rows: rows(designs, &sums, setting.threads) }
}

fn rows(designs: &[Design], sums: &[Vec<f64>], threads: usize) -> Vec<Row> {
    let column = |name: &str| -> Vec<f64> {
        let at = designs.iter().position(|design| design.name == name);
        let of = |round: &Vec<f64>| at.and_then(|at| round.get(at)).copied().unwrap_or(f64::NAN);
        sums.iter()
            .map(|round| of(round) / f64::from(u32::try_from(threads).unwrap_or(1)))
            .collect()
    };
    let (floor, bare) = (column(FLOOR), column(BARE));
    let row = |design: &Design| {
        let times = column(design.name);
        let pairs = |other: &[f64], combine: fn(f64, f64) -> f64| {
            median(times.iter().zip(other).map(|(time, other)| combine(*time, *other)).collect())
        };
        Row {
            name: design.name,
            nanoseconds: median(times.clone()),
            net: pairs(&bare, |time, bare| time - bare),
            ratio: pairs(&floor, |time, floor| time / floor),
        }
    };
    designs.iter().map(row).collect()
}

fn nanoseconds(elapsed: std::time::Duration, requests: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / f64::from(u32::try_from(requests).unwrap_or(u32::MAX))
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Has no divisor in common with the number of designs, so that each gets its turn.
const STRIDE: usize = 3;
