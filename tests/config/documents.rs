//! One configuration in every format, and what it becomes.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use serde::Deserialize;
use tower_oauth::config::{
    ClientConfig, ClientMethod, Clients, GrantConfig, OAuthConfig, RefreshTokenConfig, SecretRef,
    read,
};

const TOML: &str = r#"
    issuer = "https://idp.example"
    origins = "https://api.example"
    scope = "orders.read orders.write"
    strict = true
    body_limit = 4096
    timeout = "1m 30s"
    parameters = { tenant = "blue" }

    [client]
    id = "orders"
    secret = { env = "ORDERS_SECRET" }
    method = "client_secret_post"

    [handle]
    margin = [0.1, 0.2]
    wait = "500ms"

    [layer]
    existing_authorization = "refuse"
"#;

const YAML: &str = r"
issuer: https://idp.example
origins: [https://api.example]
scopes: [orders.read, orders.write]
strict: true
body_limit: 4096
timeout: 90s
parameters: {tenant: blue}
client:
  id: orders
  secret: {env: ORDERS_SECRET}
  method: [client_secret_post]
handle:
  margin: [0.1, 0.2]
  wait: 500ms
layer:
  existing_authorization: refuse
";

const JSON: &str = r#"{
    "issuer": "https://idp.example",
    "origins": ["https://api.example"],
    "scope": ["orders.read", "orders.write"],
    "strict": true,
    "body_limit": 4096,
    "timeout": "90s",
    "parameters": {"tenant": "blue"},
    "client": {
        "id": "orders",
        "secret": {"env": "ORDERS_SECRET"},
        "method": "client_secret_post"
    },
    "handle": {"margin": [0.1, 0.2], "wait": "500ms"},
    "layer": {"existing_authorization": "refuse"}
}"#;

/// As a process has them; everything is text.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("APP__ISSUER", "https://idp.example"),
    ("APP__ORIGINS", "https://api.example"),
    ("APP__SCOPE", "orders.read orders.write"),
    ("APP__STRICT", "true"),
    ("APP__BODY_LIMIT", "4096"),
    ("APP__TIMEOUT", "90s"),
    ("APP__PARAMETERS__TENANT", "blue"),
    ("APP__CLIENT__ID", "orders"),
    ("APP__CLIENT__SECRET__ENV", "ORDERS_SECRET"),
    ("APP__CLIENT__METHOD", "client_secret_post"),
    ("APP__HANDLE__WAIT", "500ms"),
    ("APP__LAYER__EXISTING_AUTHORIZATION", "refuse"),
];

fn environment(variables: &[(&str, &str)]) -> config::Config {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: HashMap<_, _> = variables.iter().map(owned).collect();
    let source = config::Environment::with_prefix("APP").prefix_separator("__").separator("__");
    config::Config::builder().add_source(source.source(Some(variables))).build().unwrap()
}

#[test]
fn every_format_gives_the_same_configuration() {
    let toml = super::toml(TOML).unwrap();
    assert_eq!(toml.scope, ["orders.read", "orders.write"]);
    assert_eq!(toml.timeout, Some(Duration::from_secs(90)));
    assert_eq!(toml.handle.wait, Some(Duration::from_millis(500)));
    let client = toml.client.as_ref().unwrap();
    assert_eq!(client.secret, Some(SecretRef::Env("ORDERS_SECRET".to_owned())));
    assert_eq!(client.method.0, [ClientMethod::ClientSecretPost]);

    let json = &mut serde_json::Deserializer::from_str(JSON);
    assert_eq!(OAuthConfig::from_deserializer(json).unwrap(), toml);
    let yaml = yaml_serde::Deserializer::from_str(YAML);
    assert_eq!(OAuthConfig::from_deserializer(yaml).unwrap(), toml);

    // A pair of numbers cannot be had from an environment by this loader.
    let mut without_margin = toml;
    without_margin.handle.margin = None;
    let environment = environment(ENVIRONMENT);
    assert_eq!(OAuthConfig::from_deserializer(environment).unwrap(), without_margin);
}

/// A file for what is the same everywhere, the environment for what is not.
#[test]
fn the_environment_overrides_a_file() {
    let overrides = environment(&[("APP__ISSUER", "https://idp.test.example")]);
    let file: config::Value = toml::from_str::<config::Value>(TOML).unwrap();
    let mut loader = config::Config::builder();
    for (name, value) in file.into_table().unwrap() {
        loader = loader.set_default(name, value).unwrap();
    }
    let merged = loader.add_source(overrides).build().unwrap();
    let config = OAuthConfig::from_deserializer(merged).unwrap();
    assert_eq!(config.issuer.as_deref(), Some("https://idp.test.example"));
    assert_eq!(config.client.unwrap().id, "orders");
}

#[test]
fn a_configuration_may_stand_in_types_of_your_own() {
    #[derive(Deserialize)]
    struct Settings {
        listen: String,
        upstreams: Vec<Upstream>,
    }
    #[derive(Deserialize)]
    struct Upstream {
        oauth: OAuthConfig,
    }
    let text = r#"
        listen = "127.0.0.1:8080"
        [[upstreams]]
        oauth = { issuer = "https://one.example" }
        [[upstreams]]
        oauth = { issuer = "https://two.example", timeout = "soon" }
    "#;
    let document = |text: &str| toml::Deserializer::parse(text).map(read::<Settings, _>);
    let error = document(text).unwrap().err().unwrap().to_string();
    assert!(error.starts_with("upstreams[1].oauth.timeout: "), "{error}");
    let settings = document(&text.replace("soon", "1s")).unwrap().unwrap();
    assert_eq!((&*settings.listen, settings.upstreams.len()), ("127.0.0.1:8080", 2));
    assert_eq!(settings.upstreams[1].oauth.timeout, Some(Duration::from_secs(1)));
}

#[test]
fn a_configuration_made_in_code_is_written_and_read_back() {
    let mut config = super::toml(TOML).unwrap();
    config.client =
        Some(ClientConfig::new("orders").secret(SecretRef::File("/run/secrets/orders".into())));
    let token = SecretRef::Env("REFRESH_TOKEN".to_owned());
    config.grant = GrantConfig::RefreshToken(RefreshTokenConfig::new(token));
    let written = toml::to_string(&config).unwrap();
    assert_eq!(super::toml(&written).unwrap(), config, "{written}");

    let mut clients = Clients::default();
    clients.0.insert("orders".to_owned(), config);
    let written = serde_json::to_string(&clients).unwrap();
    let read = Clients::from_deserializer(&mut serde_json::Deserializer::from_str(&written));
    assert_eq!(read.unwrap(), clients);
}

proptest! {
    #[test]
    fn no_document_makes_the_reader_panic(text in "[a-z_=\\[\\]{}\": .0-9\\n]{0,80}") {
        if let Ok(document) = toml::Deserializer::parse(&text) {
            let _ = Clients::from_deserializer(document);
        }
        let _ = Clients::from_deserializer(yaml_serde::Deserializer::from_str(&text));
        let _ = Clients::from_deserializer(&mut serde_json::Deserializer::from_str(&text));
    }
}
