//! The names in a client's certificate.
//!
//! **Invariant:** pure; whether the certificate is to be believed is the TLS library's to say.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::model::Timestamp;

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The common name of its subject.
    pub(super) common: Option<String>,
    /// Its subject alternative names: DNS, mail, IP and URI, in this order.
    pub(super) alternative: Vec<String>,
}

impl Names {
    /// The names in a certificate; an error if it is none.
    pub(super) fn of(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok()).map(str::to_owned);
        let found = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let mut kinds: [Vec<String>; 4] = Default::default();
        for name in found.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => kinds[0].push((*name).to_owned()),
                GeneralName::RFC822Name(name) => kinds[1].push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => kinds[2].extend(address(bytes)),
                GeneralName::URI(name) => kinds[3].push((*name).to_owned()),
                _ => {}
            }
        }
        Ok(Self { common, alternative: kinds.concat() })
    }

    /// The one name that people are shown.
    pub(super) fn shown(&self) -> String {
        let name =
            self.common.as_deref().filter(|name| !name.is_empty()).or(self.alternative.first().map(String::as_str));
        // What is shown goes to logs and audit: no line breaks, no end of it.
        name.unwrap_or("without a name").chars().filter(|c| !c.is_control()).take(100).collect()
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).to_string())
}

/// Until when a certificate holds.
pub(super) fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(Timestamp::from_millis(certificate.validity().not_after.timestamp().saturating_mul(1000)))
}
