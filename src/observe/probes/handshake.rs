//! A TLS handshake that ends once the server has shown its certificates.
//!
//! **Invariant:** nothing is believed here, so nothing is sent: the connection is dropped after the handshake. Whether the
//! certificates hold is for others to say. The caller bounds the time; rustls bounds the bytes.

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
        // It has shown all it has, and wants something that we have not.
        Err(_) if notes.asked && !notes.chain.is_empty() => None,
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
}

/// Notes what is shown, and has no certificate to show.
#[derive(Debug)]
struct Witness {
    notes: Mutex<Notes>,
    algorithms: WebPkiSupportedAlgorithms,
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
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
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
