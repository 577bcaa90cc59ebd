use http::{HeaderMap, StatusCode};
pub(crate) enum Verdict {
    InvalidToken,
    Unexplained,
    Other,
}
pub(crate) fn verdict(status: StatusCode, _headers: &HeaderMap) -> Verdict {
    if status == 401 {
        Verdict::InvalidToken
    } else if status == 402 {
        Verdict::Unexplained
    } else {
        Verdict::Other
    }
}
