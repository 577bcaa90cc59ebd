//! Drafts of configurations from OpenAPI documents.
#![cfg(test)]
#![cfg(feature = "openapi")]

use log_watch as _;

use proptest::prelude::*;
use serde_json::{Value, json};
use tower_oauth::{
    config::{ClientConfig, SecretRef},
    openapi::{FlowKind, OpenApi, OpenApiError, Protection},
};

/// A document with this scheme, this server and two operations.
fn document(scheme: &Value, servers: &Value) -> Value {
    json!({
        "openapi": "3.0.3",
        "info": { "title": "Orders", "version": "1" },
        "servers": servers,
        "components": { "securitySchemes": {
            "orders": scheme,
            "key": { "type": "apiKey", "in": "header", "name": "x-key" },
        } },
        "paths": {
            "/orders": {
                "get": { "operationId": "listOrders", "security": [{ "orders": ["read"] }, { "key": [] }] },
                "post": { "operationId": "addOrder", "security": [{ "orders": ["write"] }] },
            },
            "/health": { "get": { "security": [] } },
        },
        "security": [{ "orders": ["audit"] }],
    })
}

fn client_credentials() -> Value {
    json!({ "type": "oauth2", "flows": { "clientCredentials": {
        "tokenUrl": "https://idp.example/token",
        "refreshUrl": "https://idp.example/refresh",
        "scopes": { "read": "Read orders", "write": "Write orders", "admin": "Everything" },
    } } })
}

fn servers() -> Value {
    json!([{ "url": "https://api.example/v1" }])
}

fn read(document: &Value) -> Result<OpenApi, OpenApiError> {
    OpenApi::read(document, None)
}

#[test]
fn client_credentials_become_a_draft_with_the_scopes_that_operations_need() {
    let parsed = read(&document(&client_credentials(), &servers())).unwrap();
    let config = parsed.config().unwrap();
    assert_eq!(config.token_endpoint.as_deref(), Some("https://idp.example/token"));
    assert_eq!(config.scope, ["read", "write"]);
    assert_eq!(config.origins, ["https://api.example"]);
    assert!(config.client.is_none());

    let flow = parsed.schemes()[0].flow(FlowKind::ClientCredentials).unwrap();
    assert_eq!(flow.refresh_url.as_deref(), Some("https://idp.example/refresh"));
    assert_eq!(flow.scopes["admin"], "Everything");

    let operations = parsed.operations();
    let of = |id: &str| operations.iter().find(|o| o.id.as_deref() == Some(id)).unwrap();
    assert_eq!((&*of("listOrders").method, &*of("listOrders").path), ("GET", "/orders"));
    assert!(of("listOrders").scopes("orders").iter().eq(["read"].iter()));
    assert_eq!(of("listOrders").alternatives.len(), 2);
    let health = operations.iter().find(|operation| operation.path == "/health").unwrap();
    assert!(health.alternatives.is_empty(), "its own security is none");
}

#[test]
fn security_at_the_top_is_that_of_operations_without_their_own() {
    let mut document = document(&client_credentials(), &servers());
    document["paths"]["/orders"]["get"].as_object_mut().unwrap().remove("security");
    assert_eq!(read(&document).unwrap().config().unwrap().scope, ["audit", "write"]);
}

#[test]
fn without_operations_that_name_scopes_all_that_are_listed_are_taken() {
    let mut document = document(&client_credentials(), &servers());
    document["paths"] = json!({});
    assert_eq!(read(&document).unwrap().config().unwrap().scope, ["admin", "read", "write"]);
}

#[test]
fn json_and_yaml_of_every_version_3_read_alike() {
    for version in ["3.0.0", "3.0.4", "3.1.0", "3.1.1"] {
        let mut document = document(&client_credentials(), &servers());
        document["openapi"] = version.into();
        let json = OpenApi::parse(&document.to_string()).unwrap().config().unwrap();
        let yaml = yaml_serde::to_string(&document).unwrap();
        assert!(!yaml.starts_with('{'));
        assert_eq!(OpenApi::parse(&yaml).unwrap().config().unwrap(), json, "{version}");
    }
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_draft_that_is_completed_works() {
    let mut config = read(&document(&client_credentials(), &servers())).unwrap().config().unwrap();
    let unfinished = config.build().unwrap_err().to_string();
    assert!(unfinished.contains("client credentials grant is for clients"), "{unfinished}");
    let secret = SecretRef::DangerLiteral("s3cr3t".into());
    config.client = Some(ClientConfig::new("orders").secret(secret));
    config.build().unwrap();
}

#[test]
fn a_scheme_that_needs_a_user_is_told_so() {
    let code = json!({ "type": "oauth2", "flows": {
        "authorizationCode": {
            "authorizationUrl": "https://idp.example/authorize",
            "tokenUrl": "https://idp.example/token",
            "scopes": {},
        },
        "implicit": { "authorizationUrl": "https://idp.example/authorize", "scopes": {} },
    } });
    let error = read(&document(&code, &servers())).unwrap().config().unwrap_err();
    let OpenApiError::NeedsUser { scheme, flows } = &error else { panic!("{error:?}") };
    assert_eq!(
        (&**scheme, &**flows),
        ("orders", ["authorizationCode", "implicit"].map(str::to_owned).as_slice())
    );
    assert!(error.to_string().contains("grant refresh_token"), "{error}");
}

#[test]
fn openid_connect_becomes_an_issuer() {
    for (url, issuer) in [
        ("https://idp.example/.well-known/openid-configuration", Some("https://idp.example")),
        ("https://idp.example/t1/.well-known/openid-configuration", Some("https://idp.example/t1")),
        (
            "https://idp.example/.well-known/oauth-authorization-server/t1",
            Some("https://idp.example/t1"),
        ),
        ("https://idp.example/metadata.json", None),
    ] {
        let scheme = json!({ "type": "openIdConnect", "openIdConnectUrl": url });
        let parsed = read(&document(&scheme, &servers())).unwrap();
        assert_eq!(parsed.schemes()[0].protection, Protection::OpenIdConnect(url.to_owned()));
        match (parsed.config(), issuer) {
            (Ok(config), Some(issuer)) => {
                assert_eq!(config.issuer.as_deref(), Some(issuer));
                assert!(config.token_endpoint.is_none());
            }
            (Err(error), None) => assert!(error.to_string().contains("discovery.metadata_url")),
            (outcome, _) => panic!("{url}: {outcome:?}"),
        }
    }
}

#[test]
fn of_several_schemes_the_only_usable_one_is_taken_or_one_has_to_be_named() {
    let mut document = document(&client_credentials(), &servers());
    let schemes = &mut document["components"]["securitySchemes"];
    schemes["user"] = json!({ "type": "oauth2", "flows": { "password": {
        "tokenUrl": "https://idp.example/token", "scopes": {} } } });
    assert!(read(&document).unwrap().config().is_ok());

    document["components"]["securitySchemes"]["other"] = json!({ "type": "openIdConnect", "openIdConnectUrl": "https://idp.example/.well-known/openid-configuration" });
    let parsed = read(&document).unwrap();
    let error = parsed.config().unwrap_err();
    assert!(error.to_string().ends_with("orders, other, user"), "{error}");
    assert_eq!(parsed.config_for("other").unwrap().issuer.as_deref(), Some("https://idp.example"));
    assert_eq!(parsed.config_for("key"), Err(OpenApiError::NoScheme));
}

#[test]
fn servers_become_origins_with_the_defaults_of_their_variables() {
    let servers = json!([
        { "url": "https://{region}.api.example:{port}/{base}", "variables": {
            "region": { "default": "eu", "enum": ["eu", "us"] },
            "port": { "default": "8443" },
            "base": { "default": "v1" } } },
        { "url": "https://eu.api.example:8443/v2" },
        { "url": "http://api.example" },
        { "url": "http://localhost:8080" },
    ]);
    let mut document = document(&client_credentials(), &servers);
    document["paths"]["/orders"]["servers"] = json!([{ "url": "https://orders.example" }]);
    document["paths"]["/orders"]["post"]["servers"] = json!([{ "url": "https://write.example/a" }]);
    let parsed = read(&document).unwrap();
    let all = [
        "https://eu.api.example:8443",
        "http://api.example",
        "http://localhost:8080",
        "https://orders.example",
        "https://write.example",
    ];
    assert_eq!(parsed.origins(), all);
    // No token may go to plain http.
    let safe: Vec<_> = all.into_iter().filter(|origin| *origin != "http://api.example").collect();
    assert_eq!(parsed.config().unwrap().origins, safe);
}

#[test]
fn relative_urls_start_where_the_document_was_found() {
    let relative = json!([{ "url": "/v1" }, { "url": "//other.example/v1" }]);
    let document = document(&client_credentials(), &relative);
    let error = read(&document).unwrap_err();
    assert!(error.to_string().contains("it is relative: say where"), "{error}");
    let found = "https://api.example/openapi.json";
    let parsed = OpenApi::read(&document, Some(found)).unwrap();
    assert_eq!(parsed.origins(), ["https://api.example", "https://other.example"]);

    // Without any server, the document's own is.
    let mut alone = document.clone();
    alone.as_object_mut().unwrap().remove("servers");
    alone["components"]["securitySchemes"]["orders"]["flows"]["clientCredentials"]["tokenUrl"] =
        "/token".into();
    let config = OpenApi::read(&alone, Some(found)).unwrap().config().unwrap();
    assert_eq!(config.origins, ["https://api.example"]);
    assert_eq!(config.token_endpoint.as_deref(), Some("https://api.example/token"));
    assert!(read(&alone).is_err());
}

#[test]
fn references_are_followed_within_the_document_and_no_further() {
    let mut document = document(&json!({ "$ref": "#/components/x-schemes/real" }), &servers());
    document["components"]["x-schemes"] = json!({ "real": client_credentials() });
    document["paths"]["/orders"] = json!({ "$ref": "#/components/pathItems/orders" });
    document["components"]["pathItems"] =
        json!({ "orders": { "get": { "security": [{ "orders": ["a/b~c"] }] } } });
    assert_eq!(read(&document).unwrap().config().unwrap().scope, ["a/b~c"]);

    for (reference, expected) in [
        ("#/components/securitySchemes/orders", "its references have no end"),
        ("#/components/nothing", "leads nowhere"),
        ("other.yaml#/orders", "leads out of the document"),
    ] {
        document["components"]["securitySchemes"]["orders"] = json!({ "$ref": reference });
        let error = read(&document).unwrap_err().to_string();
        assert!(error.starts_with("components.securitySchemes.orders: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_document_that_says_something_else_gets_one_error_that_names_its_place() {
    let good = document(&client_credentials(), &servers());
    let with = |pointer: &str, value: Value| {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        read(&document).and_then(|parsed| parsed.config()).unwrap_err().to_string()
    };
    let flow = "/components/securitySchemes/orders/flows/clientCredentials";
    for (pointer, value, expected) in [
        ("/openapi", json!("2.0"), "version \"2.0\", and only version 3 is read"),
        ("/openapi", json!(3), "version \"3\""),
        (
            "/components/securitySchemes",
            json!([]),
            "components.securitySchemes: it is not an object",
        ),
        (
            "/components/securitySchemes/orders",
            json!({}),
            "components.securitySchemes.orders: its type is missing",
        ),
        ("/components/securitySchemes/orders/flows", json!(null), "orders.flows: it is missing"),
        (&format!("{flow}/tokenUrl"), json!(""), "clientCredentials: tokenUrl is missing"),
        (&format!("{flow}/tokenUrl"), json!("token"), "tokenUrl \"token\" is not an absolute URL"),
        (&format!("{flow}/tokenUrl"), json!(1), "tokenUrl is not text"),
        (
            "/paths/~1orders/post/security",
            json!("orders"),
            "paths./orders.post.security: it is not a list",
        ),
        (
            "/paths/~1orders/post/security",
            json!([{ "orders": "write" }]),
            "orders has no list of scopes",
        ),
        ("/servers", json!({}), "servers: it is not a list"),
        ("/servers", json!([]), "servers: it is missing"),
        ("/servers/0", json!({}), "servers[0]: its url is missing"),
        (
            "/servers/0/url",
            json!("https://{x}.example"),
            "servers[0]: the variable \"x\" of its url has no default",
        ),
        (
            "/servers/0/url",
            json!("https://{x.example"),
            "servers[0]: a brace in its url has no other half",
        ),
        ("/servers/0/url", json!("ftp://api.example"), "server \"ftp://api.example\" cannot be"),
        ("/servers/0/url", json!("https://u:p@api.example"), "it has user information"),
        ("/servers/0/url", json!("http://api.example"), "it is plain http, and no other is https"),
    ] {
        let error = with(pointer, value);
        assert!(error.contains(expected), "{error}\nis not\n{expected}");
    }
    assert!(matches!(OpenApi::parse("{\"openapi\": "), Err(OpenApiError::Syntax(_))));
    assert!(matches!(OpenApi::parse("a: [\u{1b}"), Err(OpenApiError::Syntax(_))));
    assert!(matches!(OpenApi::parse("just text"), Err(OpenApiError::Version(None))));
    assert!(matches!(OpenApi::parse("swagger: '2.0'"), Err(OpenApiError::Version(Some(_)))));
    assert_eq!(OpenApi::parse(&" ".repeat(33 << 20)).err(), Some(OpenApiError::TooLarge));
    assert_eq!(read(&json!({ "openapi": "3.1.0" })).unwrap().config(), Err(OpenApiError::NoScheme));
}

/// A small file that would become a large value.
#[test]
fn aliases_of_aliases_are_refused() {
    let alias = |level: u32| {
        let items = vec![format!("*x{}", level - 1); 9].join(", ");
        format!("x{level}: &x{level} [{items}]\n")
    };
    let first = "openapi: 3.1.0\nx0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
    let text = first.to_owned() + &(1..12).map(alias).collect::<String>();
    assert!(matches!(OpenApi::parse(&text), Err(OpenApiError::Syntax(_))));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(OpenApi::parse(&format!("{{\"a\": {deep}}}")).is_err());
    assert!(OpenApi::parse(&format!("a: {deep}")).is_err());
}

proptest! {
    #[test]
    fn no_member_makes_the_reader_panic(pointer in 0usize..9, text in "[ -~]{0,40}") {
        let mut document = document(&client_credentials(), &servers());
        let flow = "/components/securitySchemes/orders/flows/clientCredentials";
        let pointers = [
            "/openapi", "/servers", "/servers/0", "/servers/0/url", "/components",
            "/paths/~1orders", "/paths/~1orders/get/security/0", &format!("{flow}/tokenUrl"), flow,
        ];
        for value in [json!(text), json!({ "$ref": text }), json!([text]), json!({ &text: text })] {
            *document.pointer_mut(pointers[pointer]).unwrap() = value;
            for url in [None, Some("https://api.example/")] {
                if let Ok(parsed) = OpenApi::read(&document, url) {
                    let _ = parsed.config();
                }
            }
            document = self::document(&client_credentials(), &servers());
        }
        let _ = OpenApi::parse(&text);
    }
}
