//! All chance of a run: one generator, made of the seed.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Draws. What is drawn depends on the seed and on the order of draws, and on nothing else.
///
/// Everybody has dice of their own: tokio wakes those who wait for one thing in an order that no seed
/// decides, and who comes first must not change what another draws.
pub struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Those of somebody who comes of the owner.
    pub fn fork(&self) -> Self {
        Self(Mutex::new(self.rng().fork()))
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.rng().f64() < probability
    }

    /// Any part of a whole.
    pub fn part(&self) -> f64 {
        self.rng().f64()
    }

    pub fn below(&self, end: usize) -> usize {
        self.rng().usize(..end)
    }

    pub fn pick<T: Copy>(&self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    /// Seconds, each order of magnitude as likely as the others.
    pub fn seconds(&self, least: f64, most: f64) -> Duration {
        let draw = self.rng().f64();
        Duration::from_secs_f64(least * (most / least).powf(draw))
    }

    /// The time to the next of events that come at random.
    pub fn gap(&self, mean: Duration) -> Duration {
        let draw = self.rng().f64().max(1e-6);
        mean.mul_f64(-draw.ln())
    }
}
