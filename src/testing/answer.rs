use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use serde_json::{Map, Value};

use super::reply::{Base, Changes, Content, Reply};

/// What a front has to send: a [`Reply`] with everything decided.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) delay: Duration,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Send(Response),
    /// These bytes, and then the end of the connection.
    Raw(Bytes, End),
    Reset,
    Hang,
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    pub(super) chunks: Vec<(Duration, Bytes)>,
    pub(super) end: End,
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body and no length.
    None,
    Length(usize),
    Chunked,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    /// The connection is closed, whatever was declared.
    Close,
    Reset,
}

impl Answer {
    /// Decides the answer to a request. `honest` does the server's work; it is only asked when the
    /// reply is built on it.
    pub(super) fn new(
        reply: Reply,
        method: &Method,
        honest: impl FnOnce() -> http::Response<Bytes>,
    ) -> Self {
        let Reply { base, delay, changes } = reply;
        let action = match base {
            Base::Honest => {
                let (parts, body) = honest().into_parts();
                respond(changes, method, parts.status, parts.headers, body)
            }
            Base::Fixed(status, headers) => respond(changes, method, status, headers, Bytes::new()),
            Base::Raw(bytes) => match changes.reset_after {
                Some(cut) => Action::Raw(bytes.slice(..cut.min(bytes.len())), End::Reset),
                None => Action::Raw(bytes, End::Close),
            },
            Base::Reset => Action::Reset,
            Base::Hang => Action::Hang,
        };
        Self { delay, action }
    }

    pub(super) fn status(status: StatusCode) -> Self {
        Self::new(Reply::honest(), &Method::GET, || {
            let mut response = http::Response::new(Bytes::new());
            *response.status_mut() = status;
            response
        })
    }

    pub(super) fn response(&self) -> Option<&Response> {
        match &self.action {
            Action::Send(response) => Some(response),
            _ => None,
        }
    }
}

fn respond(
    changes: Changes,
    method: &Method,
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
) -> Action {
    if changes.lost {
        return Action::Reset;
    }
    for (name, _) in &changes.headers {
        headers.remove(name);
    }
    for (name, value) in changes.headers {
        headers.append(name, value);
    }
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);

    let (mut chunks, timed) = match changes.body.unwrap_or(Content::Whole(body)) {
        Content::Whole(body) => (vec![(Duration::ZERO, patched(body, changes.patch))], false),
        Content::Timed(chunks) => (chunks, true),
    };
    chunks.retain(|(after, data)| !after.is_zero() || !data.is_empty());
    let length: usize = chunks.iter().map(|(_, data)| data.len()).sum();

    // RFC 9110 §6.4.1: "All 1xx (Informational), 204 (No Content), and 304 (Not Modified) responses
    // do not include content."
    let never = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let framing = match changes.declared_length {
        Some(length) => Framing::Length(length),
        None if never => Framing::None,
        None if timed => Framing::Chunked,
        None => Framing::Length(length),
    };
    let mut end = match changes.declared_length {
        Some(declared) if declared != length => End::Close,
        _ => End::Complete,
    };
    if never || method == Method::HEAD {
        chunks.clear();
    }
    if let Some(cut) = changes.reset_after {
        truncate(&mut chunks, cut);
        end = End::Reset;
    }
    Action::Send(Response { status, headers, framing, chunks, end })
}

/// Keeps the first bytes of a row of chunks.
pub(super) fn truncate(chunks: &mut Vec<(Duration, Bytes)>, mut keep: usize) {
    for (_, data) in chunks.iter_mut() {
        data.truncate(keep);
        keep -= data.len();
    }
    chunks.retain(|(_, data)| !data.is_empty());
}

fn patched(body: Bytes, patch: Map<String, Value>) -> Bytes {
    if patch.is_empty() {
        return body;
    }
    let mut members: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
    for (name, value) in patch {
        match value {
            Value::Null => members.remove(&name),
            value => members.insert(name, value),
        };
    }
    Value::Object(members).to_string().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answer(reply: Reply, method: &Method) -> Response {
        let honest = || http::Response::new(Bytes::from_static(br#"{"a":1,"b":2}"#));
        match Answer::new(reply, method, honest).action {
            Action::Send(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn body(response: &Response) -> Vec<u8> {
        response.chunks.iter().flat_map(|(_, data)| data.to_vec()).collect()
    }

    #[test]
    fn a_patch_sets_members_and_null_removes_them() {
        let reply = Reply::honest().patch(json!({ "a": null, "c": [3] }));
        let response = answer(reply, &Method::POST);
        assert_eq!(body(&response), br#"{"b":2,"c":[3]}"#);
        assert_eq!(response.framing, Framing::Length(15));
    }

    #[test]
    fn a_header_replaces_the_default_and_may_be_repeated() {
        let reply = Reply::json(200, json!({}))
            .header("content-type", "text/html")
            .header("www-authenticate", "Basic")
            .header("www-authenticate", "Bearer")
            .header("content-length", "99");
        let headers = answer(reply, &Method::POST).headers;
        assert_eq!(headers.get_all("content-type").iter().collect::<Vec<_>>(), ["text/html"]);
        assert_eq!(headers.get_all("www-authenticate").iter().count(), 2);
        assert!(!headers.contains_key("content-length"));
    }

    #[test]
    fn a_cut_keeps_the_declared_length() {
        let response = answer(Reply::honest().reset_after(3), &Method::POST);
        assert_eq!((body(&response).len(), response.framing), (3, Framing::Length(13)));
        assert_eq!(response.end, End::Reset);

        let drip = [(SECOND, "ab"), (SECOND, "cd"), (SECOND, "ef")];
        let response = answer(Reply::status(200).chunks(drip).reset_after(3), &Method::POST);
        assert_eq!((body(&response), response.framing), (b"abc".to_vec(), Framing::Chunked));
    }

    #[test]
    fn an_answer_to_head_has_a_length_and_no_body_and_204_has_neither() {
        let response = answer(Reply::honest(), &Method::HEAD);
        assert_eq!((body(&response).len(), response.framing), (0, Framing::Length(13)));
        let response = answer(Reply::status(204).body("x"), &Method::GET);
        assert_eq!((body(&response).len(), response.framing), (0, Framing::None));
    }

    #[test]
    fn only_an_honest_reply_does_the_servers_work() {
        let mut worked = 0;
        for reply in [
            Reply::status(503),
            Reply::reset(),
            Reply::hang(),
            Reply::raw("x"),
            Reply::honest().then_reset_before_answer(),
        ] {
            Answer::new(reply, &Method::POST, || {
                worked += 1;
                http::Response::new(Bytes::new())
            });
        }
        assert_eq!(worked, 1);
    }
}
