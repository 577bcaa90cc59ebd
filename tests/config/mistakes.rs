//! Every kind of wrong configuration gets one clear error, and no error has a secret.

use tower_oauth::{
    ConfigError,
    config::{Clients, OAuthConfig},
};

/// What is wrong with this configuration, read or built.
fn error_of(text: &str) -> ConfigError {
    match super::toml(text) {
        Err(error) => error,
        Ok(config) => config.build().expect_err(text),
    }
}

const GOOD: &str = r#"
    token_endpoint = "https://idp.example/token"
    origins = ["https://api.example"]
    client = { id = "orders", secret = { danger_literal = "hunter2" } }
"#;

/// The good configuration with one part of it replaced.
fn with(part: &str, other: &str) -> String {
    assert!(GOOD.contains(part));
    GOOD.replace(part, other)
}

#[tokio::test]
async fn the_good_configuration_is_good() {
    super::toml(GOOD).unwrap().build().unwrap();
}

#[tokio::test]
async fn each_mistake_gets_one_error_that_names_its_place() {
    let token = "token_endpoint = \"https://idp.example/token\"";
    let secret = "secret = { danger_literal = \"hunter2\" }";
    for (text, expected) in [
        // Keys.
        (with("origins", "orgins"), "orgins: there is no such key; the keys are token_endpoint,"),
        (with("id =", "client_id ="), "client.client_id: there is no such key"),
        (with("id = \"orders\", ", ""), "client: the key id is missing"),
        (
            with("danger_literal", "literal"),
            "client.secret: there is no such key; the keys are env, file",
        ),
        // Values.
        (with(token, "token_endpoint = 5"), "token_endpoint: this number is not a string"),
        (
            with(token, &format!("{token}\ntimeout = 5")),
            "timeout: this number is not a duration with its unit, such as \"30s\"",
        ),
        (with(token, &format!("{token}\ntimeout = \"5\"")), "timeout: this text is not a duration"),
        (with(token, &format!("{token}\nhandle.wait = \"soon\"")), "handle.wait: this text is not"),
        (with(token, &format!("{token}\nstrict = \"yes\"")), "strict: this text is not a boolean"),
        (
            with(token, &format!("{token}\ngrant = \"password\"")),
            "grant: it is none of client_credentials, refresh_token,",
        ),
        (
            with(token, &format!("{token}\ngrant = {{ refresh_token = {{}} }}")),
            "grant.refresh_token: the key token is missing",
        ),
        (
            with(secret, "method = \"basic\""),
            "client.method: it is none of client_secret, client_secret_basic,",
        ),
        (
            with(token, &format!("{token}\nlayer.foreign_origin = \"drop\"")),
            "layer.foreign_origin: it is none of",
        ),
        // URLs.
        (
            with(token, "token_endpoint = \"idp.example/token\""),
            "token endpoint \"idp.example/token\" cannot be used: it is not a URL",
        ),
        (with(token, "token_endpoint = \"http://idp.example/token\""), "it must be https"),
        (with(token, "issuer = \"idp\""), "issuer \"idp\" cannot be used"),
        (
            with("https://api.example", "https://api.example/v1"),
            "origin \"https://api.example/v1\" cannot be used: it is scheme, host and port only",
        ),
        (with("[\"https://api.example\"]", "[]"), "origins: it has to say where the token may go"),
        // What belongs together.
        (with(token, ""), "token_endpoint or issuer has to say where tokens come from"),
        (
            with(token, &format!("{token}\nissuer = \"https://idp.example\"")),
            "token_endpoint: there is an issuer too",
        ),
        (
            with(token, &format!("{token}\ndiscovery.timeout = \"1s\"")),
            "discovery: it takes an issuer",
        ),
        (with(secret, ""), "client authentication \"none\" cannot be used"),
        (with(secret, "method = \"client_secret_post\""), "client.secret: it is missing"),
        (
            with(secret, &format!("{secret}, method = \"none\"")),
            "client.secret: client.method has no method that uses it",
        ),
        (
            with(
                secret,
                &format!(
                    "{secret}, key = {{ jwk = {{ env = \"K_1\" }} }}, method = \"client_secret_basic\""
                ),
            ),
            "client.key: client.method has no method that uses it",
        ),
        (
            with(token, &format!("{token}\ngrant = {{ file_token = {{ path = \"/t\" }} }}")),
            "grant.file_token: such a token is read from a file",
        ),
        // What the builders find.
        (with(token, &format!("{token}\nscope = [\"a b\"]")), "scope token \"a b\" cannot be used"),
        (
            with(token, &format!("{token}\nhandle.margin = [0.5, 0.1]")),
            "setting margin cannot be 0.5..0.1",
        ),
        (
            with(token, &format!("{token}\nparameters = {{ scope = \"a\" }}")),
            "parameter \"scope\" cannot be used",
        ),
        (with(token, &format!("{token}\ntimeout = \"0s\"")), "setting timeout cannot be 0"),
        (
            with(token, &format!("{token}\nlayer.refused_statuses = [403, 200]")),
            "setting layer.refused_statuses cannot be 200: a refusal has a status from 400 to 599",
        ),
        (
            with(token, &format!("{token}\nlayer.danger_any_origin = true")),
            "layer.danger_any_origin: there are origins too",
        ),
    ] {
        let error = error_of(&text);
        let shown = error.to_string();
        assert!(shown.contains(expected), "{shown}\nis not\n{expected}");
        assert!(!format!("{shown} {error:?}").contains("hunter2"), "{error:?}");
        assert!(!shown.contains('\n'), "{shown}");
    }
}

#[cfg(all(feature = "private-key-jwt", feature = "dpop"))]
#[tokio::test]
async fn each_mistake_about_a_key_gets_one_error_that_names_its_place() {
    let file = super::SecretFile::new("no-key", "hunter2");
    let key =
        |key: &str| with("secret = { danger_literal = \"hunter2\" }", &format!("key = {key}"));
    let literal = "{ danger_literal = \"hunter2\" }";
    for (text, expected) in [
        (key("{}"), "client.key: it is missing"),
        (key(&format!("{{ pem = {literal} }}")), "client.key.algorithm: a key in PEM signs with"),
        (
            key(&format!("{{ pem = {literal}, jwk = {literal} }}")),
            "client.key: a key is in PEM or a JWK, not both",
        ),
        (
            key(&format!("{{ jwk = {literal}, algorithm = \"ES256\" }}")),
            "client.key.algorithm: a JWK says",
        ),
        (key(&format!("{{ jwk = {literal} }}")), "client.assertion.audience: it is missing"),
        (with("origins", &format!("dpop.pem = {}\norigins", file.toml())), "dpop: "),
        (
            with("origins", "dpop.algorithm = \"RS256\"\norigins"),
            "dpop.algorithm: it is ES256 or EdDSA",
        ),
    ] {
        let error = error_of(&text);
        let shown = error.to_string();
        assert!(shown.starts_with(expected), "{shown}\nis not\n{expected}");
        assert!(!format!("{shown} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_told_at_once_with_its_place() {
    let secret = |reference: &str| with("{ danger_literal = \"hunter2\" }", reference);
    let empty = super::SecretFile::new("empty", "\n");
    let large = super::SecretFile::new("large", &"x".repeat(70_000));
    for (reference, expected) in [
        (
            "{ env = \"TOWER_OAUTH_NOT_SET\" }",
            "client.secret: the environment variable TOWER_OAUTH_NOT_SET is not set",
        ),
        (
            "{ file = \"/no/such/file\" }",
            "client.secret: the file \"/no/such/file\" cannot be read: No such file",
        ),
        ("{}", "client.secret: a reference to a secret"),
        ("{ env = \"A_1\", file = \"/b\" }", "client.secret: a secret comes from one place"),
        (&empty.toml(), "client.secret: the secret from file"),
        (&large.toml(), "is larger than 64 KiB"),
        // The secret itself, taken for a name or a path.
        ("{ env = \"hunter2\" }", "client.secret: the environment variable is not set"),
        ("{ file = \"hunter2\" }", "client.secret: the file cannot be read"),
    ] {
        let error = error_of(&secret(reference));
        assert!(error.to_string().contains(expected), "{error}\nis not\n{expected}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

/// TOML's own errors quote the line.
#[test]
fn a_secret_written_where_a_reference_belongs_is_refused_and_not_shown() {
    for value in ["\"hunter2\"", "4111", "4111.5", "true", "[\"hunter2\"]"] {
        let text = with("{ danger_literal = \"hunter2\" }", value);
        let error = super::toml(&text).unwrap_err();
        assert!(error.to_string().starts_with("client.secret"), "{error}");
        for secret in ["hunter2", "4111"] {
            assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
        }
    }
    let inline = super::toml(&with("{ danger_literal = \"hunter2\" }", "\"hunter2\"")).unwrap_err();
    assert!(inline.to_string().contains("put it into an environment variable or a file"));
}

#[test]
fn a_document_that_is_not_well_formed_has_a_place_and_no_excerpt() {
    let broken = "client: {id: orders, secret: hunter2\nscope: [";
    let yaml = OAuthConfig::from_deserializer(yaml_serde::Deserializer::from_str(broken));
    let broken = "{\"client\": {\"id\": \"orders\", \"secret\": hunter2";
    let json = OAuthConfig::from_deserializer(&mut serde_json::Deserializer::from_str(broken));
    for error in [yaml.unwrap_err(), json.unwrap_err()] {
        let shown = error.to_string();
        assert!(shown.contains("line ") && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    let twice = r#"{"issuer": "https://one.example", "issuer": "https://two.example"}"#;
    let json = &mut serde_json::Deserializer::from_str(twice);
    let error = OAuthConfig::from_deserializer(json).unwrap_err().to_string();
    assert!(error.contains("\"issuer\" is there twice"), "{error}");
    let both = "scope = \"a\"\nscopes = \"b\"";
    assert!(super::toml(both).is_err());
}

#[tokio::test]
async fn of_several_clients_the_one_that_is_wrong_is_named() {
    let clients = |text: &str| {
        Clients::from_deserializer(toml::Deserializer::parse(text).unwrap()).and_then(|c| c.build())
    };
    let good = GOOD.replace('\n', "\n        ");
    let text = format!("[good]\n{good}\n[stock]\n{good}");
    let built = clients(&text).unwrap();
    assert_eq!(built.keys().collect::<Vec<_>>(), ["good", "stock"]);

    let (head, tail) = text.rsplit_once("https://idp").unwrap();
    let error = clients(&format!("{head}ftp://idp{tail}")).unwrap_err();
    assert!(error.to_string().starts_with("client \"stock\": token endpoint"), "{error}");
    let (head, tail) = text.rsplit_once("origins").unwrap();
    let error = clients(&format!("{head}origin{tail}")).unwrap_err();
    assert!(error.to_string().starts_with("stock.origin: there is no such key"), "{error}");
}

#[test]
fn a_literal_secret_is_neither_shown_nor_written() {
    let config = super::toml(GOOD).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(toml::to_string(&config).is_err());
}
