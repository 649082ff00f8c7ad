//! A listener with TLS and a password: what `[log.kafka.options]` says reaches the brokers, and what is wrong is said.

use std::path::Path;
use std::process::{Command, Stdio};

use hyper::StatusCode;
use serde_json::json;

use crate::harness::kafka::{Kafka, Ports, Setup};
use crate::harness::{PATIENCE, Pulse, program};

const STORE_PASSWORD: &str = "of-the-store";
const PASSWORD: &str = "of-pulse";

fn keytool(arguments: &[&str]) {
    let output = Command::new("keytool").args(arguments).output().expect("keytool comes with the Java runtime");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A key of the broker's, and its certificate as others are given it.
fn certify(dir: &Path) -> (String, String) {
    let (store, certificate) = (dir.join("broker.p12"), dir.join("broker.pem"));
    let (store, certificate) = (store.to_str().unwrap().to_owned(), certificate.to_str().unwrap().to_owned());
    let of = ["-alias", "broker", "-keystore", &store, "-storepass", STORE_PASSWORD];
    let key = ["-genkeypair", "-keyalg", "RSA", "-storetype", "PKCS12", "-dname", "CN=127.0.0.1", "-ext", "SAN=ip:127.0.0.1"];
    keytool(&[&key[..], &of].concat());
    keytool(&[&["-exportcert", "-rfc", "-file", &certificate][..], &of].concat());
    (store, certificate)
}

fn properties(store: &str) -> String {
    format!(
        "ssl.keystore.type=PKCS12
ssl.keystore.location={store}
ssl.keystore.password={STORE_PASSWORD}
ssl.key.password={STORE_PASSWORD}
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_pulse=\"{PASSWORD}\";"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_asks_for_a_password_over_tls_is_spoken_to_and_a_wrong_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (store, certificate) = certify(dir.path());
    let secure = Ports::free().client;
    let kafka = Kafka::start_with(Setup { secure: Some(secure), properties: properties(&store), ..Setup::of(1) }).await;
    let environment = |password: &str, certificate: &str| {
        let mut environment = kafka.environment("secure");
        environment.retain(|(name, _)| *name != "PULSE__LOG__KAFKA__BROKERS");
        environment.extend([
            ("PULSE__LOG__KAFKA__BROKERS", format!("127.0.0.1:{secure}")),
            ("PULSE__LOG__KAFKA__OPTIONS__SECURITY__PROTOCOL", "SASL_SSL".to_owned()),
            ("PULSE__LOG__KAFKA__OPTIONS__SASL__MECHANISM", "PLAIN".to_owned()),
            ("PULSE__LOG__KAFKA__OPTIONS__SASL__USERNAME", "pulse".to_owned()),
            ("PULSE__LOG__KAFKA__OPTIONS__SASL__PASSWORD", password.to_owned()),
            ("PULSE__LOG__KAFKA__OPTIONS__SSL__CA__LOCATION", certificate.to_owned()),
        ]);
        environment
    };
    let pulse = Pulse::start_with(&environment(PASSWORD, &certificate)).await;
    assert_eq!(pulse.http.capture(&json!({"type": "click", "anonymousId": "ada"})).await.0, StatusCode::OK);
    assert_eq!(pulse.http.settled().await["stored"], json!(1));
    assert!(pulse.stop().await);

    let other = tempfile::tempdir().unwrap();
    let (_, stranger) = certify(other.path());
    for (password, certificate, said) in
        [("wrong", &certificate, "SASL authentication error"), (PASSWORD, &stranger, "certificate verify failed")]
    {
        let mut serve = tokio::process::Command::new(program());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        serve.envs(environment(password, certificate)).stdout(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, serve.output()).await.expect("it does not end").unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.contains("log.kafka.brokers: no answer from") && last.contains(said), "{text}");
        assert!(!text.contains("wrong"), "no password is repeated: {text}");
    }
}
