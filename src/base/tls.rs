//! TLS for connections that are no HTTP requests, with the trust that [`super::http`] gives its clients.
//!
//! **Invariant:** certificates are verified unless the settings of one target say otherwise.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// How the peers of one target are met: only these authorities (PEM) count, or the machine's if there are none; with
/// `skip_verify` any certificate is believed. Reads the machine's authorities, so it blocks.
pub fn client(ca_pem: Option<&[u8]>, skip_verify: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if skip_verify {
        let anything = Arc::new(Anything(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anything).with_no_client_auth());
    }
    if let Some(pem) = ca_pem {
        // Whoever names an authority means this one, not whatever else the machine trusts.
        return Ok(builder.with_root_certificates(authorities(pem)?).with_no_client_auth());
    }
    let machine = rustls_platform_verifier::Verifier::new(provider)
        .map_err(|error| format!("found no authorities on this machine, expected some or a `ca_file`: {error}"))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(machine)).with_no_client_auth())
}

/// The certificates of a PEM text, of which there is one at least.
fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("found no PEM certificate: {error}"))?;
        roots.add(certificate).map_err(|error| format!("found a certificate that is none: {error}"))?;
    }
    if roots.is_empty() { Err("found no certificate, expected certificates in PEM".to_owned()) } else { Ok(roots) }
}

/// Believes any certificate; the handshake itself still has to be right.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_must_be_one() {
        let pem = include_bytes!("../../tests/config/ca.pem");
        assert_eq!(authorities(pem).map(|roots| roots.len()), Ok(1));
        assert!(client(Some(pem), false).is_ok() && client(None, true).is_ok());
        for wrong in [&b""[..], b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(client(Some(wrong), false).unwrap_err().starts_with("found "), "{wrong:?}");
        }
    }
}
