//! Redirects that a reqwest client below the layer may follow. A user calls this where the client is
//! built.

use reqwest::{
    Url,
    redirect::{Action, Attempt, Policy},
};

use super::Origins;
use crate::http::of_url;

impl Origins {
    /// Returns a redirect policy for the reqwest client below the layer: it follows redirects to the
    /// allowed origins only, and at most 10 of them. At any other redirect the client stops, and the
    /// caller gets the `3xx` response.
    ///
    /// Build every reqwest client below the layer with it, or with
    /// [`Policy::none`](reqwest::redirect::Policy::none). The layer puts the token on a request
    /// before the client follows a redirect, so only the client can keep the token from another
    /// origin, and its default policy does not: reqwest 0.12 and 0.13 use the redirect follower of
    /// tower-http 0.6, which builds each hop from the headers of the first request. It removes
    /// `Authorization` at the first hop to a foreign origin, and sends it again at the second. It
    /// never removes the `DPoP` header.
    ///
    /// With [`danger_any_origin`](Self::danger_any_origin) the client follows redirects to every
    /// origin, but not from `https` to `http`.
    ///
    /// Where tenants share the origins of a keyed layer, and one tenant's API must not get another
    /// tenant's token, use `Policy::none`: this policy allows redirects between their origins.
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_oauth::{FixedToken, OAuthLayer, Origins, TokenHandle, TokenSet};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_oauth::BoxError> {
    /// let origins: Origins = "https://api.example".parse()?;
    /// let client = reqwest::Client::builder().redirect(origins.redirect_policy()).build()?;
    ///
    /// let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("abc")?));
    /// let api = ServiceBuilder::new().layer(OAuthLayer::new(tokens, origins)).service(client);
    /// # let _ = api;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn redirect_policy(&self) -> Policy {
        let origins = self.clone();
        Policy::custom(move |attempt| origins.judge(attempt))
    }

    fn judge(&self, attempt: Attempt<'_>) -> Action {
        let follows = self.follows(attempt.previous(), attempt.url());
        if follows { attempt.follow() } else { attempt.stop() }
    }

    /// Returns whether a redirect is followed. The first of the previous URLs is the request's own.
    fn follows(&self, previous: &[Url], next: &Url) -> bool {
        let downgrades =
            || next.scheme() == "http" && previous.iter().any(|url| url.scheme() == "https");
        previous.len() <= MAX_REDIRECTS
            && self.allow(of_url(next))
            && !(self.is_any() && downgrades())
    }
}

/// As reqwest's default.
const MAX_REDIRECTS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn follows(origins: &Origins, previous: &[&str], next: &str) -> bool {
        let previous: Vec<Url> = previous.iter().map(|url| url.parse().unwrap()).collect();
        origins.follows(&previous, &next.parse().unwrap())
    }

    #[test]
    fn f105_only_redirects_to_allowed_origins_are_followed() {
        let origins = Origins::new(["https://api.example", "https://eu.api.example:8443"]).unwrap();
        for good in
            ["https://api.example/b", "https://API.example:443/b", "https://eu.api.example:8443/"]
        {
            assert!(follows(&origins, &["https://api.example/a"], good), "{good}");
        }
        for bad in [
            "http://api.example/b",
            "https://api.example:8443/",
            "https://api.example./",
            "https://api.example@evil.example/",
            "https://evil.example/https://api.example/",
            "https://sub.api.example/",
            "ftp://api.example/",
            "data:,x",
        ] {
            assert!(!follows(&origins, &["https://api.example/a"], bad), "{bad}");
        }
    }

    #[test]
    fn f105_any_origin_is_followed_but_not_out_of_tls() {
        let any = Origins::danger_any_origin();
        assert!(follows(&any, &["https://a.example/"], "https://b.example/"));
        assert!(follows(&any, &["http://a.example/"], "http://b.example/"));
        assert!(follows(&any, &["http://a.example/"], "https://b.example/"));
        assert!(!follows(&any, &["https://a.example/"], "http://a.example/"));
        assert!(!follows(&any, &["https://a.example/", "https://b.example/"], "http://b.example/"));
        // Listed by the user, in so many words.
        let both = Origins::danger_allow_http(["https://a.example", "http://a.example"]).unwrap();
        assert!(follows(&both, &["https://a.example/"], "http://a.example/"));
    }

    #[test]
    fn f105_the_eleventh_redirect_is_not_followed() {
        let origins: Origins = "https://api.example".parse().unwrap();
        let url = "https://api.example/";
        assert!(follows(&origins, &[url; 10], url));
        assert!(!follows(&origins, &[url; 11], url));
    }
}
