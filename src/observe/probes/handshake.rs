//! A TLS handshake that ends once the server has shown its certificates.
//!
//! **Invariant:** nothing is believed here, so nothing is sent: the connection is dropped after the handshake. What is
//! shown is the server's own: it has proved that it has the key. Whether the certificates hold is for others to say. The caller bounds the time; rustls bounds the bytes.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::base::http::told;

/// What a server has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its certificate, then those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The version of TLS, such as `TLSv1_3`; `None` if the server wanted a certificate of ours and ended there.
    pub protocol: Option<String>,
    /// Whether it asked for a certificate of ours.
    pub asks_for_certificate: bool,
}

/// Connects to `HOST:PORT` and asks for the certificate of `name`.
pub async fn handshake(address: &str, name: ServerName<'static>) -> Result<Shown, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let witness = Arc::new(Witness { notes: Mutex::default(), algorithms: provider.signature_verification_algorithms });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_client_cert_resolver(witness.clone());
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let notes = witness.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let protocol = match connected {
        Ok(stream) => stream.get_ref().1.protocol_version().and_then(|version| version.as_str().map(str::to_owned)),
        // It has shown all it has, and wants something that we have not. A chain alone anybody can show.
        Err(_) if notes.asked && notes.proved => None,
        Err(error) => return Err(refusal(&error)),
    };
    Ok(Shown { chain: notes.chain, protocol, asks_for_certificate: notes.asked })
}

fn refusal(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidMessage(_)) => "found an answer that is no TLS, expected a handshake".to_owned(),
        Some(Error::AlertReceived(alert)) => format!("the server ended the handshake: {alert:?}"),
        Some(error) => format!("no handshake: {error}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the server closed the connection in the middle of the handshake".to_owned()
        }
        None => told(error),
    }
}

#[derive(Clone, Debug, Default)]
struct Notes {
    chain: Vec<CertificateDer<'static>>,
    asked: bool,
    /// It has signed with the key of its certificate.
    proved: bool,
}

/// Notes what is shown, and has no certificate to show.
#[derive(Debug)]
struct Witness {
    notes: Mutex<Notes>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Witness {
    fn noted(&self, verified: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).proved |= verified.is_ok();
        verified
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).chain = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.noted(verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.noted(verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).asked = true;
        None
    }

    fn has_certs(&self) -> bool {
        // Without certificates it would not be asked.
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
    use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// A certificate for `host`, signed with its own key, which is Ed25519 of 32 sevens.
    const CERTIFICATE: &str = "\
        MIIBRTCB+KADAgECAhQWqSlepmvbNbr/tB4G/I9Cw68r5TAFBgMrZXAwDzENMAsGA1UEAwwEaG9zdDAgFw0yNjExMjIyMTQ1MzRa\
        GA8yMTI2MTAyOTIxNDUzNFowDzENMAsGA1UEAwwEaG9zdDAqMAUGAytlcAMhAOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkU\
        RtIso2QwYjAdBgNVHQ4EFgQUTF7OQCOgNB7irP/MTRcVSoVPAuUwHwYDVR0jBBgwFoAUTF7OQCOgNB7irP/MTRcVSoVPAuUwDwYD\
        VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGggRob3N0MAUGAytlcANBABs51csZfql9stG1U3UmNTnnMAICMFKL4tMTCBawDtDmpZCk\
        nQnVqwp8gEnlATKQdlQJ+squohc6ImdXSk+n9Qk=";

    /// Shows a chain, whether its key is the one of the chain or another.
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl ResolvesServerCert for Shows {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    /// What is seen of a server that demands a certificate and signs with the key of this seed.
    async fn seen(seed: u8, version: &'static SupportedProtocolVersion) -> Result<Shown, String> {
        let der = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, CERTIFICATE).unwrap();
        let certificate = CertificateDer::from(der);
        let mut key = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        key.extend([seed; 32]);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
        let key = ring::sign::any_supported_type(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients.unwrap())
            .with_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(vec![certificate], key)))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            // It refuses whoever has no certificate.
            assert!(TlsAcceptor::from(Arc::new(config)).accept(stream).await.is_err());
        };
        tokio::join!(handshake(&address, ServerName::try_from("host").unwrap()), serve).0
    }

    /// OBS-7: a server that demands a certificate has shown its own all the same, but only if it has the key of it: a chain
    /// alone can be replayed by anybody.
    #[tokio::test]
    async fn a_chain_without_its_key_is_nothing() {
        for version in [&version::TLS12, &version::TLS13] {
            let sound = seen(7, version).await.unwrap();
            assert!(sound.asks_for_certificate && sound.chain.len() == 1, "{sound:?}");
            let error = seen(8, version).await.unwrap_err();
            assert!(error.contains("BadSignature"), "{error}");
        }
    }
}
