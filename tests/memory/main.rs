//! No secret stays in memory once it is dropped, and none can be serialised by accident.
#![cfg(test)]

#[cfg(all(target_os = "linux", feature = "private-key-jwt"))]
mod keys;
#[cfg(target_os = "linux")]
mod life;
#[cfg(target_os = "linux")]
mod scan;
mod types;
