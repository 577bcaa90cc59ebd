use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
};
use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads HTTP/1 requests and keeps their exact bytes.
#[derive(Debug)]
pub(super) struct Reader {
    /// What was read and not yet taken: at the front, the request at hand.
    buffer: BytesMut,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) length: Length,
    /// The client closes the connection after this request, or wants it closed.
    pub(super) last: bool,
    /// The client waits for a `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// How many bytes the head has.
    pub(super) size: usize,
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Known(usize),
    Chunked,
}

/// Why a request could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection ended or broke.
    Gone,
    /// The request is answered with this status, and the connection is of no more use.
    Bad(StatusCode),
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new() }
    }

    /// The next head; `None` if the client has closed the connection between requests.
    pub(super) async fn head<R>(&mut self, io: &mut R) -> Result<Option<Head>, ReadError>
    where
        R: AsyncRead + Unpin,
    {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_CAP {
                return Err(ReadError::Bad(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
            }
            match self.fill(io).await {
                Err(ReadError::Gone) if self.buffer.is_empty() => return Ok(None),
                filled => filled?,
            }
        }
    }

    /// The exact bytes of the head, before it is taken.
    pub(super) fn head_bytes(&self, head: &Head) -> Bytes {
        Bytes::copy_from_slice(self.buffer.get(..head.size).unwrap_or_default())
    }

    /// Reads the body. Returns it and the exact bytes of the whole request, which is then over.
    pub(super) async fn body<R>(
        &mut self,
        io: &mut R,
        head: &Head,
    ) -> Result<(Bytes, Bytes), ReadError>
    where
        R: AsyncRead + Unpin,
    {
        match head.length {
            Length::Known(length) if length > BODY_CAP => Err(TOO_LARGE),
            Length::Known(length) => {
                let end = head.size + length;
                while self.buffer.len() < end {
                    self.fill(io).await?;
                }
                let raw = self.buffer.split_to(end).freeze();
                Ok((raw.slice(head.size..), raw))
            }
            Length::Chunked => {
                let (body, end) = self.chunked(io, head.size).await?;
                Ok((body, self.buffer.split_to(end).freeze()))
            }
        }
    }

    /// Decodes a chunked body that starts at `at` ([RFC 9112 §7.1]).
    ///
    /// [RFC 9112 §7.1]: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
    async fn chunked<R>(&mut self, io: &mut R, mut at: usize) -> Result<(Bytes, usize), ReadError>
    where
        R: AsyncRead + Unpin,
    {
        let mut body = BytesMut::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(self.rest(at)).map_err(|_| BAD)? {
                    Status::Complete(found) => break found,
                    Status::Partial => self.fill(io).await?,
                }
            };
            at += line;
            if size == 0 {
                break;
            }
            let size = usize::try_from(size).map_err(|_| TOO_LARGE)?;
            if size > BODY_CAP - body.len() {
                return Err(TOO_LARGE);
            }
            while self.buffer.len() < at + size + 2 {
                self.fill(io).await?;
            }
            body.extend_from_slice(self.buffer.get(at..at + size).unwrap_or_default());
            at += size;
            if !self.rest(at).starts_with(b"\r\n") {
                return Err(BAD);
            }
            at += 2;
        }
        loop {
            let mut trailers = [httparse::EMPTY_HEADER; HEADER_LINES];
            match httparse::parse_headers(self.rest(at), &mut trailers).map_err(|_| BAD)? {
                Status::Complete((size, _)) => return Ok((body.freeze(), at + size)),
                Status::Partial => self.fill(io).await?,
            }
        }
    }

    async fn fill<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<(), ReadError> {
        if self.buffer.len() > REQUEST_CAP {
            return Err(TOO_LARGE);
        }
        match io.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(ReadError::Gone),
            Ok(_) => Ok(()),
        }
    }

    fn rest(&self, at: usize) -> &[u8] {
        self.buffer.get(at..).unwrap_or_default()
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ReadError> {
    let mut lines = [httparse::EMPTY_HEADER; HEADER_LINES];
    let mut request = httparse::Request::new(&mut lines);
    let size = match request.parse(bytes) {
        Ok(Status::Complete(size)) => size,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(ReadError::Bad(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        Err(_) => return Err(BAD),
    };
    let method = request.method.unwrap_or_default().parse().map_err(|_| BAD)?;
    let mut headers = HeaderMap::new();
    for line in request.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| BAD)?;
        headers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| BAD)?);
    }
    Ok(Some(Head {
        method,
        target: request.path.unwrap_or_default().to_owned(),
        length: length(&headers)?,
        last: request.version == Some(0) || has(&headers, &CONNECTION, "close"),
        expects_continue: has(&headers, &EXPECT, "100-continue"),
        headers,
        size,
    }))
}

fn length(headers: &HeaderMap) -> Result<Length, ReadError> {
    if headers.contains_key(TRANSFER_ENCODING) {
        // RFC 9112 §6.3: a message with both "ought to be handled as an error".
        let chunked = has(headers, &TRANSFER_ENCODING, "chunked");
        let both = headers.contains_key(CONTENT_LENGTH);
        return if chunked && !both { Ok(Length::Chunked) } else { Err(BAD) };
    }
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let value = value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(BAD)?;
        if length.is_some_and(|length| length != value) {
            return Err(BAD);
        }
        length = Some(value);
    }
    Ok(Length::Known(length.unwrap_or(0)))
}

/// Whether a header field is exactly this word.
pub(super) fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
}

/// The largest body that a test server takes.
pub(super) const BODY_CAP: usize = 16 << 20;

/// Large enough for tokens of absurd sizes.
const HEAD_CAP: usize = 1 << 20;
const HEADER_LINES: usize = 128;
/// A body in tiny chunks is larger on the wire than in itself.
const REQUEST_CAP: usize = HEAD_CAP + 4 * BODY_CAP;

const BAD: ReadError = ReadError::Bad(StatusCode::BAD_REQUEST);
const TOO_LARGE: ReadError = ReadError::Bad(StatusCode::PAYLOAD_TOO_LARGE);

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let mut reader = Reader::new();
        let mut requests = Vec::new();
        while let Some(head) = reader.head(&mut bytes).await? {
            requests.push(reader.body(&mut bytes, &head).await?);
        }
        Ok(requests)
    }

    #[tokio::test]
    async fn pipelined_requests_are_told_apart_and_kept_to_the_byte() {
        let first = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".as_slice();
        let second = b"POST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
            2;x=y\r\nde\r\n1\r\nf\r\n0\r\nt: 1\r\n\r\n";
        let third = b"GET /c HTTP/1.1\r\n\r\n".as_slice();
        let requests = read(&[first, second, third].concat()).await.unwrap();
        let bodies: Vec<_> = requests.iter().map(|(body, _)| &body[..]).collect();
        assert_eq!(bodies, [&b"abc"[..], b"def", b""]);
        let raws: Vec<_> = requests.iter().map(|(_, raw)| &raw[..]).collect();
        assert_eq!(raws, [first, second, third]);
    }

    #[tokio::test]
    async fn unclear_or_endless_requests_are_refused() {
        for bad in [
            "GET /\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            let error = read(bad.as_bytes()).await.unwrap_err();
            assert!(matches!(error, ReadError::Bad(_)), "{bad:?}: {error:?}");
        }
        let endless = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(HEAD_CAP));
        assert!(matches!(read(endless.as_bytes()).await, Err(ReadError::Bad(_))));
        let cut = b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab".as_slice();
        assert!(matches!(read(cut).await, Err(ReadError::Gone)));
    }
}
