//! Servers for your tests: a scriptable [`AuthorizationServer`] and a [`ProtectedApi`] that takes
//! its tokens.
//!
//! Both come in two ways that behave alike. `start()` listens on a free port of 127.0.0.1, for real
//! clients. `in_process()` needs no sockets: the server is a tower service, all waiting is
//! `tokio::time`, and so a test in [paused time] passes hours in an instant. (Do not mix them:
//! paused time runs on while a socket is waited for.)
//!
//! Both answer as a good server would, until told otherwise by a [`Reply`], and record what they
//! get.
//!
//! ```
//! use tower::ServiceExt as _;
//! use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthorizationServer::in_process();
//! server.client("orders", "s3cr3t").script(Reply::status(503).header("retry-after", "5"));
//! let api = ProtectedApi::in_process(&server);
//!
//! // The first token request meets the script, the second one an honest server.
//! for expected in [503, 200] {
//!     let request = http::Request::post(server.token_endpoint())
//!         .header("content-type", "application/x-www-form-urlencoded")
//!         .body("grant_type=client_credentials&client_id=orders&client_secret=s3cr3t".to_owned())?;
//!     assert_eq!(server.service().oneshot(request).await?.status(), expected);
//! }
//! assert_eq!((server.token_request_count(), server.issued()), (2, 1));
//!
//! // The API takes the server's tokens, as long as they live.
//! let token = server.issue_access_token("orders");
//! let call = || {
//!     http::Request::get(format!("{}/orders", api.url()))
//!         .header("authorization", format!("Bearer {token}"))
//!         .body(String::new())
//! };
//! assert_eq!(api.service().oneshot(call()?).await?.status(), 200);
//! server.revoke(&token);
//! assert_eq!(api.service().oneshot(call()?).await?.status(), 401);
//! assert_eq!(api.requests()[1].bearer(), Some(token.as_str()));
//! # Ok(())
//! # }
//! ```
//!
//! [paused time]: https://docs.rs/tokio/latest/tokio/time/fn.pause.html

mod answer;
mod api;
mod authority;
mod body;
mod clients;
mod connection;
mod endpoints;
mod fault;
mod guard;
mod host;
mod loopback;
mod recorded;
mod reply;
mod script;
mod service;
mod switch;
mod tokens;
mod wire;

pub use api::ProtectedApi;
pub use authority::AuthorizationServer;
pub use body::ReplyBody;
pub use fault::ConnectionError;
pub use recorded::Recorded;
pub use reply::Reply;
pub use service::{TestFuture, TestService};
pub use tokens::Rotation;
