//! The written forms of configuration values: durations, switches, sizes, addresses. Pure; each
//! returns `None` for what it does not understand and leaves the wording of the refusal to the
//! caller, who knows the variable.

use std::net::SocketAddr;
use std::time::Duration;

use super::Bind;

/// `true`/`false` in any case, or `1`/`0`.
#[must_use]
pub fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// One or more `<number><unit>` parts, such as `10s`, `1h30m` or `1.5s`; a bare number is seconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == ' ' || c == '+')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let amount: f64 = number.parse().ok()?;
        let part = Duration::try_from_secs_f64(amount * seconds_in(unit)?).ok()?;
        total = total.checked_add(part)?;
        rest = after.trim_start_matches([' ', '+']);
    }
    Some(total)
}

fn seconds_in(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "s" | "sec" => 1.0,
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" | "hr" => 3600.0,
        "d" => 86400.0,
        "w" => 604_800.0,
        _ => return None,
    })
}

/// A Kubernetes CPU quantity (`2`, `0.5`, `500m`) as whole processors, rounded up.
#[must_use]
pub fn processors(text: &str) -> Option<usize> {
    let cores = match text.strip_suffix('m') {
        Some(milli) => milli.parse::<u64>().ok()? as f64 / 1000.0,
        None => text.parse::<f64>().ok()?,
    };
    (cores.is_finite() && (0.0..=65536.0).contains(&cores)).then(|| cores.ceil() as usize)
}

/// How many data threads were asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threads {
    /// Exactly so many; 0 stands for every processor.
    Count(usize),
    /// A share of the processors, above 0 and at most 100.
    Percent(f64),
}

/// `N` or `N%`.
#[must_use]
pub fn threads(text: &str) -> Option<Threads> {
    match text.strip_suffix('%') {
        Some(share) => {
            let share: f64 = share.trim().parse().ok()?;
            (share > 0.0 && share <= 100.0).then_some(Threads::Percent(share))
        }
        None => text.parse().ok().filter(|n| *n <= 1024).map(Threads::Count),
    }
}

/// `localhost:<port>` or `<ip>:<port>`.
#[must_use]
pub fn bind(text: &str) -> Option<Bind> {
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(Bind::Localhost),
        None => text.parse::<SocketAddr>().ok().map(Bind::Exact),
    }
}

/// An https address: `https://host:port`, or `host:port` alone. Returned with its scheme.
#[must_use]
pub fn https(text: &str) -> Option<String> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let uri: http::Uri = full.parse().ok()?;
    let host = uri.host().is_some_and(|host| !host.is_empty());
    (uri.scheme_str() == Some("https") && host).then_some(full)
}

/// A comma-separated list; blanks around and empty members are dropped.
#[must_use]
pub fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
            ("24h", Some(86_400_000)),
            ("1d", Some(86_400_000)),
            ("30", Some(30_000)),
            ("1h 5m", Some(3_900_000)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("10 fortnights", None),
            ("1e400s", None),
            ("99999999999999999999999w", None),
            ("1..5s", None),
        ] {
            assert_eq!(
                duration(text),
                expected.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn thread_counts() {
        for (text, expected) in [
            ("4", Some(Threads::Count(4))),
            ("0", Some(Threads::Count(0))),
            ("50%", Some(Threads::Percent(50.0))),
            ("0%", None),
            ("101%", None),
            ("-1", None),
            ("NaN%", None),
            ("9999999", None),
        ] {
            assert_eq!(threads(text), expected, "{text:?}");
        }
    }

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("2", Some(2)),
            ("500m", Some(1)),
            ("1500m", Some(2)),
            ("0.2", Some(1)),
            ("x", None),
            ("-1", None),
            ("inf", None),
        ] {
            assert_eq!(processors(text), expected, "{text:?}");
        }
    }

    #[test]
    fn control_plane_addresses_are_https() {
        for (text, expected) in [
            (
                "istiod.istio-system.svc:15012",
                Some("https://istiod.istio-system.svc:15012"),
            ),
            ("https://10.0.0.1:15012", Some("https://10.0.0.1:15012")),
            ("https://[fd00::1]:15012", Some("https://[fd00::1]:15012")),
            ("http://istiod:15010", None),
            ("https://", None),
            ("a b", None),
        ] {
            assert_eq!(https(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn bind_addresses() {
        assert_eq!(bind("localhost:15053"), Some(Bind::Localhost(15053)));
        assert_eq!(
            bind("[::1]:53"),
            Some(Bind::Exact("[::1]:53".parse().unwrap()))
        );
        assert_eq!(bind("localhost"), None);
        assert_eq!(bind("example.org:53"), None);
    }
}
