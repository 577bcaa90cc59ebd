//! Two authorization servers and two APIs of this process' own, callers, and some trouble.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use tokio::time::{interval, sleep};
use tower_oauth::{
    BoxError,
    testing::{AuthorizationServer, ProtectedApi},
};

use crate::settings::Settings;

pub struct Demo {
    issuers: [AuthorizationServer; 2],
    apis: [ProtectedApi; 2],
    secret: PathBuf,
}

/// The servers, and the configuration of a gateway before them.
pub async fn start() -> Result<(Settings, Demo), BoxError> {
    let issuers = [AuthorizationServer::start().await?, AuthorizationServer::start().await?];
    let apis = [ProtectedApi::start(&issuers[0]).await?, ProtectedApi::start(&issuers[1]).await?];
    for (issuer, lifetime) in issuers.iter().zip([6, 15]) {
        issuer.client("gateway", "a secret").lifetime(Duration::from_secs(lifetime));
    }
    // As a configuration has it: secrets stand in files of their own.
    let secret = std::env::temp_dir().join(format!("gateway-demo-{}", std::process::id()));
    std::fs::write(&secret, "a secret")?;
    let mut text = "listen = '127.0.0.1:0'\n".to_owned();
    for ((name, issuer), api) in ["orders", "stock"].iter().zip(&issuers).zip(&apis) {
        write!(
            text,
            "[upstreams.{name}]\nurl = '{}'\n[upstreams.{name}.oauth]\n\
             token_endpoint = '{}'\nscope = '{name}.read'\n\
             client = {{ id = 'gateway', secret = {{ file = '{}' }} }}\n",
            api.url(),
            issuer.token_endpoint(),
            secret.display()
        )?;
    }
    Ok((Settings::parse(&text)?, Demo { issuers, apis, secret }))
}

impl Demo {
    /// Calls the gateway, and makes trouble: a token is revoked, then a server goes down for longer
    /// than a token lives.
    pub async fn play(self, url: String) {
        println!("two APIs are called; tokens live 6 s and 15 s");
        let calls = async {
            let http = reqwest::Client::new();
            let mut pace = interval(Duration::from_millis(50));
            for name in ["orders", "stock", "orders"].iter().cycle() {
                pace.tick().await;
                let request = http.get(format!("{url}/{name}/42"));
                tokio::spawn(async move { drop(request.send().await) });
            }
        };
        let trouble = async {
            loop {
                sleep(Duration::from_secs(3)).await;
                println!(">> somebody revokes the tokens of orders");
                self.issuers[0].revoke_access_tokens();
                sleep(Duration::from_secs(14)).await;
                println!(">> the authorization server of orders goes down");
                self.issuers[0].stop().await;
                sleep(Duration::from_secs(9)).await;
                println!(">> and is back");
                if self.issuers[0].resume().is_err() {
                    return;
                }
                sleep(Duration::from_secs(20)).await;
                // Every request is kept, for tests. A demo may run for days.
                self.apis.iter().for_each(ProtectedApi::reset_ledger);
                self.issuers.iter().for_each(AuthorizationServer::reset_ledger);
            }
        };
        tokio::join!(calls, trouble);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.secret);
    }
}
