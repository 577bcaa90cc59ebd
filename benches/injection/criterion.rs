use std::time::Duration;

use criterion::{BenchmarkId, Criterion};

use crate::designs::{self, Tokens};

/// Each design by itself, on one thread, with the statistics of criterion.
pub(crate) fn run(tokens: &Tokens, filter: &str, quick: bool) {
    let time = Duration::from_millis(if quick { 50 } else { 3000 });
    let mut criterion = Criterion::default()
        .with_filter(filter)
        .warm_up_time(time / 3)
        .measurement_time(time)
        .sample_size(if quick { 10 } else { 100 });
    for (group, cloned) in [("kept", false), ("cloned", true)] {
        let mut group = criterion.benchmark_group(group);
        for bytes in [200, 4096] {
            for design in designs::all(tokens, bytes) {
                group.bench_function(BenchmarkId::new(design.name, bytes), |bencher| {
                    bencher.iter_custom(|requests| {
                        design.run(usize::try_from(requests).unwrap_or(usize::MAX), cloned)
                    });
                });
            }
        }
    }
    criterion.final_summary();
}
