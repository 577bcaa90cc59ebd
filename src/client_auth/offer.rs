use super::auth::ClientAuth;
use crate::error::{Error, ErrorKind, printable};

/// What an authorization server says about client authentication, as far as it is known. What is
/// malformed fails only who needs it.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "private-key-jwt"),
    expect(dead_code, reason = "only an assertion has an audience and an algorithm")
)]
pub(crate) struct Offer<'a> {
    /// The validated issuer.
    pub(crate) issuer: Option<&'a str>,
    /// The methods it supports.
    pub(crate) methods: Result<Option<Vec<&'a str>>, Error>,
    /// The algorithms in which it takes assertions.
    pub(crate) algorithms: Result<Option<Vec<&'a str>>, Error>,
}

impl Offer<'_> {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self { issuer: None, methods: Ok(None), algorithms: Ok(None) };
}

/// Chooses among the credentials that a client holds. A secret is sent only if nothing better is
/// supported: the order is that of the methods' strength, and then the server's.
///
/// Nothing is tried: the choice is made once, before a request.
pub(super) fn choose(held: &[ClientAuth], offer: &Offer<'_>) -> Result<ClientAuth, Error> {
    // RFC 8414 §2: "If omitted, the default is "client_secret_basic""
    let methods = offer.methods.as_ref().map_err(Clone::clone)?.as_deref();
    let methods = methods.unwrap_or(&["client_secret_basic"]);
    let supported = methods.iter().filter_map(|method| {
        let auth = held.iter().find_map(|auth| auth.by_method(method))?;
        Some((strength(method), auth))
    });
    // The first of those that are equal.
    supported.min_by_key(|(strength, _)| *strength).map(|(_, auth)| auth).ok_or_else(|| {
        let supported: Vec<_> = methods.iter().take(10).map(|name| printable(name, 40)).collect();
        let held: Vec<_> = held.iter().map(ClientAuth::method).collect();
        Error::new(
            ErrorKind::Configuration,
            format!(
                "the authorization server supports {} for client authentication, and the client \
                 is configured for {}",
                some(&supported.join(", ")),
                some(&held.join(", "))
            ),
        )
    })
}

fn some(list: &str) -> &str {
    if list.is_empty() { "nothing" } else { list }
}

fn strength(method: &str) -> u8 {
    match method {
        "private_key_jwt" | "tls_client_auth" | "self_signed_tls_client_auth" => 0,
        "client_secret_jwt" => 1,
        "none" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(held: &ClientAuth, methods: Option<&[&str]>) -> Result<&'static str, Error> {
        let offer = Offer { methods: Ok(methods.map(<[_]>::to_vec)), ..Offer::UNKNOWN };
        held.for_server(&offer).map(|auth| auth.method())
    }

    #[test]
    fn trq_07_a_secret_goes_where_the_server_wants_it() {
        let secret = ClientAuth::secret("orders", "s");
        for (methods, expected) in [
            (None, "client_secret_basic"),
            (Some(&["client_secret_basic"][..]), "client_secret_basic"),
            (Some(&["client_secret_post"]), "client_secret_post"),
            (Some(&["none", "client_secret_post", "client_secret_basic"]), "client_secret_post"),
            (Some(&["private_key_jwt", "client_secret_basic"]), "client_secret_basic"),
        ] {
            assert_eq!(chosen(&secret, methods).unwrap(), expected, "{methods:?}");
        }
        for methods in [&["private_key_jwt"][..], &["none"], &[], &["CLIENT_SECRET_BASIC", "a\nb"]]
        {
            let error = chosen(&secret, Some(methods)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = error.to_string();
            assert!(text.contains("client_secret_basic") && !text.contains('\n'), "{text}");
            assert!(methods.first().is_none_or(|name| text.contains(name)), "{text}");
        }
    }

    #[test]
    fn trq_07_an_explicit_method_is_used_whatever_the_server_says() {
        for (auth, method) in [
            (ClientAuth::basic("orders", "s"), "client_secret_basic"),
            (ClientAuth::post("orders", "s"), "client_secret_post"),
            (ClientAuth::none("orders"), "none"),
        ] {
            assert_eq!(chosen(&auth, Some(&["private_key_jwt"])).unwrap(), method);
            assert_eq!(chosen(&auth, None).unwrap(), method);
        }
    }

    #[cfg(feature = "private-key-jwt")]
    #[test]
    fn trq_07_a_key_comes_before_a_secret() {
        use super::super::ClientAssertion;
        use crate::jose::{SigningAlgorithm, SigningKey};

        let key = SigningKey::pem("not read", SigningAlgorithm::Es256);
        let secret = ClientAuth::secret("orders", "s");
        let shared = ClientAssertion::client_secret("orders", "s", "https://idp.example");
        let signed = ClientAssertion::private_key("orders", key, "https://idp.example");
        let held = ClientAuth::any_of([secret, shared.into(), signed.into()]);
        for (methods, expected) in [
            (&["client_secret_basic", "private_key_jwt"][..], "private_key_jwt"),
            (&["client_secret_basic", "client_secret_jwt"], "client_secret_jwt"),
            (&["client_secret_post", "none"], "client_secret_post"),
        ] {
            assert_eq!(chosen(&held, Some(methods)).unwrap(), expected, "{methods:?}");
        }
        assert_eq!(chosen(&held, None).unwrap(), "client_secret_basic");
        assert!(chosen(&held, Some(&["none"])).is_err());
    }
}
