//! Node tokens: what a node shows to be let in, signed by the controller's own key, which only
//! the controller and `controller node-token` read.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ambit_identity::Clock;
use ambit_model::NodeName;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};

use super::files::{self, Access, FileError, TOKEN_KEY};

/// Who issues node tokens.
const ISSUER: &str = "ambit-controller";

/// Whom they are for.
const AUDIENCE: &str = "ambit-node";

/// How far the clocks of controller and issuer may be apart.
const LEEWAY: Duration = Duration::from_secs(60);

/// Bytes of a token. Attack: large tokens parsed before anybody is known.
const MAX_TOKEN_BYTES: usize = 4096;

/// Issues and verifies node tokens.
#[derive(Clone)]
pub struct NodeTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for NodeTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTokens").finish_non_exhaustive()
    }
}

/// Why there is no token, or why one is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key.
    #[error("{TOKEN_KEY} is not an ECDSA P-256 key in PEM: {0}")]
    Key(String),
    /// A node name that cannot be one.
    #[error(
        "{0:?} is not a node name: expected lower case letters, digits, '-' and '.', at most 253"
    )]
    NodeName(String),
    /// Not a token of this controller.
    #[error("not a node token of this controller: {0}")]
    Invalid(String),
    /// Past its end.
    #[error("the token of node {node} expired {ago:?} ago")]
    Expired {
        /// Whose.
        node: String,
        /// Since when.
        ago: Duration,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The node's name.
    sub: String,
    /// Seconds since 1970.
    iat: u64,
    /// Seconds since 1970.
    exp: u64,
    /// Tells one token from another.
    jti: String,
}

impl NodeTokens {
    /// Reads the key from `dir`, or makes it on the first use.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, TokenError> {
        files::create_dir(dir)?;
        let _lock = files::lock(dir)?;
        let path = dir.join(TOKEN_KEY);
        let mut pem = files::read_optional(&path)?;
        if pem.is_empty() {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                .map_err(|error| TokenError::Key(error.to_string()))?;
            pem = key.serialize_pem();
            files::write(&path, &pem, Access::Owner)?;
        }
        files::warn_if_exposed(&path);
        Self::from_pem(&pem, clock)
    }

    fn from_pem(pem: &str, clock: Arc<dyn Clock>) -> Result<Self, TokenError> {
        let key = KeyPair::from_pem(pem).map_err(|error| TokenError::Key(error.to_string()))?;
        let bad = |error: jsonwebtoken::errors::Error| TokenError::Key(error.to_string());
        Ok(Self {
            signing: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(bad)?,
            verifying: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).map_err(bad)?,
            clock,
        })
    }

    /// A token for `node`, valid for `ttl`.
    pub fn issue(&self, node: &str, ttl: Duration) -> Result<String, TokenError> {
        if !is_node_name(node) {
            return Err(TokenError::NodeName(node.chars().take(253).collect()));
        }
        let now = self.now();
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: node.into(),
            iat: now,
            exp: now.saturating_add(ttl.as_secs()),
            jti: format!("{:032x}", rand::random::<u128>()),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing)
            .map_err(|error| TokenError::Key(error.to_string()))
    }

    /// The node a token is for.
    pub fn verify(&self, token: &str) -> Result<NodeName, TokenError> {
        let invalid = |reason: &dyn std::fmt::Display| TokenError::Invalid(reason.to_string());
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid(&"too long"));
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, by this program's clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation)
            .map_err(|error| invalid(&error))?
            .claims;
        let (now, leeway) = (self.now(), LEEWAY.as_secs());
        if claims.exp.saturating_add(leeway) <= now {
            let ago = Duration::from_secs(now - claims.exp);
            return Err(TokenError::Expired {
                node: claims.sub,
                ago,
            });
        }
        if claims.iat > now.saturating_add(leeway) {
            return Err(invalid(&"issued in the future: are the clocks right?"));
        }
        if !is_node_name(&claims.sub) {
            return Err(TokenError::NodeName(claims.sub));
        }
        Ok(NodeName::from(claims.sub))
    }

    fn now(&self) -> u64 {
        self.clock
            .now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    }
}

/// As Kubernetes names nodes: a DNS subdomain.
pub(super) fn is_node_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 253
        && name.chars().all(allowed)
        && edge(name.chars().next())
        && edge(name.chars().next_back())
}
