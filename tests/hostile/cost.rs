//! What it costs to read an answer.

use std::time::Duration;

use allocation_counter::measure;

/// What a reader is given at most, as the crate's default has it.
pub(crate) const CAP: usize = 1024 * 1024;

/// Reads answers of this shape, a small one and one of the largest size, and checks what that costs.
pub(crate) fn check(name: &str, shape: &dyn Fn(usize) -> Vec<u8>, read: &dyn Fn(&[u8])) {
    check_up_to(CAP, name, shape, read);
}

/// The same, where another size is the largest.
pub(crate) fn check_up_to(
    cap: usize,
    name: &str,
    shape: &dyn Fn(usize) -> Vec<u8>,
    read: &dyn Fn(&[u8]),
) {
    let (small, large) = (shape(cap / 8), shape(cap));
    assert!(large.len() <= cap && large.len() > cap / 2, "{name}: {} bytes", large.len());
    let before = time_of(|| read(&small)).max(Duration::from_millis(1));
    let mut memory = 0;
    let after = time_of(|| memory = measure(|| read(&large)).bytes_max);
    assert!(memory <= 4 * cap as u64, "{name}: {memory} bytes of {cap}");
    // Eight times the size. What is quadratic takes 64 times as long.
    assert!(after < before * 32, "{name}: {before:?} became {after:?}");
}

/// The processor time of this thread: other work on the machine does not count.
fn time_of(run: impl FnOnce()) -> Duration {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
    };
    let before = now();
    run();
    now().saturating_sub(before)
}
