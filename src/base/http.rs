//! The shared HTTP client: TLS set-up once, no redirects, no proxy from the environment.
//!
//! **Invariant:** certificates are always verified. A machine without any of its own gets a client that speaks plain
//! HTTP and refuses every TLS peer, so that a minimal container can still watch its neighbours on loopback.

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

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("chiron/", env!("CARGO_PKG_VERSION")))
}

/// An error with its causes, on one line.
fn told(error: &dyn std::error::Error) -> String {
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
        install_tls();
        assert!(builder().tls_certs_only([]).build().is_ok());
    }
}
