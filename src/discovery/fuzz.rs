//! What holds for every metadata document.
#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

use std::net::IpAddr;

use super::{
    metadata::{EndpointKind, Metadata},
    trust::Trust,
};
use crate::{error::Error, http::Endpoint};

/// A document of the issuer `https://idp.example/realm`.
pub fn metadata(data: &[u8]) {
    let Ok(issuer) = Endpoint::parse("issuer", ISSUER, false) else { return };
    let Ok(trust) = Trust::new([&issuer], None, false) else { return };
    let metadata = match Metadata::parse(data, ISSUER, trust) {
        Ok(Ok(metadata)) => metadata,
        Ok(Err(_)) => return,
        Err(error) => return printable(&error),
    };
    assert_eq!(metadata.issuer(), ISSUER);
    for kind in KINDS {
        for mtls in [false, true] {
            match metadata.locate(kind, mtls) {
                Ok(url) => safe(&url),
                Err(error) => printable(&error),
            }
        }
        let lists = [metadata.auth_methods(kind), metadata.auth_algorithms(kind)];
        lists.into_iter().filter_map(Result::err).for_each(|error| printable(&error));
    }
    #[cfg(feature = "dpop")]
    let _ = metadata.proof_algorithms();
}

/// No document leads into a network that only this machine can reach.
fn safe(url: &Endpoint) {
    assert!(url.is_https());
    let host = url.uri().host().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    assert!(!host.is_empty() && !host.eq_ignore_ascii_case("localhost"), "{host}");
    match literal.parse() {
        Ok(IpAddr::V4(address)) => {
            assert!(!address.is_loopback() && !address.is_private() && !address.is_link_local());
        }
        Ok(IpAddr::V6(address)) => assert!(!address.is_loopback() && !address.is_unspecified()),
        Err(_) => {}
    }
}

fn printable(error: &Error) {
    let shown = error.to_string();
    assert!(shown.len() <= 1024 && shown.bytes().all(|b| (0x20..0x7f).contains(&b)), "{shown}");
}

const ISSUER: &str = "https://idp.example/realm";
const KINDS: [EndpointKind; 6] = [
    EndpointKind::Authorization,
    EndpointKind::Token,
    EndpointKind::Revocation,
    EndpointKind::Introspection,
    EndpointKind::PushedAuthorizationRequest,
    EndpointKind::DeviceAuthorization,
];
