use super::{
    builder::GrantBuilder,
    client_credentials::{ClientCredentials, ClientCredentialsOptions},
};
use crate::{client_auth::ClientAuth, error::ConfigError, secret::SecretSource};

impl ClientCredentials {
    /// Starts with what the workload identity of Azure Kubernetes Service puts in the environment:
    /// `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_FEDERATED_TOKEN_FILE` and, outside of the public
    /// cloud, `AZURE_AUTHORITY_HOST`.
    ///
    /// The token in that file authenticates the client, as [`ClientAuth::assertion`] does; it is
    /// read again for every exchange. The scope has to be set: the API's identifier and `/.default`.
    ///
    /// ```no_run
    /// use tower_oauth::ClientCredentials;
    ///
    /// # fn main() -> Result<(), tower_oauth::ConfigError> {
    /// let source = ClientCredentials::entra_workload_identity()?
    ///     .scope("https://graph.microsoft.com/.default")
    ///     .build()?;
    /// # let _ = source;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Setting`], which names the variable, when one is not set, or the tenant is not
    /// the name or id of one.
    pub fn entra_workload_identity() -> Result<GrantBuilder<ClientCredentialsOptions>, ConfigError>
    {
        workload_identity(|name| std::env::var(name).ok())
    }
}

fn workload_identity(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<GrantBuilder<ClientCredentialsOptions>, ConfigError> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    let needed = |name| {
        let reason = "the workload identity webhook sets it; is the pod labelled for it?";
        let value = "empty".to_owned();
        given(name).ok_or(ConfigError::Setting { name, value, reason })
    };
    let tenant = needed("AZURE_TENANT_ID")?;
    if !tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) {
        let (name, value) = ("AZURE_TENANT_ID", format!("{tenant:?}"));
        let reason = "a tenant has letters, digits, dots and hyphens only";
        return Err(ConfigError::Setting { name, value, reason });
    }
    let token = SecretSource::file(needed("AZURE_FEDERATED_TOKEN_FILE")?);
    let auth = ClientAuth::assertion(needed("AZURE_CLIENT_ID")?, token);
    let host = given("AZURE_AUTHORITY_HOST").unwrap_or_else(|| PUBLIC_CLOUD.to_owned());
    let host = host.trim_end_matches('/');
    Ok(ClientCredentials::builder(format!("{host}/{tenant}/oauth2/v2.0/token"), auth))
}

const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::*;
    use crate::{
        http::Transport,
        source::{FetchContext, TokenSource},
    };

    const ASSERTION: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW0ifQ.c2ln_-";

    fn environment<'a>(values: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| values.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
    }

    #[tokio::test]
    async fn wif_03_entra_gets_the_files_token_as_it_is() {
        let file = std::env::temp_dir().join(format!("tower-oauth-entra-{}", std::process::id()));
        std::fs::write(&file, format!("{ASSERTION}\n")).unwrap();
        let path = file.to_str().unwrap();
        for (host, url) in [
            (None, "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"),
            (
                Some("https://login.microsoftonline.us/"),
                "https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token",
            ),
        ] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let ledger = seen.clone();
            let transport =
                Transport::new(tower::service_fn(move |request: http::Request<Bytes>| {
                    let (parts, body) = request.into_parts();
                    let has_header = parts.headers.contains_key("authorization");
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    ledger.lock().unwrap().push((parts.uri.to_string(), has_header, body));
                    let answer =
                        r#"{"access_token":"t","token_type":"Bearer","expires_in":"3599"}"#;
                    async move { Ok::<_, std::io::Error>(http::Response::new(answer.to_owned())) }
                }));
            let mut values = vec![
                ("AZURE_CLIENT_ID", "6731de76"),
                ("AZURE_TENANT_ID", "contoso.example"),
                ("AZURE_FEDERATED_TOKEN_FILE", path),
            ];
            values.extend(host.map(|host| ("AZURE_AUTHORITY_HOST", host)));
            let source = workload_identity(environment(&values))
                .unwrap()
                .scope("https://graph.microsoft.com/.default")
                .transport(transport)
                .build()
                .unwrap();
            source.fetch(FetchContext::first()).await.unwrap();
            let body = format!(
                "grant_type=client_credentials\
                 &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default\
                 &client_id=6731de76\
                 &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                 &client_assertion={ASSERTION}"
            );
            assert_eq!(*seen.lock().unwrap(), [(url.to_owned(), false, body)]);
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn wif_03_a_missing_variable_is_named_and_a_tenant_is_no_path() {
        let all = [
            ("AZURE_CLIENT_ID", "id"),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/f"),
        ];
        assert!(workload_identity(environment(&all)).is_ok());
        for (at, (name, _)) in all.iter().enumerate() {
            for bad in [None, Some("")] {
                let mut values = all.to_vec();
                match bad {
                    Some(bad) => values[at].1 = bad,
                    None => drop(values.remove(at)),
                }
                let error = workload_identity(environment(&values)).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        for bad in ["a/b", "a?b", "a#", "../x", "a b", "é"] {
            let mut values = all;
            values[1].1 = bad;
            assert!(workload_identity(environment(&values)).is_err(), "{bad}");
        }
    }
}
