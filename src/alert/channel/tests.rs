use serde_json::json;

use super::*;
use crate::alert::notice::Kind;

fn opened(written: Value, trust: &Trust) -> Result<NamedChannel, String> {
    NamedChannel::open("a", written.as_object().unwrap(), trust)
}

#[test]
fn a_channel_that_is_misspelt_is_refused_by_key() {
    for (written, expected) in [
        (json!({"kind": "pigeon"}), "kind: `pigeon`"),
        (json!({"kind": "webhook"}), "url: it is missing"),
        (json!({"kind": "webhook", "url": "https://a.example/", "secrets": "x"}), "unknown key `secrets`"),
        (json!({"kind": "webhook", "url": "https://a.example/", "secret": "hush"}), "secret: a secret is written as env:NAME or file:PATH"),
        (json!({"kind": "webhook", "url": "https://a.example/", "secret": "file:/nowhere"}), "secret: /nowhere"),
        (json!({"kind": "template", "url": "https://a.example/", "template": "{{ x"}), "template:"),
        (json!({"kind": "email", "url": "smtp://a.example", "from": "x", "to": []}), "from: `x`"),
        (
            json!({"kind": "email", "url": "smtp://a.example", "user": "x", "from": "a@b.example", "to": "a@b.example"}),
            "password: it is missing",
        ),
        (
            json!({"kind": "email", "url": "smtp://a.example", "password": "env:PATH", "from": "a@b.example", "to": "a@b.example"}),
            "user: it is",
        ),
        (json!({"kind": "email", "url": "smtps://x@a.example", "from": "a@b.example", "to": "a@b.example"}), "url: a user without"),
        (json!({"kind": "slack", "url": "https://a.example/", "heartbeat": "often"}), "heartbeat:"),
        (json!({"kind": "slack", "url": "https://a.example/", "heartbeat": "1ms"}), "heartbeat: `1ms`"),
    ] {
        let problem = opened(written, &Trust::Operator).err().unwrap();
        assert!(problem.contains(expected) && !problem.contains("hush"), "{problem}");
    }
}

#[test]
fn a_heartbeat_of_no_time_is_none() {
    let of = |heartbeat: &str| {
        let written = json!({"kind": "slack", "url": "https://a.example/", "heartbeat": heartbeat});
        opened(written, &Trust::Operator).unwrap().heartbeat_s
    };
    assert_eq!((of("0s"), of("1s"), of("1m")), (0, 1, 60));
}

#[test]
fn who_has_a_key_alone_has_no_heartbeat_each_second() {
    for (heartbeat, is_taken, seconds) in [("0s", true, 0), ("1s", false, 30), ("29s", false, 30), ("30s", true, 30), ("1m", true, 60)] {
        let written = json!({"kind": "slack", "url": "https://a.example/", "heartbeat": heartbeat});
        assert_eq!(NamedChannel::check_saved(written.as_object().unwrap()).is_ok(), is_taken, "{heartbeat}");
        // What was saved before it was refused stays a channel.
        assert_eq!(opened(written, &Trust::Key(Arc::default())).unwrap().heartbeat_s, seconds, "{heartbeat}");
    }
}

#[test]
fn a_secret_that_is_exchanged_makes_another_channel() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let of = |url: &str| {
        std::fs::write(&file, url).unwrap();
        opened(json!({"kind": "slack", "url": format!("file:{}", file.display())}), &Trust::Operator).unwrap().fingerprint
    };
    let (one, other) = (of("https://hooks.example/one"), of("https://hooks.example/other"));
    assert_ne!(one, other);
    assert_eq!(of("https://hooks.example/one"), one);
    let written = json!({"kind": "webhook", "url": "https://a.example/", "secret": "file:/run/secret"});
    assert_eq!(secret_files(written.as_object().unwrap()).collect::<Vec<_>>(), [PathBuf::from("/run/secret")]);
}

#[test]
fn who_has_a_key_alone_names_no_secret_and_sends_no_mail() {
    let trust = Trust::Key(Arc::default());
    for written in [
        json!({"kind": "webhook", "url": "env:HOME"}),
        json!({"kind": "pagerduty", "routing_key": "file:/etc/hostname"}),
        json!({"kind": "email", "url": "smtp://a.example", "from": "a@b.example", "to": ["a@b.example"]}),
        json!({"kind": "slack", "url": "https://10.0.0.1/"}),
    ] {
        assert!(opened(written.clone(), &trust).is_err(), "{written}");
    }
    assert!(opened(json!({"kind": "webhook", "url": "https://a.example/"}), &trust).is_ok());
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!((cut("äöü", 3), cut("äöüß", 3)), ("äöü".to_owned(), "äö…".to_owned()));
}

#[tokio::test]
async fn what_a_receiver_of_alerts_alone_has_no_word_for_is_not_said_to_be_delivered() {
    let report = crate::alert::machine::tests::rule(json!({"condition": null, "resolve": null, "interval": "day", "report_at": "09:00"}));
    let alert = crate::alert::machine::tests::rule(json!({}));
    let url = "http://127.0.0.1:1/";
    for (kind, more, takes_reports) in
        [("alertmanager", json!({}), false), ("pagerduty", json!({"routing_key": "env:PATH"}), false), ("webhook", json!({}), true)]
    {
        let mut written = json!({"kind": kind, "url": url});
        written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let channel = opened(written, &Trust::Operator).unwrap();
        assert_eq!((channel.check_told(&report).is_ok(), channel.check_told(&alert)), (takes_reports, Ok(())), "{kind}");
        let delivery = Delivery { id: Uuid::nil(), notice: Notice::about_pulse(Kind::Report, 0), now_s: 0 };
        let is_refused = matches!(channel.channel.tell(&delivery).await, Sent::Never(_));
        assert_eq!(is_refused, !takes_reports, "{kind}");
        for skipped in [Kind::Summary, Kind::Revision] {
            let delivery = Delivery { id: Uuid::nil(), notice: Notice::about_pulse(skipped, 0), now_s: 0 };
            let is_skipped = matches!(channel.channel.tell(&delivery).await, Sent::Skipped(_));
            assert_eq!(is_skipped, !takes_reports, "{kind} {skipped:?}");
        }
    }
}
