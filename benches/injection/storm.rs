use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    designs::{Design, Tokens, floor, ours},
    rounds::Size,
};

/// Latencies while tokens are swapped: ours, and in turns with it a static header under the same
/// storm. On a machine that is not idle the last columns are the machine's, for both alike.
pub(crate) fn table(tokens: &Tokens, size: &Size) -> String {
    let mut text = format!("swaps, kept service, ns a request over {BATCH} at a time\n");
    let heads = ["p50", "p99", "p99.9", "p99.99", "most"];
    let _ = writeln!(text, "  {:<10} {:<26} {}", "swaps/s", "", columns(&heads));
    for rate in [0, 100, 1000] {
        let designs = [floor(BYTES), ours(tokens, BYTES)];
        let (swaps, samples) = storm(tokens, rate, &designs, size.samples);
        for (design, mut samples) in designs.iter().zip(samples) {
            samples.sort_unstable();
            let at = |per_myriad: usize| {
                let index = (samples.len() * per_myriad / 10_000).min(samples.len() - 1);
                samples.get(index).map_or(0, |time| time / BATCH as u64).to_string()
            };
            let figures = [at(5_000), at(9_900), at(9_990), at(9_999), at(10_000)];
            let _ = writeln!(text, "  {swaps:<10.0} {:<26} {}", design.name, columns(&figures));
        }
    }
    text
}

/// Samples both designs in turns while tokens are swapped; also returns the swaps of a second that
/// were reached.
fn storm(tokens: &Tokens, rate: u64, designs: &[Design], count: usize) -> (f64, Vec<Vec<u64>>) {
    let done = AtomicBool::new(false);
    let mut samples = vec![Vec::with_capacity(count); designs.len()];
    let swaps = thread::scope(|scope| {
        let swapper = scope.spawn(|| swap(tokens, rate, &done));
        for _ in 0..count {
            for (design, samples) in designs.iter().zip(&mut samples) {
                let time = design.run(BATCH, false).as_nanos();
                samples.push(u64::try_from(time).unwrap_or(u64::MAX));
            }
        }
        done.store(true, Ordering::Relaxed);
        swapper.join().expect("the swapper does not panic")
    });
    (swaps, samples)
}

fn swap(tokens: &Tokens, rate: u64, done: &AtomicBool) -> f64 {
    let start = std::time::Instant::now();
    let mut swaps = 0;
    while !done.load(Ordering::Relaxed) {
        if rate == 0 {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let refreshed = tokens.runtime.block_on(tokens.of(BYTES).refresh());
        refreshed.expect("a token");
        swaps += 1;
        let due = Duration::from_secs(1) * swaps / u32::try_from(rate).unwrap_or(1);
        // Two without a pause between them would make the refresher sleep.
        thread::sleep(due.saturating_sub(start.elapsed()).max(Duration::from_micros(300)));
    }
    f64::from(swaps) / start.elapsed().as_secs_f64()
}

fn columns(texts: &[impl AsRef<str>]) -> String {
    texts.iter().fold(String::new(), |line, text| format!("{line}{:>9}", text.as_ref()))
}

/// Enough for the clock to tell, few enough for a swap to show.
const BATCH: usize = 16;
const BYTES: usize = 200;
