//! The `forwarded` header (RFC 7239): the client's address, and the service it asked for.

use std::net::SocketAddr;

use ambit_model::Hostname;
use http::{HeaderMap, HeaderValue};

use super::FORWARDED;

/// Longest host name that DNS knows.
const MAX_HOSTNAME: usize = 253;

/// Names the client, and the service where there is one.
#[must_use]
pub fn describe(client: SocketAddr, service: Option<&Hostname>) -> Option<HeaderValue> {
    let text = match service {
        Some(host) => format!("for=\"{client}\";host={host}"),
        None => format!("for=\"{client}\""),
    };
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// The service's host name, from the first element that has one.
#[must_use]
pub fn parse_host(headers: &HeaderMap) -> Option<Hostname> {
    let value = headers.get(FORWARDED)?.to_str().ok()?;
    let host = value
        .split([';', ','])
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| key.trim().eq_ignore_ascii_case("host").then_some(value))?;
    let host = host.trim().trim_matches('"').trim_end_matches('.');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*');
    (!host.is_empty() && host.len() <= MAX_HOSTNAME && host.bytes().all(good))
        .then(|| Hostname::from(host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, value.parse().unwrap());
        parse_host(&headers).map(|host| host.to_string())
    }

    #[test]
    fn what_is_written_is_as_the_reference_writes_it() {
        let check = |client: &str, host: Option<&str>, expected| {
            let host = host.map(Hostname::from);
            let value = describe(client.parse().unwrap(), host.as_ref()).unwrap();
            assert_eq!(value, expected);
        };
        check(
            "10.0.0.1:7",
            Some("web.shop"),
            "for=\"10.0.0.1:7\";host=web.shop",
        );
        check("[2001:db8::1]:7", None, "for=\"[2001:db8::1]:7\"");
    }

    #[test]
    fn the_host_is_found() {
        assert_eq!(
            read("for=\"10.0.0.1:7\";host=Web.Shop").as_deref(),
            Some("web.shop")
        );
        assert_eq!(
            read("for=1.2.3.4, for=5.6.7.8;host=\"a.b\"").as_deref(),
            Some("a.b")
        );
        assert_eq!(read("Host=a").as_deref(), Some("a"));
    }

    #[test]
    fn nothing_else_is_taken_for_a_host() {
        for value in [
            "",
            "for=1.2.3.4",
            "host=",
            "host=a b",
            "host=a/b",
            "hosts=a",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(read(&format!("host={}", "a".repeat(254))), None);
    }
}
