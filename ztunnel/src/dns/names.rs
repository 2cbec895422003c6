//! Which names a question may mean: the name itself, Kubernetes' short forms of it, and what is
//! left of it without a search domain. Pure.

/// A name to look up, and the name the answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// To look up.
    pub name: String,
    /// The owner of the answer: the asked name, or a shorter one it is linked to.
    pub owner: String,
}

/// The candidates for `asked` (lower case, no dot at the end), the most literal first.
/// `search` are the pod's own search domains.
#[must_use]
pub fn candidates(
    asked: &str,
    namespace: &str,
    cluster_domain: &str,
    search: &[String],
) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut add = |name: String, owner: &str| {
        let candidate = Candidate {
            name,
            owner: owner.to_owned(),
        };
        if !all
            .iter()
            .any(|known: &Candidate| known.name == candidate.name)
        {
            all.push(candidate);
        }
    };
    add(asked.to_owned(), asked);
    for expanded in short_forms(asked, namespace, cluster_domain) {
        add(expanded, asked);
    }
    let kubernetes = [
        format!("{namespace}.svc.{cluster_domain}"),
        format!("svc.{cluster_domain}"),
        cluster_domain.to_owned(),
    ];
    for domain in search.iter().chain(&kubernetes) {
        let Some(rest) = asked.strip_suffix(domain.as_str()) else {
            continue;
        };
        let Some(rest) = rest.strip_suffix('.').filter(|rest| !rest.is_empty()) else {
            continue;
        };
        add(rest.to_owned(), rest);
    }
    all
}

/// What a name stands for that leaves the end of a service's full name out:
/// `web`, `web.shop`, `web.shop.svc` and `pod.web.shop.svc`.
fn short_forms(asked: &str, namespace: &str, cluster_domain: &str) -> Vec<String> {
    let labels = asked.split('.').count();
    let mut forms = Vec::new();
    match labels {
        1 => forms.push(format!("{asked}.{namespace}.svc.{cluster_domain}")),
        2 => {
            forms.push(format!("{asked}.svc.{cluster_domain}"));
            // A pod of a headless service of the own namespace.
            forms.push(format!("{asked}.{namespace}.svc.{cluster_domain}"));
        }
        3 | 4 if asked.ends_with(".svc") => forms.push(format!("{asked}.{cluster_domain}")),
        3 => forms.push(format!("{asked}.svc.{cluster_domain}")),
        _ => {}
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &str, search: &[&str]) -> Vec<(String, String)> {
        let search: Vec<_> = search.iter().map(|s| (*s).to_owned()).collect();
        candidates(asked, "shop", "cluster.local", &search)
            .into_iter()
            .map(|candidate| (candidate.name, candidate.owner))
            .collect()
    }

    fn check(asked: &str, search: &[&str], expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        assert_eq!(names(asked, search), expected, "{asked}");
    }

    #[test]
    fn short_names_and_search_domains() {
        check(
            "web",
            &[],
            &[("web", "web"), ("web.shop.svc.cluster.local", "web")],
        );
        check(
            "web.other",
            &[],
            &[
                ("web.other", "web.other"),
                ("web.other.svc.cluster.local", "web.other"),
                ("web.other.shop.svc.cluster.local", "web.other"),
            ],
        );
        check(
            "web.other.svc",
            &[],
            &[
                ("web.other.svc", "web.other.svc"),
                ("web.other.svc.cluster.local", "web.other.svc"),
            ],
        );
        check(
            "api.example.com.shop.svc.cluster.local",
            &[],
            &[
                (
                    "api.example.com.shop.svc.cluster.local",
                    "api.example.com.shop.svc.cluster.local",
                ),
                ("api.example.com", "api.example.com"),
                ("api.example.com.shop", "api.example.com.shop"),
                ("api.example.com.shop.svc", "api.example.com.shop.svc"),
            ],
        );
        check(
            "api.example.com.corp.test",
            &["corp.test"],
            &[
                ("api.example.com.corp.test", "api.example.com.corp.test"),
                ("api.example.com", "api.example.com"),
            ],
        );
        // A suffix in the middle of a label is none.
        check(
            "xcorp.test",
            &["corp.test"],
            &[
                ("xcorp.test", "xcorp.test"),
                ("xcorp.test.svc.cluster.local", "xcorp.test"),
                ("xcorp.test.shop.svc.cluster.local", "xcorp.test"),
            ],
        );
    }
}
