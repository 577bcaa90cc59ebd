//! A token for each of many tenants: customers, users, accounts of one service.
//!
//! [`TokenPool`] is to many tokens what [`TokenHandle`](crate::TokenHandle) is to one. A tenant is
//! made the first time its key is seen, by the function you give; each has a source, a token, a
//! back-off and a single flight of its own, so that nothing of one tenant ever reaches another.
//! [`OAuthLayer::keyed`](crate::OAuthLayer::keyed) takes the key from each request.
//!
//! ```
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_oauth::{OAuthLayer, TokenPool, TokenSet, source_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_oauth::BoxError> {
//! let pool = TokenPool::builder(|tenant: &String| {
//!     let tenant = tenant.clone();
//!     // In real life a grant, with this tenant's credentials.
//!     source_fn(move |_| std::future::ready(TokenSet::bearer(format!("token-of-{tenant}"))))
//! })
//! .max_tenants(10_000)
//! .spawn();
//!
//! let client = tower::service_fn(|request: http::Request<String>| async move {
//!     assert_eq!(request.headers()["authorization"], "Bearer token-of-acme");
//!     Ok::<_, std::convert::Infallible>(http::Response::new(()))
//! });
//! let tenant = |request: &http::Request<String>| {
//!     request.headers().get("x-tenant")?.to_str().ok().map(str::to_owned)
//! };
//! let api = ServiceBuilder::new()
//!     .layer(OAuthLayer::keyed(pool.clone(), "https://api.example".parse()?, tenant))
//!     .service(client);
//!
//! let request = http::Request::get("https://api.example/orders")
//!     .header("x-tenant", "acme")
//!     .body(String::new())?;
//! api.oneshot(request).await?;
//! assert_eq!(pool.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The key
//!
//! Two requests with equal keys get the same token, so the key must name everything that the token
//! depends on: beside the tenant, the scopes, the audience or the resource, the subject, if they
//! differ from request to request. Use a type with a field for each, and sets for what has no order:
//! `(tenant, BTreeSet<scope>)`. Better an `Arc<str>` than a `String`, as a key is made for each
//! request.
//!
//! # Who is kept, and for how long
//!
//! - A token is renewed before it expires if it was used at least once. One that nobody has used
//!   runs out; if it is used after its refresh point, it is renewed at once, behind the request.
//! - Without a token, a tenant's source is asked only while somebody asks for the token: a failing
//!   tenant that nobody uses is left alone.
//! - A tenant without a request for [`idle_timeout`](TokenPoolBuilder::idle_timeout) (1 h) is
//!   dropped, and its token wiped. At [`max_tenants`](TokenPoolBuilder::max_tenants) one makes room for
//!   another: first one that never had a token, then the least recently used one whose token its source
//!   can fetch again, and last one with a refresh token.
//!
//! With a tenant goes the last token set, and the refresh token in it, which is the tenant's session. A
//! new tenant of the same key begins with the refresh token that its source was made with; if the server
//! has rotated that one, it refuses it, and revokes the grant. So put a store around each source with a
//! refresh token (`Persisted`, feature `store`): then a tenant that was dropped goes on with what the
//! store has. Without one, set `max_tenants` above the number of sessions and `idle_timeout` to
//! `Duration::MAX`.
//!
//! # Many tenants at once
//!
//! Each fetch runs on a task of its own, [`max_parallel`](TokenPoolBuilder::max_parallel) (32) at the
//! same time. Fetches that are slow do not count, so that servers which never answer hold up nobody but
//! their own tenants: with the defaults, a new tenant whose server answers has its token within a second
//! plus what its fetch takes, even if thousands of others hang.
//! [`max_slow`](TokenPoolBuilder::max_slow) (2 048) bounds the slow ones, and says how they are shared and
//! what is true of smaller pools. A tenant whose last fetch gave no token in 5 s waits for a share of its
//! own until a fetch succeeds again.
//!
//! A request that does not wait, for less than a second or because too many others do, fails, but causes
//! a fetch all the same. A new tenant whose callers have waited for longer and have all gone leaves the
//! queue.
//!
//! Where more fetches are wanted than may run, these begin in turn: one for a token that a caller misses,
//! one for a renewal, and one for a tenant that never had a token; of those, the newest and the oldest
//! alternately. So neither does a crowd of new tenants make those in use lose their tokens, nor are new
//! ones kept out. The pool does not know which server a source asks: the limits are
//! those of all servers together.
//!
//! # What it costs
//!
//! A request with a token at hand takes no lock and makes no allocation: one lookup in a lock-free
//! map and one atomic pointer. It writes no memory that threads share but the reference count in
//! the tenant's header; once a second, one request reads the clock and wakes the keeper, so that idle
//! times are exact to a second. One task keeps the time for all tenants.

mod builder;
mod calendar;
mod chunks;
mod fetch;
mod handle;
mod keeper;
mod ledger;
mod life;
mod lists;
mod overruns;
mod permits;
mod queue;
mod recency;
mod rules;
mod shared;
mod slab;
mod source;
mod tenant;
mod timeline;
mod wait;

pub use builder::TokenPoolBuilder;
pub use handle::TokenPool;
pub use keeper::PoolKeeper;
pub(crate) use tenant::TenantId;
