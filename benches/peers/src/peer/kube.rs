use std::{convert::Infallible, error::Error, fs};

use kube_client::{Config, client::ConfigExt};
use tower::util::MapErr;
use tower_layer::Layer;

use crate::{
    cost::{Bench, TOKEN_BYTES},
    service::{Bare, ORIGIN, call, request},
};

/// Its layer, with the token in a file that it reads again every minute: how a pod is set up.
pub fn cost(bench: &mut Bench<'_>) {
    let path = std::env::temp_dir().join(format!("peers-token-{}", std::process::id()));
    fs::write(&path, "t".repeat(TOKEN_BYTES)).expect("the token can be written");
    let mut config = Config::new(ORIGIN.parse().expect("a URL"));
    config.auth_info.token_file = Some(path.display().to_string());
    let layer = config.auth_layer().expect("a layer").expect("there is a token");
    // Its layer asks for this error.
    let boxed = |never: Infallible| -> Box<dyn Error + Send + Sync> { match never {} };
    let mut bare = MapErr::new(Bare, boxed);
    let mut service = layer.layer(bare.clone());
    bench.row_over(
        "kube-client, token file",
        async || call(&mut bare, request()).await,
        async || call(&mut service, request()).await,
    );
    fs::remove_file(&path).expect("it is still there");
}
