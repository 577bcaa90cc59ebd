//! A wrong configuration gets one clear error.

use crate::harness::refused;

const GOOD: &str = "[upstreams.orders]\nurl = 'https://api.example'\n[upstreams.orders.oauth]\n\
                    token_endpoint = 'https://idp.example/token'\n\
                    client = { id = 'gateway', secret = { file = 'DIRECTORY/secret' } }\n";

#[tokio::test]
async fn whatever_is_wrong_is_said_in_one_line_with_its_place() {
    for (from, to, said) in [
        ("url = 'https://api.example'", "url = 'nowhere'", "upstreams.orders.url: "),
        ("url = 'https://api.example'", "", "url"),
        ("url =", "colour = 'red'\nurl =", "colour"),
        ("token_endpoint =", "token_endpiont =", "token_endpiont"),
        ("https://idp.example/token", "http://idp.example/token", "https"),
        ("DIRECTORY/secret", "DIRECTORY/nothing", "secret"),
        ("secret = { file = 'DIRECTORY/secret' }", "secret = 'hunter2'", "secret"),
        ("url =", "path = '/status'\nurl =", "one of the gateway's own"),
        ("[upstreams.orders]", "[upstreams.orders", "line 1: "),
    ] {
        assert!(GOOD.contains(from));
        let output = refused(&GOOD.replacen(from, to, 1)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{to}: {text}");
        assert!(text.contains(said), "{to}: {text}");
        assert!(!text.contains("hunter2") && !text.contains("panicked"), "{text}");
        assert!(text.lines().count() <= 3, "{text}");
    }
}
