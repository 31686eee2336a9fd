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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        thread,
        time::Duration,
    };

    use rustls::{
        ServerConfig, ServerConnection, StreamOwned,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };

    use super::*;
    use crate::remote::{Address, Model, Options};

    const FILE: &[u8] = b"bytes of a file";

    /// A server whose certificate an authority of ours has signed; its port.
    fn serve() -> u16 {
        let pem = include_bytes!("../../tests/data/tls-server.pem");
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
        let config = ServerConfig::builder_with_provider(provider().unwrap())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("localhost:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(tls, connection.unwrap()));
                // Who does not trust us says nothing more.
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                let end = FILE.len() - 1;
                let header = format!(
                    "HTTP/1.1 206 X\r\nContent-Range: bytes 0-{end}/{0}\r\nContent-Length: {0}\r\n\r\n",
                    FILE.len()
                );
                let answer = [header.as_bytes(), FILE].concat();
                let _ = stream.get_mut().write_all(&answer);
            }
        });
        port
    }

    #[test]
    fn encrypted_connections_are_to_servers_that_are_trusted() {
        if provider().is_none() {
            return;
        }
        let port = serve();
        let open = |host: &str, certificates: Option<&[u8]>| {
            let address =
                Address::parse(&format!("https://{host}:{port}/x.gguf")).unwrap().unwrap();
            let options = Options {
                certificates: certificates.map(<[u8]>::to_vec),
                tries: 2,
                backoff: Duration::from_millis(1),
                stall: Duration::from_secs(5),
                ..Options::default()
            };
            let scratch = tempfile::tempdir().unwrap();
            Model::open(&address, options, scratch.path()).map_err(|error| error.to_string())
        };
        let authority: &[u8] = include_bytes!("../../tests/data/tls-authority.pem");
        let model = open("localhost", Some(authority)).unwrap();
        assert_eq!(model.files()[0].read_all(100).unwrap(), FILE);
        for (host, certificates) in [("localhost", None), ("127.0.0.1", Some(authority))] {
            let message = open(host, certificates).unwrap_err();
            assert!(message.contains("certificate"), "{message}");
        }
        let message = open("localhost", Some(b"nothing")).unwrap_err();
        assert!(message.contains("no certificate in the file"), "{message}");
    }
}
