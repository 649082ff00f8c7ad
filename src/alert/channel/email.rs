//! E-mail over SMTP. Mails of one episode are one thread.
//!
//! `url` is as lettre reads it: `smtps://host:465`, `smtp://host:25`, `smtp://host:587?tls=required`. `user` and `password` are keys of their own, both or
//! neither: a server that is told one alone would take mails of nobody, or none.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Channel, Delivery, Settings, cut};
use crate::alert::notice::Notice;
use crate::alert::target::{Sent, Trust};

const MOST_SUBJECT: usize = 200;
/// Longest time of one mail, from its server's address to its last word: lettre itself waits for a connection no longer than it is told, and for
/// words without end.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

pub(super) fn open(settings: &Settings<'_>) -> Result<Box<dyn Channel>, String> {
    settings.only(&["url", "user", "password", "from", "to"])?;
    if *settings.trust != Trust::Operator {
        return Err("kind: only a file of this instance may define a channel of e-mail".to_owned());
    }
    let url = settings.text("url")?;
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url).map_err(|_| "url: not an address of SMTP".to_owned())?;
    let is_half_signed = url::Url::parse(&url).is_ok_and(|url| !url.username().is_empty() && url.password().is_none());
    match (settings.optional("user")?, settings.secret("password")?) {
        (Some(user), Some(password)) => builder = builder.credentials(Credentials::new(user, password.reveal().to_owned())),
        (Some(_), None) => return Err("password: it is missing beside `user`".to_owned()),
        (None, Some(_)) => return Err("user: it is missing beside `password`".to_owned()),
        (None, None) if is_half_signed => {
            return Err("url: a user without a password: `user` and `password` are keys of their own".to_owned());
        }
        (None, None) => {}
    }
    let mailbox = |key: &str, text: String| text.parse::<Mailbox>().map_err(|_| format!("{key}: `{}` is no address", cut(&text, 100)));
    let from = mailbox("from", settings.text("from")?)?;
    let to = settings.list("to")?.into_iter().map(|text| mailbox("to", text)).collect::<Result<Vec<_>, _>>()?;
    if to.is_empty() {
        return Err("to: it is missing".to_owned());
    }
    Ok(Box::new(Email { transport: builder.timeout(Some(TIMEOUT)).build(), from, to }))
}

impl Channel for Email {
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent> {
        async move {
            let Some(message) = self.message(delivery) else { return Sent::Never("the mail cannot be made".to_owned()) };
            let mail = message.formatted();
            match self.send(&mail, &self.to).await {
                // Of one address that it does not know a server may refuse the mail to all of them.
                Sent::Never(_) if self.to.len() > 1 => self.send_to_each(&mail).await,
                sent => sent,
            }
        }
        .boxed()
    }
}

impl Email {
    async fn send(&self, mail: &[u8], to: &[Mailbox]) -> Sent {
        let addresses = to.iter().map(|to| to.email.clone()).collect();
        let Ok(envelope) = Envelope::new(Some(self.from.email.clone()), addresses) else {
            return Sent::Never("it is to nobody".to_owned());
        };
        match tokio::time::timeout(TIMEOUT, self.transport.send_raw(&envelope, mail)).await {
            Ok(Ok(_)) => Sent::Done,
            Ok(Err(problem)) if problem.is_permanent() => Sent::Never("the mail server refuses it".to_owned()),
            Ok(Err(_)) => Sent::Later { why: "the mail server does not take it".to_owned(), pause: None },
            Err(_) => Sent::Later { why: "the mail server does not answer".to_owned(), pause: None },
        }
    }

    /// A mail for each address. Done once anybody has it: it would come to them again.
    async fn send_to_each(&self, mail: &[u8]) -> Sent {
        let mut told = Sent::Never("the mail server refuses it".to_owned());
        for to in &self.to {
            match self.send(mail, std::slice::from_ref(to)).await {
                Sent::Done => told = Sent::Done,
                missed => {
                    tracing::warn!(address = %to.email, ?missed, "an address of an alert's mail is not told");
                    if told != Sent::Done && !matches!(missed, Sent::Never(_)) {
                        told = missed;
                    }
                }
            }
        }
        told
    }

    fn message(&self, delivery: &Delivery) -> Option<Message> {
        let notice = &delivery.notice;
        let thread = format!("<{}@pulse>", notice.episode_key());
        let builder: MessageBuilder = self.to.iter().fold(Message::builder().from(self.from.clone()), |builder, to| builder.to(to.clone()));
        let builder = builder.message_id(Some(format!("<{}@pulse>", delivery.id))).in_reply_to(thread.clone()).references(thread);
        let body = builder.subject(subject(notice)).header(ContentType::TEXT_PLAIN);
        body.body(notice.body()).ok()
    }
}

fn subject(notice: &Notice) -> String {
    let line: String = notice.title().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&line, MOST_SUBJECT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alert::channel::NamedChannel;
    use crate::alert::notice::Kind;
    use crate::alert::target::Trust;

    #[tokio::test(start_paused = true)]
    async fn a_mail_server_that_says_nothing_is_waited_for_no_longer_than_any_other() {
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("smtp://127.0.0.1:{}", silent.local_addr().unwrap().port());
        let written = json!({"kind": "email", "url": url, "from": "a@b.example", "to": ["c@b.example", "d@b.example"]});
        let channel = NamedChannel::open("mail", written.as_object().unwrap(), &Trust::Operator).unwrap();
        let delivery = Delivery { id: uuid::Uuid::nil(), notice: Notice::about_pulse(Kind::Heartbeat, 0), now_s: 0 };
        assert!(matches!(channel.channel.tell(&delivery).await, Sent::Later { .. }));
    }
}
