//! TLS as the web configuration file wants it (SEC-1).
//!
//! **Invariant:** TLS 1.2 at least; a certificate that was not verified names nobody.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::model::Timestamp;

use super::certificate::{Names, not_after};

/// Go's five ways to ask for a client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// Not at all.
    #[default]
    NoClientCert,
    /// Asked for, none needed, none verified.
    RequestClientCert,
    /// One is needed, none is verified.
    RequireAnyClientCert,
    /// None is needed; one that is given is verified.
    VerifyClientCertIfGiven,
    /// One is needed and verified.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    /// Whether certificates are verified.
    pub(super) const fn verifies(self) -> bool {
        matches!(self, Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert)
    }

    const fn requires(self) -> bool {
        matches!(self, Self::RequireAnyClientCert | Self::RequireAndVerifyClientCert)
    }
}

/// What the file asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// PEM.
    pub(super) certificate: Vec<u8>,
    /// PEM.
    pub(super) key: Vec<u8>,
    /// PEM.
    pub(super) client_ca: Option<Vec<u8>>,
    pub(super) client_auth: ClientAuth,
    /// None: any.
    pub(super) allowed_names: Option<Vec<String>>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// None: all of the library's.
    pub(super) suites: Option<Vec<SupportedCipherSuite>>,
    /// None: all of the library's.
    pub(super) groups: Option<Vec<&'static dyn SupportedKxGroup>>,
    pub(super) server_chooses: bool,
    pub(super) http2: bool,
}

/// TLS, ready to serve.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// Whether a client's certificate says who it is.
    pub(super) verifies: bool,
    /// Until when our own certificate holds.
    pub(super) not_after: Option<Timestamp>,
}

/// Which part of the file is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Certificate,
    Key,
    ClientCa,
    Suites,
}

/// TLS by the file, or the part that stands in the way and what was found there.
pub(super) fn build(wanted: &Wanted) -> Result<Tls, (Part, String)> {
    let chain = certificates(&wanted.certificate).map_err(|found| (Part::Certificate, found))?;
    let key = PrivateKeyDer::from_pem_slice(&wanted.key)
        .map_err(|error| (Part::Key, format!("no private key in PEM ({error})")))?;
    let not_after = chain.first().and_then(|leaf| not_after(leaf));
    let mut provider = ring::default_provider();
    if let Some(groups) = &wanted.groups {
        provider.kx_groups.clone_from(groups);
    }
    if let Some(suites) = &wanted.suites {
        // As in Go, the suites of TLS 1.3 are not to be chosen.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || suites.contains(suite));
    }
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&wanted.versions)
        .map_err(|error| (Part::Suites, format!("no way to speak TLS ({error})")))?;
    let builder = match verifier(wanted, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => (Part::Key, "the key of another certificate".to_owned()),
        rustls::Error::InvalidCertificate(_) => (Part::Certificate, format!("no usable certificate ({error})")),
        _ => (Part::Key, format!("no usable key ({error})")),
    })?;
    config.ignore_client_order = wanted.server_chooses;
    config.alpn_protocols =
        if wanted.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Tls { config: Arc::new(config), verifies: wanted.client_auth.verifies(), not_after })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no certificate in PEM ({error})"))?;
    if chain.is_empty() { Err("no certificate in PEM".to_owned()) } else { Ok(chain) }
}

fn verifier(
    wanted: &Wanted,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, (Part, String)> {
    let auth = wanted.client_auth;
    if auth == ClientAuth::NoClientCert {
        return Ok(None);
    }
    let inner: Arc<dyn ClientCertVerifier> = if auth.verifies() {
        let mut roots = RootCertStore::empty();
        for certificate in
            certificates(wanted.client_ca.as_deref().unwrap_or_default()).map_err(|found| (Part::ClientCa, found))?
        {
            roots.add(certificate).map_err(|error| (Part::ClientCa, format!("no usable certificate ({error})")))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if auth.requires() { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| (Part::ClientCa, format!("nothing to verify by ({error})")))?
    } else {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(Unverified { required: auth.requires(), algorithms })
    };
    Ok(Some(match &wanted.allowed_names {
        Some(names) => Arc::new(Named { inner, names: names.clone() }),
        None => inner,
    }))
}

/// Takes any certificate, as long as the client has its key. What it says is not believed.
#[derive(Debug)]
struct Unverified {
    required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Unverified {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes only certificates that have one of these subject alternative names.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        let names = Names::of(certificate).map_err(|_| CertificateError::BadEncoding)?;
        if names.alternative.iter().any(|name| self.names.contains(name)) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
