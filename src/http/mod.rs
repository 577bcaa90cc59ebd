//! HTTP, as the two arms of the crate need it.
//!
//! Towards the authorization server: an `Endpoint` that is known to be usable, and a
//! [`Transport`], any tower HTTP client, bounded in time and size. Towards the API:
//! [`HttpRequest`] and [`HttpResponse`], what the middleware reads and writes.

#[cfg(feature = "reqwest")]
mod built_in;
mod endpoint;
mod form;
mod json;
mod message;
#[cfg(feature = "mtls")]
mod mtls;
mod retry_after;
mod screen;
mod transport;

pub(crate) use endpoint::{Endpoint, is_loopback, shown_url};
pub(crate) use form::{
    encoded_bound, form_encoded, push_form_encoded, push_percent_encoded, wiped_string,
};
pub(crate) use json::{BrokenJson, MOST_VALUES, Member, each_member, from_json, is_too_much};
#[cfg(feature = "reqwest")]
pub(crate) use message::of_url;
pub use message::{Authority, HttpRequest, HttpResponse, Target};
#[cfg(feature = "mtls")]
pub use mtls::{ClientCertificate, MutualTlsClient};
#[cfg(feature = "mtls")]
pub(crate) use mtls::{Identity, bind};
pub(crate) use retry_after::{date, retry_after, server_time};
pub(crate) use screen::screen_host;
pub use transport::Transport;
pub(crate) use transport::{Answer, Limits, body_limit};
