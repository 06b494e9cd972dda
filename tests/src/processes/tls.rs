//! A Redis that is spoken to over TLS, and who vouches for it.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{TestRedis, reserved_port};

/// A certificate authority, and the certificates that it signed, as files.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One of this name.
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).expect("a certificate").pem())
            .expect("it can be written");
        let authority = Self { folder, issuer: Issuer::new(params, key) };
        for (file, name) in [("server", "127.0.0.1"), ("client", "sessiond")] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new([name.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &authority.issuer).expect("a certificate");
            fs::write(authority.path(&format!("{file}.pem")), certificate.pem()).expect("it can be written");
            fs::write(authority.path(&format!("{file}.key")), key.serialize_pem()).expect("it can be written");
        }
        authority
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The path of one of its files, for a command line: `ca.pem`; `server.pem` and `client.pem`, and their keys as `.key`.
    pub fn text(&self, file: &str) -> String {
        self.path(file).to_string_lossy().into_owned()
    }

    /// A Redis that speaks TLS on a port of its own; where it listens.
    pub async fn redis(&self, asks_for_certificates: bool) -> (TestRedis, String) {
        let port = reserved_port();
        let redis = TestRedis::start_with(&[
            "--save",
            "",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &self.text("server.pem"),
            "--tls-key-file",
            &self.text("server.key"),
            "--tls-ca-cert-file",
            &self.text("ca.pem"),
            "--tls-auth-clients",
            if asks_for_certificates { "yes" } else { "no" },
        ])
        .await;
        (redis, format!("rediss://127.0.0.1:{port}"))
    }
}
