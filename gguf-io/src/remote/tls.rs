//! Encryption: rustls, with cryptography that needs no C compiler.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// How servers are trusted: by Mozilla's list of authorities, or by those of a PEM file.
pub(super) fn config(
    certificates: Option<&[u8]>,
    provider: Option<Arc<CryptoProvider>>,
) -> Result<TlsConfig, String> {
    let mut config = TlsConfig::builder().provider(TlsProvider::Rustls);
    if let Some(pem) = certificates {
        let mut roots: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(format!("the certificates cannot be read: {error}")),
            }
        }
        if roots.is_empty() {
            return Err("there is no certificate in the file of certificates".to_owned());
        }
        config = config.root_certs(RootCerts::Specific(Arc::new(roots)));
    }
    if let Some(provider) = provider {
        config = config.unversioned_rustls_crypto_provider(provider);
    }
    Ok(config.build())
}

/// There is no cryptography for this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn provider() -> Option<Arc<CryptoProvider>> {
    None
}

/// The cryptography, if this processor can run it: it has no code without these instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn provider() -> Option<Arc<CryptoProvider>> {
    #[cfg(target_arch = "x86_64")]
    let runs = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    let runs = std::arch::is_aarch64_feature_detected!("neon")
        && std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    runs.then(|| Arc::new(rustls_graviola::default_provider()))
}
