//! Takes values out of a `Source`, collecting what is wrong instead of stopping at it.

use std::path::PathBuf;
use std::time::Duration;

use super::nearest::nearest;
use super::proxy_config::ProxyConfig;
use super::variables::{PREFIXES, SECTIONS};
use super::{ConfigError, ConfigErrors, MESH_CONFIG_PATH, Source, Variable, parse};

/// How much of a refused value is shown.
const SHOWN: usize = 128;

pub(super) struct Reader<'a> {
    source: &'a dyn Source,
    /// Mesh file and `PROXY_CONFIG`, merged.
    pub(super) proxy_config: ProxyConfig,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        let mut reader = Self {
            source,
            proxy_config: ProxyConfig::default(),
            errors: Vec::new(),
        };
        reader.read_proxy_config();
        reader.refuse_unknown();
        reader
    }

    fn read_proxy_config(&mut self) {
        match self.source.mesh_config() {
            Ok(None) => {}
            Ok(Some(text)) => match ProxyConfig::from_mesh_config(&text) {
                Ok(defaults) => self.proxy_config = defaults,
                Err(why) => self.conflict(&format!("{MESH_CONFIG_PATH}: {why}")),
            },
            Err(source) => self.errors.push(ConfigError::MeshConfig {
                path: PathBuf::from(MESH_CONFIG_PATH),
                source,
            }),
        }
        if let Some(text) = self.text(&super::variables::PROXY_CONFIG) {
            match ProxyConfig::from_yaml(&text) {
                Ok(over) => self.proxy_config.merge(over),
                Err(why) => self.conflict(&format!("PROXY_CONFIG: {why}")),
            }
        }
    }

    /// Names with our prefix are ours alone: one we do not know is a slip. Istio's are not
    /// checked, because its releases add names and a chart may set them.
    fn refuse_unknown(&mut self) {
        let known = || SECTIONS.iter().flat_map(|s| s.variables).map(|v| v.name);
        for name in self.source.names() {
            if name.starts_with("AMBIT_") && !known().any(|k| k == name) {
                let nearest = nearest(&name, known().filter(|k| k.starts_with("AMBIT_")));
                self.errors.push(ConfigError::Unknown { name, nearest });
            }
        }
    }

    /// The value as given, which may be empty.
    pub(super) fn raw(&self, variable: &Variable) -> Option<String> {
        self.source.value(variable.name)
    }

    /// The value, with empty as good as unset.
    pub(super) fn text(&self, variable: &Variable) -> Option<String> {
        self.raw(variable).filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self, variable: &Variable) -> Option<PathBuf> {
        self.text(variable).map(PathBuf::from)
    }

    /// The value in its form; a value of another form is an error and reads as unset.
    pub(super) fn parsed<T>(
        &mut self,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(variable)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.invalid(variable.name, &value, variable.form);
        }
        parsed
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, variable: &Variable, default: T) -> T {
        self.parsed(variable, |text| text.parse().ok())
            .unwrap_or(default)
    }

    pub(super) fn switch(&mut self, variable: &Variable, default: bool) -> bool {
        self.parsed(variable, parse::switch).unwrap_or(default)
    }

    pub(super) fn duration(&mut self, variable: &Variable, default: Duration) -> Duration {
        self.parsed(variable, parse::duration).unwrap_or(default)
    }

    /// Everything under a prefix: the rest of the name, and the value.
    pub(super) fn prefixed(&self, prefix: &str) -> Vec<(String, String)> {
        debug_assert!(PREFIXES.iter().any(|(known, _)| *known == prefix));
        let mut found: Vec<_> = self
            .source
            .names()
            .into_iter()
            .filter_map(|name| {
                let rest = name.strip_prefix(prefix)?.to_owned();
                Some((rest, self.source.value(&name)?))
            })
            .collect();
        found.sort();
        found
    }

    pub(super) fn invalid(&mut self, name: &str, value: &str, form: &str) {
        self.errors.push(ConfigError::Invalid {
            name: name.to_owned(),
            value: value.chars().take(SHOWN).collect(),
            form: form.to_owned(),
        });
    }

    pub(super) fn conflict(&mut self, why: &str) {
        self.errors.push(ConfigError::Conflict(why.to_owned()));
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}
