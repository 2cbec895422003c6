//! The `:authority` of a CONNECT: `ip:port`, `[ipv6]:port` or `hostname:port`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ambit_model::Hostname;
use ambit_state::Authority;

/// Longest host name that DNS knows.
const MAX_HOSTNAME: usize = 253;

/// Why an authority is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// No `:port`.
    #[error("the authority has no port")]
    NoPort,
    /// Not a number from 1 to 65535.
    #[error("the authority's port is not a number from 1 to 65535")]
    Port,
    /// Neither an address nor a host name.
    #[error("the authority names neither an address nor a host")]
    Host,
}

/// Reads an authority. Addresses come out canonical, host names in lower case.
///
/// # Errors
/// When it is of none of the three forms.
pub fn parse(authority: &str) -> Result<Authority, AuthorityError> {
    let (host, port) = authority.rsplit_once(':').ok_or(AuthorityError::NoPort)?;
    let port = parse_port(port)?;
    if let Some(six) = host.strip_prefix('[') {
        let six = six.strip_suffix(']').ok_or(AuthorityError::Host)?;
        let address: Ipv6Addr = six.parse().map_err(|_| AuthorityError::Host)?;
        return Ok(Authority::Address(SocketAddr::new(
            address.to_canonical(),
            port,
        )));
    }
    if let Ok(four) = host.parse::<std::net::Ipv4Addr>() {
        return Ok(Authority::Address(SocketAddr::new(IpAddr::V4(four), port)));
    }
    parse_hostname(host).map(|hostname| Authority::Hostname { hostname, port })
}

fn parse_port(port: &str) -> Result<u16, AuthorityError> {
    // `u16::from_str` would take a sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(AuthorityError::Port),
        Ok(port) => Ok(port),
    }
}

fn parse_hostname(host: &str) -> Result<Hostname, AuthorityError> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let labels = host
        .split('.')
        .all(|label| !label.is_empty() && label.len() <= 63);
    // What ends in a number is a mistyped address, not a name (RFC 3696, section 2).
    let numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.len() > MAX_HOSTNAME || !labels || numeric || !host.bytes().all(good) {
        return Err(AuthorityError::Host);
    }
    Ok(Hostname::from(host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authority: &str, expected: Result<&str, AuthorityError>) {
        let got = parse(authority).map(|target| target.to_string());
        assert_eq!(
            got.as_deref(),
            expected.as_ref().map(|s| &**s),
            "{authority:?}"
        );
    }

    #[test]
    fn the_three_forms_are_read() {
        check("10.0.0.1:80", Ok("10.0.0.1:80"));
        check("[2001:db8::1]:65535", Ok("[2001:db8::1]:65535"));
        check("[::ffff:10.0.0.1]:80", Ok("10.0.0.1:80"));
        check(
            "Web.Shop.svc.cluster.local:8080",
            Ok("web.shop.svc.cluster.local:8080"),
        );
        check("web.shop.:1", Ok("web.shop:1"));
        check("localhost:1", Ok("localhost:1"));
    }

    #[test]
    fn everything_else_is_refused() {
        use AuthorityError::{Host, NoPort, Port};
        for (authority, error) in [
            ("", NoPort),
            ("10.0.0.1", NoPort),
            ("10.0.0.1:", Port),
            ("10.0.0.1:0", Port),
            ("10.0.0.1:+80", Port),
            ("10.0.0.1:65536", Port),
            ("10.0.0.1:8o", Port),
            (":80", Host),
            ("2001:db8::1:80", Host),
            ("[2001:db8::1:80", Host),
            ("[10.0.0.1]:80", Host),
            ("[fe80::1%eth0]:80", Host),
            ("10.0.0.256:80", Host),
            ("10.0.1:80", Host),
            ("a b:80", Host),
            ("user@host:80", Host),
            ("a..b:80", Host),
            ("*.example.com:80", Host),
        ] {
            check(authority, Err(error));
        }
        check(&format!("{}:80", "a".repeat(64)), Err(Host));
        check(&format!("{}a:80", "a.".repeat(127)), Err(Host));
    }
}
