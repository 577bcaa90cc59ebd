use google_cloud_auth::credentials::{CacheableResource, Credentials, user_account::Builder};
use http::Extensions;

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::{Bare, call, request},
};

/// The headers that it hands out, copied into the request.
pub fn cost(bench: &mut Bench<'_>) {
    let account = bench.runtime.block_on(async {
        let account = start(&Endpoint::start(3600).await);
        account.headers(Extensions::new()).await.expect("the first token comes");
        account
    });
    bench.row("google-cloud-auth", async || {
        let headers = account.headers(Extensions::new()).await.expect("headers");
        let CacheableResource::New { data, .. } = headers else {
            unreachable!("nothing is cached")
        };
        let mut request = request();
        request.headers_mut().extend(data);
        call(&mut Bare, request).await;
    });
}

/// Due after two seconds: it renews a token four minutes before its end.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(242).await;
    let account = start(&endpoint);
    let peer = authorize(move || {
        let account = account.clone();
        async move {
            let headers = account.headers(Extensions::new()).await;
            headers.map(drop).map_err(|error| error.to_string())
        }
    });
    point::run("google-cloud-auth", scenario, &endpoint, peer, quick).await
}

fn start(endpoint: &Endpoint) -> Credentials {
    let user = serde_json::json!({
        "type": "authorized_user",
        "client_id": "client",
        "client_secret": "secret",
        "refresh_token": "refresh",
    });
    Builder::new(user).with_token_uri(&endpoint.url).build().expect("credentials")
}
