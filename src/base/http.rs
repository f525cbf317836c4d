//! The shared HTTP client: TLS set-up once, no redirects, no proxy from the environment.
//!
//! **Invariant:** certificates are verified unless the settings of one target say otherwise. A machine without any of its
//! own gets a client that speaks plain HTTP and refuses every TLS peer, so that a minimal container can still watch its
//! neighbours on loopback.

use std::time::Duration;

/// A peer that does not answer a connection attempt within this time is down; checks have their own, shorter limits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are closed before the usual 60 s of servers, so that a check does not meet one just closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes *ring* the process's TLS provider, once; calling again changes nothing.
pub fn install_tls() {
    // The error says that a provider is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A new client with its own connection pool. Must be used from one runtime; cloning shares the pool.
pub fn client() -> Result<reqwest::Client, String> {
    install_tls();
    match builder().build() {
        Ok(client) => Ok(client),
        Err(error) => {
            // Without a certificate on the machine the verifier refuses to be built at all.
            let client = builder().tls_certs_only([]).build().map_err(|error| told(&error))?;
            tracing::warn!(cause = %told(&error), "no certificates on this machine: https peers will be refused");
            Ok(client)
        }
    }
}

/// A client for one target, which trusts these authorities (PEM) instead of the machine's, or verifies nothing at all (SEC-2).
pub fn client_for(ca_pem: Option<&[u8]>, skip_verify: bool) -> Result<reqwest::Client, String> {
    if ca_pem.is_none() && !skip_verify {
        return client();
    }
    install_tls();
    let mut builder = builder().tls_danger_accept_invalid_certs(skip_verify);
    if let Some(pem) = ca_pem {
        let authorities = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| told(&error))?;
        // Whoever names an authority means this one, not whatever else the machine trusts.
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| told(&error))
}

pub(super) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("chiron/", env!("CARGO_PKG_VERSION")))
}

/// An error with its causes, on one line.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_built_with_and_without_certificates() {
        assert!(client().is_ok());
        assert!(client().is_ok());
        assert!(client_for(None, true).is_ok() && client_for(Some(b"no certificate"), false).is_ok());
        install_tls();
        assert!(builder().tls_certs_only([]).build().is_ok());
    }
}
