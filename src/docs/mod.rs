//! What is worth reading before, and beside, the reference.

#[doc = include_str!("choosing_a_grant.md")]
pub mod choosing_a_grant {}

#[doc = include_str!("layer_order.md")]
#[doc = "# A request's way\n\n"]
#[doc = include_str!("request.svg")]
#[doc = "\n\n# A token's life\n\n"]
#[doc = include_str!("life.svg")]
pub mod layer_order {}

#[cfg(all(feature = "config", feature = "openapi"))]
#[doc = include_str!("moving_from_outsystems.md")]
pub mod moving_from_outsystems {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("performance.md")]
#[doc = include_str!("injection.svg")]
pub mod performance {}

#[doc = include_str!("reliability.md")]
pub mod reliability {}

#[doc = include_str!("security.md")]
pub mod security {}

#[cfg(feature = "store")]
#[doc = include_str!("storing_tokens.md")]
pub mod storing_tokens {}
