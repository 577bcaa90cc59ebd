//! A small reverse proxy that puts tokens on the requests of callers that cannot do so themselves.
//!
//! ```sh
//! cargo run --example gateway --all-features                     # a demo, with servers of its own
//! cargo run --example gateway --all-features -- gateway.toml     # with your configuration
//! ```
//!
//! `gateway.toml` in this directory shows what can be configured. The gateway's own paths are
//! `/status` (to look at), `/metrics` (Prometheus), `/healthz` and `/readyz`; `grafana.json` is a
//! dashboard of the metrics. Whoever reaches the gateway can use its tokens: let nobody but its
//! callers reach it. It ends on Ctrl-C or SIGTERM, after the requests that are under way.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]
#![allow(unreachable_pub, reason = "an example has no public interface")]

mod bench;
mod demo;
mod history;
mod page;
mod proxy;
mod routes;
mod settings;
mod timeline;
mod upstream;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tower_oauth::BoxError;

use routes::Gateway;
use settings::Settings;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let arguments = Arguments::read()?;
    let recorder = routes::install_recorder()?;
    if arguments.bench {
        return bench::run(recorder).await;
    }
    let (settings, demo) = if let Some(path) = &arguments.configuration {
        (Settings::load(path)?, None)
    } else {
        let (settings, demo) = demo::start().await?;
        (settings, Some(demo))
    };
    let listener = TcpListener::bind(&settings.listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let gateway = Gateway::new(&settings, recorder)?;
    println!("listening on {url}");
    println!("to look at: {url}/status");
    let demo = demo.map(|demo| tokio::spawn(demo.play(url)));

    let ending = gateway.clone();
    let (ended, until) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, gateway.router()).with_graceful_shutdown(async move {
        arguments.end().await;
        // From here on, whoever balances load sees that this one is going.
        ending.end();
        drop(ended);
    });
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        outcome = &mut server => outcome?,
        _ = until => {
            println!("ending");
            if let Some(demo) = demo {
                demo.abort();
            }
            // Bounded: a stream without an end would hold it for ever.
            if timeout(DRAIN, server).await.is_err() {
                eprintln!("some requests were still under way");
            }
        }
    }
    gateway.shutdown().await;
    Ok(())
}

/// How long requests may take that are under way at the end.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Arguments {
    configuration: Option<PathBuf>,
    duration: Option<Duration>,
    bench: bool,
}

impl Arguments {
    fn read() -> Result<Self, BoxError> {
        let mut read = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => read.bench = true,
                "--for" => {
                    let seconds = arguments.next().unwrap_or_default();
                    let seconds = seconds.trim_end_matches('s').parse();
                    let seconds = seconds.map_err(|_| "--for takes seconds, such as 5s")?;
                    read.duration = Some(Duration::from_secs(seconds));
                }
                option if option.starts_with('-') => {
                    return Err(format!(
                        "unknown option {option}\n\
                         usage: gateway [CONFIGURATION.toml] [--for SECONDS] [--bench]"
                    )
                    .into());
                }
                path => read.configuration = Some(path.into()),
            }
        }
        Ok(read)
    }

    /// Until it should end.
    async fn end(&self) {
        let interrupted = async {
            #[cfg(unix)]
            {
                use tokio::signal::unix::{SignalKind, signal};
                if let Ok(mut terminated) = signal(SignalKind::terminate()) {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => {}
                        _ = terminated.recv() => {}
                    }
                    return;
                }
            }
            let _ = tokio::signal::ctrl_c().await;
        };
        match self.duration {
            Some(duration) => tokio::select! {
                () = interrupted => {}
                () = sleep(duration) => {}
            },
            None => interrupted.await,
        }
    }
}
