//! A proxy that freezes connections: they stay open, and nothing passes. New ones pass.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// How often was frozen what was open then.
    frozen: watch::Sender<u64>,
    _serving: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frozen = watch::Sender::new(0);
        let mut serving = JoinSet::new();
        serving.spawn(listen(listener, to, frozen.clone()));
        Self { port, frozen, _serving: serving }
    }

    pub(crate) fn freeze(&self) {
        self.frozen.send_modify(|times| *times += 1);
    }
}

async fn listen(listener: TcpListener, to: u16, frozen: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut thawed = frozen.subscribe();
        let passed_by = *thawed.borrow_and_update();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(
                pass(from_client, to_server, thawed.clone(), passed_by),
                pass(from_server, to_client, thawed, passed_by),
            );
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut frozen: watch::Receiver<u64>,
    passed_by: u64,
) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            () = async { drop(frozen.wait_for(|times| *times > passed_by).await) } => {
                // Both ends stay open until the client gives up.
                while matches!(from.read(&mut bytes).await, Ok(1..)) {}
                return;
            }
        };
        match read {
            Ok(count @ 1..) if to.write_all(&bytes[..count]).await.is_ok() => {}
            _ => return,
        }
    }
}
