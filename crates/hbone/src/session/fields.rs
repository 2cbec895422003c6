//! Header lists as HTTP/2 allows them (RFC 9113 §8): what a request and a response must and must
//! not have, and how ours are written.

use bytes::Bytes;
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::hpack::Encoder;

/// A list that HTTP/2 does not allow; the stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

type List = Vec<(Bytes, Bytes)>;

/// A request's header list.
#[derive(Debug)]
pub(crate) struct RequestFields {
    pub(crate) method: Method,
    pub(crate) authority: Option<String>,
    pub(crate) headers: HeaderMap,
    /// CONNECT with `:protocol` (RFC 8441), which is not offered here.
    pub(crate) extended: bool,
}

/// A response's header list.
#[derive(Debug)]
pub(crate) struct ResponseFields {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// The pseudo-header fields of a list, each at most once.
#[derive(Default)]
struct Pseudo {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    status: Option<Bytes>,
}

impl RequestFields {
    /// Checks and sorts a request's list.
    pub(crate) fn parse(list: List) -> Result<Self, Malformed> {
        let (pseudo, headers) = split(list)?;
        let method = pseudo.method.as_ref().ok_or(Malformed)?;
        let method = Method::from_bytes(method).map_err(|_| Malformed)?;
        let connect = method == Method::CONNECT;
        let extended = connect && pseudo.protocol.is_some();
        let has_target =
            pseudo.scheme.is_some() && pseudo.path.as_ref().is_some_and(|p| !p.is_empty());
        let has_none = pseudo.scheme.is_none() && pseudo.path.is_none();
        let valid_target = if connect && !extended {
            has_none
        } else {
            has_target
        };
        if !valid_target || pseudo.status.is_some() || (pseudo.protocol.is_some() && !connect) {
            return Err(Malformed);
        }
        let authority = pseudo
            .authority
            .map(|bytes| String::from_utf8(bytes.to_vec()));
        let authority = authority.transpose().map_err(|_| Malformed)?;
        Ok(Self {
            method,
            authority,
            headers,
            extended,
        })
    }
}

impl ResponseFields {
    /// Checks and sorts a response's list.
    pub(crate) fn parse(list: List) -> Result<Self, Malformed> {
        let (pseudo, headers) = split(list)?;
        let request = [
            pseudo.method,
            pseudo.scheme,
            pseudo.authority,
            pseudo.path,
            pseudo.protocol,
        ];
        let status = pseudo.status.ok_or(Malformed)?;
        let status = StatusCode::from_bytes(&status).map_err(|_| Malformed)?;
        if request.iter().any(Option::is_some) {
            return Err(Malformed);
        }
        Ok(Self { status, headers })
    }
}

fn split(list: List) -> Result<(Pseudo, HeaderMap), Malformed> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::with_capacity(list.len().saturating_sub(2));
    for (name, value) in list {
        if name.first() != Some(&b':') {
            let (name, value) = header(&name, value)?;
            headers.append(name, value);
            continue;
        }
        // §8.3: all pseudo-header fields come before any other.
        let slot = match &*name {
            _ if !headers.is_empty() => return Err(Malformed),
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":authority" => &mut pseudo.authority,
            b":path" => &mut pseudo.path,
            b":protocol" => &mut pseudo.protocol,
            b":status" => &mut pseudo.status,
            _ => return Err(Malformed),
        };
        if slot.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    Ok((pseudo, headers))
}

fn header(name: &Bytes, value: Bytes) -> Result<(HeaderName, HeaderValue), Malformed> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(Malformed);
    }
    let name = HeaderName::from_bytes(name).map_err(|_| Malformed)?;
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed)?;
    // §8.2.2: connection-specific fields have no place in HTTP/2.
    let banned = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || (name == TE && value != "trailers");
    if banned {
        Err(Malformed)
    } else {
        Ok((name, value))
    }
}

/// Appends a CONNECT's header block to `out`.
pub(crate) fn encode_request(
    out: &mut Vec<u8>,
    table_size_changed: bool,
    authority: &str,
    headers: &HeaderMap,
) {
    let mut encoder = Encoder::new(out, table_size_changed);
    encoder
        .field(":method", b"CONNECT")
        .field(":authority", authority.as_bytes());
    encode_headers(&mut encoder, headers);
}

/// Appends a response's header block to `out`.
pub(crate) fn encode_response(
    out: &mut Vec<u8>,
    table_size_changed: bool,
    status: StatusCode,
    headers: &HeaderMap,
) {
    let mut encoder = Encoder::new(out, table_size_changed);
    encoder.field(":status", status.as_str().as_bytes());
    encode_headers(&mut encoder, headers);
}

fn encode_headers(encoder: &mut Encoder<'_>, headers: &HeaderMap) {
    for (name, value) in headers {
        encoder.field(name.as_str(), value.as_bytes());
    }
}

/// The size of a header list as RFC 9113 §6.5.2 counts it.
pub(crate) fn list_size(authority: &str, headers: &HeaderMap) -> usize {
    let pseudo = ":method".len() + "CONNECT".len() + ":authority".len() + authority.len() + 64;
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum::<usize>()
        + pseudo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&str, &str)]) -> List {
        let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        fields
            .iter()
            .map(|(name, value)| (copy(name), copy(value)))
            .collect()
    }

    #[test]
    fn a_connect_is_sorted() {
        let fields = [
            (":method", "CONNECT"),
            (":authority", "10.0.0.1:80"),
            ("baggage", "a=b"),
        ];
        let request = RequestFields::parse(list(&fields)).unwrap();
        assert_eq!(request.method, Method::CONNECT);
        assert_eq!(request.authority.as_deref(), Some("10.0.0.1:80"));
        assert_eq!(request.headers["baggage"], "a=b");
        assert!(!request.extended);
    }

    #[test]
    fn malformed_requests_are_refused() {
        let connect = (":method", "CONNECT");
        let cases: &[&[(&str, &str)]] = &[
            &[],
            &[(":authority", "a:1")],
            &[connect, connect],
            &[connect, (":authority", "a:1"), (":path", "/")],
            &[connect, (":authority", "a:1"), (":scheme", "https")],
            &[(":method", "GET"), (":authority", "a:1")],
            &[(":method", "GET"), (":scheme", "http"), (":path", "")],
            &[connect, ("baggage", "x"), (":authority", "a:1")],
            &[connect, (":unknown", "x")],
            &[connect, (":status", "200")],
            &[connect, ("Upper", "x")],
            &[connect, ("connection", "close")],
            &[connect, ("transfer-encoding", "chunked")],
            &[connect, ("te", "gzip")],
            &[connect, ("na me", "x")],
            &[connect, ("name", "a\r\nb")],
            &[connect, ("", "x")],
        ];
        for case in cases {
            assert!(RequestFields::parse(list(case)).is_err(), "{case:?}");
        }
    }

    #[test]
    fn malformed_responses_are_refused() {
        let cases: &[&[(&str, &str)]] = &[
            &[],
            &[(":status", "2000")],
            &[(":status", "200"), (":path", "/")],
            &[("server", "x"), (":status", "200")],
        ];
        for case in cases {
            assert!(ResponseFields::parse(list(case)).is_err(), "{case:?}");
        }
    }
}
