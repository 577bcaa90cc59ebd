use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{connection, host::Front};

/// The front of a server on a real socket of 127.0.0.1.
///
/// Its task holds the front, never this: dropping this ends the task and its connections.
#[derive(Debug)]
pub(super) struct Loopback {
    address: SocketAddr,
    front: Front,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Up(Running),
    /// Between the two, and after a failure.
    Closed,
    /// The port is bound, so that nobody else gets it, but nobody listens.
    Down(TcpSocket),
}

#[derive(Debug)]
struct Running {
    /// A message waits for the connections to end by themselves; dropping this ends them.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Loopback {
    pub(super) async fn start(front: Front) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State::Up(Running::start(listener, front.clone())));
        Ok(Self { address, front, state })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and waits until it and all connections are gone.
    pub(super) async fn stop(&self) {
        let Some(running) = self.take_running() else { return };
        let _ = running.stop.send(());
        let _ = running.task.await;
        if let Ok(socket) = bound(self.address) {
            self.set(State::Down(socket));
        }
    }

    /// Listens again on the same port.
    pub(super) fn resume(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match std::mem::replace(&mut *state, State::Closed) {
            State::Up(running) => {
                *state = State::Up(running);
                return Ok(());
            }
            State::Down(socket) => socket,
            State::Closed => bound(self.address)?,
        };
        *state = State::Up(Running::start(socket.listen(BACKLOG)?, self.front.clone()));
        Ok(())
    }

    fn take_running(&self) -> Option<Running> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Closed) {
            State::Up(running) => Some(running),
            other => {
                *state = other;
                None
            }
        }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the one place of the test servers that spawns")]
    fn start(listener: TcpListener, front: Front) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(accept(listener, front, stopped)) }
    }
}

async fn accept(listener: TcpListener, front: Front, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    let stopped = loop {
        tokio::select! {
            stopped = &mut stopped => break stopped,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(stream, front.clone()));
                }
                // Out of file descriptors, most likely: others have to close first.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    };
    drop(listener);
    match stopped {
        Ok(()) => while connections.join_next().await.is_some() {},
        Err(_) => connections.shutdown().await,
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before may linger on. (On Windows the option means something else.)
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

const BACKLOG: u32 = 1024;
