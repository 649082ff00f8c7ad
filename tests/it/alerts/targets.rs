//! Receivers that speak TLS, names that resolve to something else when they are used: who is reached, and who is not.
//!
//! All of 127.0.0.0/8 is this machine: a part of it that `alerts.allow_networks` names stands for the public internet, the rest for the
//! network of the operator.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::channels::SECRET;
use super::{World, ask, many};
use crate::harness::names::Names;
use crate::harness::receiver::{MailServer, Reaction, Received, Receiver};
use crate::harness::{PATIENCE, POLL};

/// A certificate for names that nobody has signed, and the key to it.
fn certified(names: &[&str]) -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// Addresses that no other run of the tests has: what is saved over HTTP goes to the same port everywhere.
struct Addresses([u8; 2]);

impl Addresses {
    fn new() -> Self {
        let [.., a, b] = std::process::id().to_be_bytes();
        Self([a, b])
    }

    /// One of the networks that stand for the public internet.
    fn public(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 64 + number, self.0[0], self.0[1])
    }

    fn private(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 32, self.0[0], self.0[1])
    }
}

#[tokio::test]
async fn only_a_receiver_with_a_known_certificate_at_an_address_that_may_be_reached_is_told() {
    let addresses = Addresses::new();
    let (known, acceptor) =
        certified(&["good.example.com", "slow.example.com", "turned.example.com", "hidden.example.com", "mail.example.com"]);
    let (_, stranger) = certified(&["stranger.example.com"]);
    let at = |ip: Ipv4Addr| SocketAddr::from((ip, 8443));
    let good = Receiver::start_at(at(addresses.public(0)), Some(acceptor.clone())).await;
    let slow = Receiver::start_at(at(addresses.public(1)), Some(acceptor.clone())).await;
    let stranger = Receiver::start_at(at(addresses.public(2)), Some(stranger)).await;
    let wrong = Receiver::start_at(at(addresses.public(3)), Some(acceptor.clone())).await;
    let turned = Receiver::start_at(at(addresses.public(4)), Some(acceptor.clone())).await;
    // The password is what the environment of a world has.
    let mail = MailServer::start_guarded(acceptor.clone(), "pulse", &format!("whsec_{SECRET}")).await;
    let private = Receiver::start_at(at(addresses.private()), Some(acceptor)).await;
    slow.react([Reaction::Slow]);

    let hosts = |lines: &[(&str, String)]| lines.iter().map(|(name, ip)| format!("{name}.example.com {ip}\n")).collect::<String>();
    let (public, inside) = (|number| addresses.public(number).to_string(), addresses.private().to_string());
    let names = Names::new(&hosts(&[
        ("good", public(0)),
        ("slow", public(1)),
        ("stranger", public(2)),
        ("wrong", public(3)),
        // As DNS rebinding does it: what is checked is another address than what is connected to, if that asks again.
        ("turned", public(4)),
        ("turned", inside.clone()),
        ("hidden", format!("{},{inside}", public(4))),
        ("inside", inside.clone()),
        ("mail", "127.0.0.1".to_owned()),
        ("127.0.0.1.nip", inside.clone()),
    ]));
    let certificates = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(certificates.path(), known).unwrap();
    let mut environment = names.environment();
    environment.push(("SSL_CERT_FILE", certificates.path().display().to_string()));
    environment.push(("PULSE__ALERTS__ALLOW_NETWORKS", "127.64.0.0/10".to_owned()));
    let by_mail = format!(
        "[channels.mail]\nkind = 'email'\nurl = 'smtps://mail.example.com:{}'\nuser = 'pulse'\npassword = 'env:HOOK_SECRET'\n\
        from = 'pulse@example.com'\nto = ['ada@example.com']\n",
        mail.port()
    );
    let mut world = World::start(&by_mail, &environment).await;

    let channels = ["slow", "stranger", "wrong", "turned", "hidden", "inside", "127.0.0.1.nip", "good"];
    let id = |name: &str| name.replace('.', "-");
    for name in channels {
        let channel = json!({"kind": "webhook", "url": format!("https://{name}.example.com:8443/hook?of={name}")});
        let (status, answer) = ask(world.http(), Method::PUT, &format!("/v1/channels/{}", id(name)), &channel).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    // Without a name it is refused when it is saved, whatever the list allows beside it.
    let channel = json!({"kind": "webhook", "url": format!("https://{inside}:8443/")});
    let (status, answer) = ask(world.http(), Method::PUT, "/v1/channels/bare", &channel).await;
    assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("webhook_url_forbidden")));

    let ids: Vec<String> = channels.map(id).into_iter().chain(["mail".to_owned()]).collect();
    world.put("signups", &many("signup", &ids.iter().map(String::as_str).collect::<Vec<_>>())).await;
    world.judged("signups").await;
    for number in [3, 1] {
        world.send("signup", number).await;
        world.pass(60);
        world.judged("signups").await;
    }
    // The good one is told of both while others hang or fail.
    let told = good.wait("/hook?of=good", 2).await;
    assert_eq!(told.iter().map(Received::kind).collect::<Vec<_>>(), ["firing", "resolved"]);
    assert_eq!(told[0].header("host"), "good.example.com:8443");
    // So is who gets mail of a server that asks for a password, over TLS.
    let mails = mail.wait(2).await;
    assert!(mails.iter().all(|mail| mail.contains("ada@example.com") && mail.contains("many signup")), "{mails:#?}");
    assert_eq!(turned.wait("/hook?of=turned", 1).await[0].kind(), "firing");
    let outcomes = async |channel: &str| {
        let history = world.history("signups").await;
        let of = |entry: &&Value| entry["event"] == "notice" && entry["channel"] == channel && entry["outcome"] != "retried";
        let mut outcomes: Vec<String> =
            history["history"].as_array().unwrap().iter().filter(of).map(|entry| entry["outcome"].as_str().unwrap().to_owned()).collect();
        outcomes.reverse();
        outcomes
    };
    let until = async |channel: &str, expected: &[&str]| {
        let waiting = async {
            while outcomes(channel).await.len() < expected.len() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{channel} has not ended"));
        assert_eq!(outcomes(channel).await, expected, "{channel}");
    };
    until("turned", &["delivered", "refused"]).await;
    for refused in ["hidden", "inside", "127-0-0-1-nip"] {
        until(refused, &["refused", "refused"]).await;
    }
    // The slow one takes it the second time, under the same id.
    until("slow", &["delivered", "delivered"]).await;
    let tried = slow.at("/hook?of=slow");
    let kinds: Vec<&str> = tried.iter().map(Received::kind).collect();
    assert_eq!((kinds, tried[0].header("webhook-id")), (vec!["firing", "firing", "resolved"], tried[1].header("webhook-id")));

    // Those who show no certificate that is known are tried again and again, and are told nothing.
    for (name, receiver) in [("stranger", &stranger), ("wrong", &wrong)] {
        let (_, tried) = ask(world.http(), Method::POST, &format!("/v1/channels/{name}/test"), &Value::Null).await;
        assert_eq!((&tried["outcome"], &tried["why"]), (&json!("failed"), &json!("the connection cannot be encrypted")), "{tried}");
        assert!(receiver.connections() > 2 && receiver.at(&format!("/hook?of={name}")).is_empty(), "{name}");
        assert!(outcomes(name).await.is_empty());
        let (_, channel) = world.http().get(&format!("/v1/channels/{name}")).await;
        let failed = &channel["failed"];
        assert_eq!((&failed["outcome"], &failed["why"]), (&json!("retried"), &json!("the connection cannot be encrypted")), "{channel}");
        assert!(channel["waiting"].as_u64() > Some(0), "{channel}");
    }
    for name in ["turned", "hidden", "inside", "127.0.0.1.nip"] {
        let (_, tried) = ask(world.http(), Method::POST, &format!("/v1/channels/{}/test", id(name)), &Value::Null).await;
        assert_eq!(tried["outcome"], "refused", "{tried}");
    }
    // Nor is anybody led there by a receiver that may be reached.
    good.react([Reaction::Status(307, "location: https://inside.example.com:8443/hook\r\n")]);
    let (_, tried) = ask(world.http(), Method::POST, "/v1/channels/good/test", &Value::Null).await;
    assert_eq!((&tried["outcome"], &tried["why"]), (&json!("refused"), &json!("the receiver answers 307")), "{tried}");
    println!("connections to an address of one's own network: {}", private.connections());
    assert_eq!((private.connections(), turned.connections()), (0, 1));
}
