//! Who calls, and whom: the caller's token, and TLS.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sessiond_client::{ConfigError, Save};
use tonic::transport::{Identity, ServerTlsConfig};

use super::{
    SessionClient, id, patient, patiently,
    scripted::{Answer, Scripted, outage},
    told,
};

const TOKEN: &str = "correct-horse.battery~staple+/=";

#[tokio::test]
async fn the_token_comes_with_every_call_and_every_repeat() {
    let server = Scripted::start(|asked| match asked.before {
        0 => Answer::No(outage(Default::default())),
        _ => Answer::Fine,
    });
    let client = patiently(server.address()).token(TOKEN).build().unwrap();
    client.open(&id()).await.unwrap();
    client.save(Save::create()).await.unwrap();
    client.destroy(&id()).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    for asked in asked {
        assert_eq!(asked.header("authorization"), Some(&format!("Bearer {TOKEN}")[..]));
        assert!(asked.header("user-agent").unwrap().starts_with("sessiond-client/"));
    }
    patient(server.address()).open(&id()).await.unwrap();
    assert_eq!(server.asked()[0].header("authorization"), None, "who has none shows none");
}

#[test]
fn a_token_is_not_sent_in_clear_to_another_machine() {
    let with_token = |address: &str| SessionClient::builder().address(address).token(TOKEN);
    for far in [
        "sessiond:1",
        "http://10.0.0.1:1",
        "[2001:db8::1]:1",
        "localhost:1,10.0.0.1:1",
        "localhost.example.com:1",
        "0.0.0.0:1",
    ] {
        let refused = with_token(far).build().map(drop).expect_err(far);
        assert_eq!(refused, ConfigError::PlaintextToken, "{far}");
        assert!(!refused.to_string().contains(TOKEN));
        with_token(far).allow_plaintext_token().build().expect("the network encrypts");
    }
    for near in ["localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "https://sessiond:1", "https://10.0.0.1:1"] {
        with_token(near).build().expect(near);
    }
    assert!(SessionClient::builder().token(TOKEN).build().is_ok(), "the default is this machine");
}

#[test]
fn a_token_is_what_a_header_can_carry() {
    for wrong in ["", " ", "two words", "line\n", "\r\nx: y", "tab\t", "nul\0", "schl\u{fc}ssel"] {
        let refused = SessionClient::builder().token(wrong).build().map(drop).expect_err("it is no token");
        assert_eq!(refused, ConfigError::Token, "{wrong:?}");
    }
}

/// A certificate authority, and a certificate that it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::default();
        let name = format!("test authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A service with a certificate for these names.
    fn server(&self, names: &[&str]) -> Scripted {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Scripted::start_on(listener, Some(tls), |_| Answer::Fine)
    }
}

/// It is an outage, told soon, and one of these words says why.
async fn fails_for(client: SessionClient, words: &[&str]) {
    let begun = Instant::now();
    let error = client.open(&id()).await.expect_err("nobody is there whom we know");
    let told = told(&error);
    println!("{words:?}: {told}");
    assert!(error.is_outage(), "{told}");
    assert!(words.iter().any(|word| told.contains(word)), "{told}");
    assert!(begun.elapsed().as_secs() < 5, "it waited for {:?}", begun.elapsed());
}

#[tokio::test]
async fn with_tls_the_server_is_one_that_the_authority_knows() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.server(&["localhost", "127.0.0.1"]);
    let port = server.address().port();
    let trusting = |host: &str, authority: &Authority| {
        let client = patiently(format!("https://{host}:{port}")).certificate_authority(authority.pem.clone());
        client.token(TOKEN).build().unwrap()
    };
    for host in ["127.0.0.1", "localhost"] {
        let client = trusting(host, &ours);
        client.open(&id()).await.unwrap();
        client.save(Save::create()).await.unwrap();
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_some()));

    fails_for(trusting("127.0.0.1", &theirs), &["UnknownIssuer"]).await;
    // The system knows neither.
    fails_for(patient(format!("https://127.0.0.1:{port}")), &["UnknownIssuer"]).await;
    let other_name = ours.server(&["sessiond.example"]);
    let client = patiently(format!("https://{}", other_name.address())).certificate_authority(ours.pem.clone());
    fails_for(client.build().unwrap(), &["not valid for name", "NotValidForName"]).await;
    assert!(server.asked().is_empty() && other_name.asked().is_empty(), "nobody else saw the token");
}

#[tokio::test]
async fn with_and_without_tls_do_not_meet() {
    let authority = Authority::new();
    let plain = Scripted::fine();
    let client = patiently(format!("https://{}", plain.address())).certificate_authority(authority.pem.clone());
    fails_for(client.build().unwrap(), &["InvalidContentType", "corrupt message"]).await;
    let tls = authority.server(&["127.0.0.1"]);
    let error = patient(tls.address()).open(&id()).await.unwrap_err();
    assert!(error.is_outage(), "{}", told(&error));
    println!("http:// where TLS is spoken: {}", told(&error));
}

#[test]
fn an_authority_that_cannot_be_read_is_told_at_once() {
    let key = KeyPair::generate().expect("a key").serialize_pem();
    let cut_off = Authority::new().pem.split_at(200).0.to_owned();
    for wrong in ["", "no PEM", &key, &cut_off] {
        let client = SessionClient::builder().address("https://localhost:1").certificate_authority(wrong);
        assert_eq!(client.build().map(drop), Err(ConfigError::Authority), "{wrong:?}");
    }
}
