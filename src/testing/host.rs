use std::{fmt, io, sync::Arc};

use super::{
    answer::Answer, loopback::Loopback, recorded::Recorded, service::TestService, switch::Switch,
};

/// The logic of a server, whichever way the requests come.
pub(super) trait Site: Send + Sync + 'static {
    /// Answers a request that has a body, from its head alone, if it can.
    fn refuse_early(&self, head: &Recorded) -> Option<Answer>;

    /// Answers a request.
    fn answer(&self, request: Recorded) -> Answer;
}

/// What a connection needs to know of its server.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) site: Arc<dyn Site>,
    pub(super) switch: Arc<Switch>,
}

/// A server and the ways to it.
pub(super) struct Host {
    front: Front,
    loopback: Option<Loopback>,
    url: String,
}

impl Host {
    pub(super) async fn start(site: Arc<dyn Site>) -> io::Result<Self> {
        let front = Front { site, switch: Arc::new(Switch::new()) };
        let loopback = Loopback::start(front.clone()).await?;
        let url = format!("http://{}", loopback.address());
        Ok(Self { front, loopback: Some(loopback), url })
    }

    pub(super) fn in_process(site: Arc<dyn Site>, url: &str) -> Self {
        let front = Front { site, switch: Arc::new(Switch::new()) };
        Self { front, loopback: None, url: url.to_owned() }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn service(&self) -> TestService {
        TestService::new(self.front.clone())
    }

    pub(super) fn switch(&self) -> &Switch {
        &self.front.switch
    }

    pub(super) async fn stop(&self) {
        // The connections reset themselves when the switch goes off.
        self.front.switch.set(false);
        if let Some(loopback) = &self.loopback {
            loopback.stop().await;
        }
    }

    pub(super) fn resume(&self) -> io::Result<()> {
        // First the switch: a connection made in between would take itself for refused.
        self.front.switch.set(true);
        match &self.loopback {
            Some(loopback) => loopback.resume(),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}
