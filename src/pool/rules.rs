use std::time::Duration;

use super::timeline::Timeline;
use crate::refresh::Policy;

/// What holds for every tenant of a pool.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) policy: Policy,
    pub(super) timeline: Timeline,
    pub(super) limits: Limits,
}

/// How much of everything there may be.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) max_tenants: usize,
    /// How many fetches may be under way that are not slow.
    pub(super) max_parallel: usize,
    /// How many that are, if that is set.
    pub(super) max_slow: Option<usize>,
    /// How many may wait for one tenant's token; the policy bounds how many wait in all.
    pub(super) max_waiting_per_tenant: usize,
    /// When a tenant is dropped.
    pub(super) idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tenants: 100_000,
            max_parallel: 32,
            max_slow: None,
            max_waiting_per_tenant: 1000,
            idle_timeout: Duration::from_secs(3600),
        }
    }
}

impl Limits {
    /// How many slow fetches may be under way.
    pub(super) fn max_slow(&self) -> usize {
        self.max_slow.unwrap_or_else(|| self.max_parallel.saturating_mul(SLOW_FOR_EACH))
    }

    /// How long a tenant must not have been used to make room for another one.
    pub(super) fn evictable_after(&self) -> Duration {
        self.idle_timeout.min(Duration::from_secs(60))
    }
}

/// How many slow fetches there may be for each one that is not.
const SLOW_FOR_EACH: usize = 64;
