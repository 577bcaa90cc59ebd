use std::{io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{StatusCode, header::CONNECTION};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    answer::{Action, Answer, End, Framing, Response},
    host::Front,
    recorded::Recorded,
    wire::{Head, Length, ReadError, Reader, has},
};

/// Serves one connection to its end, or until the server goes down.
pub(super) async fn serve(mut stream: TcpStream, front: Front) {
    let Some(outage) = front.switch.connect() else { return reset(&stream) };
    let _ = stream.set_nodelay(true);
    let end = tokio::select! {
        end = talk(&mut stream, &front) => end,
        () = outage.begins() => Ok(End::Reset),
    };
    if matches!(end, Ok(End::Reset)) {
        reset(&stream);
    }
}

/// Answers requests until the connection is to end, and says how.
async fn talk(stream: &mut TcpStream, front: &Front) -> io::Result<End> {
    let mut reader = Reader::new();
    loop {
        let (answer, last) = match next(stream, &mut reader, front).await {
            Ok(Some(next)) => next,
            Ok(None) | Err(ReadError::Gone) => return Ok(End::Close),
            Err(ReadError::Bad(status)) => (Answer::status(status), true),
        };
        match send(stream, answer, last).await? {
            End::Complete => {}
            End::Close => return close(stream).await,
            End::Reset => return Ok(End::Reset),
        }
    }
}

/// Reads a request and has it answered. The flag says that it is the connection's last.
async fn next(
    stream: &mut TcpStream,
    reader: &mut Reader,
    front: &Front,
) -> Result<Option<(Answer, bool)>, ReadError> {
    let Some(head) = reader.head(stream).await? else { return Ok(None) };
    if head.length != Length::Known(0) {
        let recorded = record(&head, Bytes::new(), reader.head_bytes(&head));
        if let Some(answer) = front.site.refuse_early(&recorded) {
            return Ok(Some((answer, true)));
        }
        if head.expects_continue {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            stream.write_all(go_on).await.map_err(|_| ReadError::Gone)?;
        }
    }
    let (body, raw) = reader.body(stream, &head).await?;
    Ok(Some((front.site.answer(record(&head, body, raw)), head.last)))
}

fn record(head: &Head, body: Bytes, raw: Bytes) -> Recorded {
    Recorded {
        method: head.method.clone(),
        target: head.target.clone(),
        headers: head.headers.clone(),
        body,
        raw: Some(raw),
        at: Instant::now(),
    }
}

async fn send(stream: &mut TcpStream, answer: Answer, last: bool) -> io::Result<End> {
    if !answer.delay.is_zero() {
        sleep(answer.delay).await;
    }
    match answer.action {
        Action::Send(response) => send_response(stream, response, last).await,
        Action::Raw(bytes, end) => {
            stream.write_all(&bytes).await?;
            Ok(end)
        }
        Action::Reset => Ok(End::Reset),
        Action::Hang => {
            // Until the client has had enough.
            drain(stream).await;
            Ok(End::Close)
        }
    }
}

async fn send_response(stream: &mut TcpStream, response: Response, last: bool) -> io::Result<End> {
    let close = last || response.end == End::Close || has(&response.headers, &CONNECTION, "close");
    let mut out = BytesMut::new();
    put_head(&mut out, &response, close);
    let chunked = response.framing == Framing::Chunked;
    for (after, data) in response.chunks {
        if !after.is_zero() {
            flush(stream, &mut out).await?;
            sleep(after).await;
        }
        if chunked {
            // An empty chunk would be the last one: a pause without data sends nothing.
            if !data.is_empty() {
                out.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
                out.put_slice(&data);
                out.put_slice(b"\r\n");
            }
        } else {
            out.put_slice(&data);
        }
        if out.len() >= FLUSH_AT {
            flush(stream, &mut out).await?;
        }
    }
    if chunked && response.end == End::Complete {
        out.put_slice(b"0\r\n\r\n");
    }
    flush(stream, &mut out).await?;
    Ok(match response.end {
        End::Complete if close => End::Close,
        end => end,
    })
}

fn put_head(out: &mut BytesMut, response: &Response, close: bool) {
    let status = response.status;
    let reason = status.canonical_reason().unwrap_or_default();
    out.put_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
    for (name, value) in &response.headers {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    match response.framing {
        Framing::None => {}
        Framing::Length(length) => {
            out.put_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    if close && !response.headers.contains_key(CONNECTION) && status != StatusCode::CONTINUE {
        out.put_slice(b"connection: close\r\n");
    }
    out.put_slice(b"\r\n");
}

async fn flush(stream: &mut TcpStream, out: &mut BytesMut) -> io::Result<()> {
    stream.write_all(&out.split()).await
}

/// Closes in order. What the client still sends is read for a moment: a socket closed with unread
/// data is reset, and the client might lose the answer.
async fn close(stream: &mut TcpStream) -> io::Result<End> {
    stream.shutdown().await?;
    let _ = timeout(LINGER, drain(stream)).await;
    Ok(End::Close)
}

async fn drain(stream: &mut TcpStream) {
    let mut sink = BytesMut::with_capacity(FLUSH_AT);
    while matches!(stream.read_buf(&mut sink).await, Ok(1..)) {
        sink.clear();
    }
}

/// Makes the end of the socket a reset.
#[allow(deprecated, reason = "a linger of zero does not block, and its own method is newer")]
fn reset(stream: &TcpStream) {
    let _ = stream.set_linger(Some(Duration::ZERO));
}

const FLUSH_AT: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);
