//! Requests and responses, whole in memory.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Decoded query parameters, in order.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Request {
    /// The first value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// A query parameter as a number within bounds, `default` without one.
    ///
    /// # Errors
    /// An answer that says what is accepted.
    pub fn number(
        &self,
        name: &str,
        default: u64,
        accepted: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, Response> {
        let Some(text) = self.parameter(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|n| accepted.contains(n))
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                Response::bad_request(format!(
                    "parameter {name}={shown:?}: expected a number from {} to {}\n",
                    accepted.start(),
                    accepted.end()
                ))
            })
    }

    pub(super) fn accepts_gzip(&self) -> bool {
        let accepted = self
            .headers
            .get(ACCEPT_ENCODING)
            .and_then(|v| v.to_str().ok());
        accepted.is_some_and(|v| {
            v.split(',').any(|one| {
                let mut parts = one.split(';').map(str::trim);
                parts.next() == Some("gzip") && !parts.any(|p| matches!(p, "q=0" | "q=0.0"))
            })
        })
    }
}

/// Decodes `a=b&c`; `+` is a space. What is not UTF-8 after decoding is replaced.
pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let byte = hex.and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                out.push(b' ');
                rest = tail;
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    gzipped: bool,
}

/// Smallest body worth compressing.
const GZIP_FROM: usize = 1024;

impl Response {
    /// Any content.
    #[must_use]
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
            gzipped: false,
        }
    }

    /// Plain text.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::new("text/plain; charset=utf-8", body)
    }

    /// JSON, indented for reading.
    #[must_use]
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(body) => Self::new("application/json", body),
            Err(error) => Self::text(format!("cannot be shown as JSON: {error}\n")).status(500),
        }
    }

    /// 400 with a reason.
    #[must_use]
    pub fn bad_request(reason: impl Into<Bytes>) -> Self {
        Self::text(reason).status(400)
    }

    /// Replaces the status; one that is none becomes 500.
    #[must_use]
    pub fn status(mut self, code: u16) -> Self {
        self.status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self
    }

    /// The status.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.status.as_u16()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn compress(mut self) -> Self {
        use std::io::Write as _;
        if self.body.len() < GZIP_FROM {
            return self;
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        if let Ok(body) = encoder
            .write_all(&self.body)
            .and_then(|()| encoder.finish())
        {
            self.body = body.into();
            self.gzipped = true;
        }
        self
    }

    pub(super) fn into_hyper(self) -> hyper::Response<Full<Bytes>> {
        let mut response = hyper::Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.gzipped {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let cases: [(&str, &[(&str, &str)]); 6] = [
            ("", &[]),
            ("reset", &[("reset", "")]),
            ("level=debug&x=1", &[("level", "debug"), ("x", "1")]),
            ("level=a%3Ddebug%2Cinfo", &[("level", "a=debug,info")]),
            ("a=%&b=%zz&c=%4", &[("a", "%"), ("b", "%zz"), ("c", "%4")]),
            ("a=b+c&&", &[("a", "b c")]),
        ];
        for (query, want) in cases {
            let want: Vec<_> = want
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect();
            assert_eq!(parse_query(query), want, "{query}");
        }
    }
}
