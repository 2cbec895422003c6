//! An authority that can sign.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ambit_model::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::CertificateDer;

use super::files::{check_authority, intermediates, many, single};
use super::{
    AuthorityPem, BACKDATE, IssueError, Issued, NewRootOptions, Serving, new_root, offset,
    serial_number,
};
use crate::clock::unix_time;
use crate::error::bounded;
use crate::limits::MAX_CSR_BYTES;
use crate::trust::Roots;
use crate::verify::{Peer, verify_path};
use crate::x509;

/// A certificate authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Between leaf and root, the signing certificate first; empty where the root itself signs.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    not_after: SystemTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Loads an authority and checks that key, certificates and roots fit together and are valid
    /// at `now`.
    pub fn from_pem(pem: AuthorityPem<'_>, now: SystemTime) -> Result<Self, IssueError> {
        let bad = IssueError::BadAuthority;
        let ca = single(pem.ca_cert).map_err(|e| bad(format!("ca-cert.pem: {e}")))?;
        let key = KeyPair::from_pem(pem.ca_key).map_err(|e| bad(format!("ca-key.pem: {e}")))?;
        let chain = many(pem.cert_chain).map_err(|e| bad(format!("cert-chain.pem: {e}")))?;
        let roots = many(pem.root_cert).map_err(|e| bad(format!("root-cert.pem: {e}")))?;
        let facts = check_authority(&ca, &key, now).map_err(bad)?;
        let authority = Self {
            issuer: Issuer::from_ca_cert_der(&ca, key)?,
            intermediates: intermediates(&ca, chain, &roots),
            roots,
            not_after: facts.not_after,
        };
        authority.check_path(now)?;
        Ok(authority)
    }

    /// Signs a certificate for nobody and verifies it as a peer would.
    fn check_path(&self, now: SystemTime) -> Result<(), IssueError> {
        let probe = self.client("spiffe://probe.invalid", Duration::from_secs(60), now)?;
        let roots = Roots::from_der(self.roots.clone())
            .map_err(|error| IssueError::BadAuthority(format!("root-cert.pem: {error}")))?;
        let algorithms =
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let (leaf, rest) = (&probe.chain[0], &probe.chain[1..]);
        verify_path(
            roots.anchors(),
            leaf,
            rest,
            Peer::Client,
            unix_time(now),
            &algorithms,
        )
        .map_err(|error| {
            let text =
                "what ca-cert.pem signs does not lead through cert-chain.pem to root-cert.pem";
            IssueError::BadAuthority(format!("{text}: {error}"))
        })
    }

    /// A self-signed authority that lives in memory only.
    pub fn ephemeral(options: NewRootOptions<'_>) -> Result<Self, IssueError> {
        let root = new_root(options)?;
        let pem = AuthorityPem {
            ca_cert: &root.cert_pem,
            ca_key: &root.key_pem,
            cert_chain: "",
            root_cert: &root.cert_pem,
        };
        Self::from_pem(pem, options.now)
    }

    /// A subordinate authority that lives in memory only.
    pub fn intermediate(
        &self,
        name: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, IssueError> {
        let (cert_pem, key_pem) = self.intermediate_pem(name, lifetime, now)?;
        let above: String = self
            .intermediates
            .iter()
            .map(|c| x509::pem("CERTIFICATE", c))
            .collect();
        let pem = AuthorityPem {
            ca_cert: &cert_pem,
            ca_key: &key_pem,
            cert_chain: &above,
            root_cert: &self.roots_pem(),
        };
        Self::from_pem(pem, now)
    }

    /// Certificate and key of a subordinate authority, to be plugged in elsewhere.
    pub fn intermediate_pem(
        &self,
        name: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(String, String), IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        self.set_dates(&mut params, lifetime, now)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((
            x509::pem("CERTIFICATE", certificate.der()),
            key.serialize_pem(),
        ))
    }

    /// Signs a request for `identity` and nobody else. The life is cut where the authority's own
    /// ends.
    pub fn sign(
        &self,
        identity: &Identity,
        csr_pem: &str,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        let request = read_request(csr_pem)?;
        let name = SanType::URI(identity.to_string().try_into()?);
        if request.params.subject_alt_names != [name.clone()] {
            return Err(IssueError::WrongIdentity {
                presented: describe(&request.params.subject_alt_names),
                expected: identity.to_string(),
            });
        }
        let mut params = leaf_params();
        params.subject_alt_names = vec![name];
        let not_after = self.set_dates(&mut params, ttl, now)?;
        // Nothing of the request but its key goes into the certificate.
        let request = CertificateSigningRequestParams {
            params,
            public_key: request.public_key,
        };
        self.issued(request.signed_by(&self.issuer)?.der().clone(), not_after)
    }

    /// Makes a key and a certificate for a server with these names.
    pub fn serving(
        &self,
        dns_names: &[String],
        addresses: &[IpAddr],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Serving, IssueError> {
        let mut names = Vec::with_capacity(dns_names.len() + addresses.len());
        for name in dns_names {
            names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.keyed(names, ttl, now)
    }

    /// Makes a key and a client certificate with this URI name.
    pub fn client(&self, uri: &str, ttl: Duration, now: SystemTime) -> Result<Serving, IssueError> {
        self.keyed(vec![SanType::URI(uri.try_into()?)], ttl, now)
    }

    /// All trusted roots as one PEM text.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.roots
            .iter()
            .map(|root| x509::pem("CERTIFICATE", root))
            .collect()
    }

    /// All trusted roots.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// When the signing certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    fn keyed(
        &self,
        names: Vec<SanType>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Serving, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf_params();
        params.subject_alt_names = names;
        let not_after = self.set_dates(&mut params, ttl, now)?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let chain = self.issued(certificate, not_after)?.chain;
        Ok(Serving {
            chain,
            key: key.serialize_der().into(),
            not_after,
        })
    }

    fn issued(
        &self,
        leaf: CertificateDer<'static>,
        not_after: SystemTime,
    ) -> Result<Issued, IssueError> {
        let serial = x509::facts(&leaf).map_err(IssueError::BadRequest)?.serial;
        let mut chain = Vec::with_capacity(1 + self.intermediates.len());
        chain.push(leaf);
        chain.extend_from_slice(&self.intermediates);
        Ok(Issued {
            chain,
            serial,
            not_after,
        })
    }

    fn set_dates(
        &self,
        params: &mut CertificateParams,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<SystemTime, IssueError> {
        let not_after = (now + ttl).min(self.not_after);
        if not_after <= now {
            return Err(IssueError::AuthorityExpired(self.not_after));
        }
        params.serial_number = Some(serial_number());
        params.not_before = offset(now - BACKDATE);
        params.not_after = offset(not_after);
        Ok(not_after)
    }
}

fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Parses a request and checks that it is signed by the key it is for.
fn read_request(csr_pem: &str) -> Result<CertificateSigningRequestParams, IssueError> {
    if csr_pem.len() > MAX_CSR_BYTES {
        return Err(IssueError::BadRequest(format!(
            "longer than {MAX_CSR_BYTES} bytes"
        )));
    }
    CertificateSigningRequestParams::from_pem(csr_pem)
        .map_err(|error| IssueError::BadRequest(error.to_string()))
}

fn describe(names: &[SanType]) -> String {
    if names.is_empty() {
        return "nobody".into();
    }
    let text = |name: &SanType| match name {
        SanType::URI(uri) => uri.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    bounded(&names.iter().map(text).collect::<Vec<_>>().join(", "))
}
