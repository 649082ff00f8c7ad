//! E-mail over SMTP. Mails of one episode are one thread.
//!
//! `url` is as lettre reads it: `smtps://host:465`, `smtp://host:25`, `smtp://host:587?tls=required`. `user` and `password` are keys of their own, both or
//! neither: a server that is told one alone would take mails of nobody, or none.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::response::Category;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use uuid::Uuid;

use super::{Channel, Delivery, Settings, cut};
use crate::alert::notice::Notice;
use crate::alert::target::{Sent, Trust};

const MOST_SUBJECT: usize = 200;
/// Most characters of what is said of addresses that are refused.
const MOST_SAID: usize = 500;
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
            let settled = settled(delivery.id);
            let missing: Vec<&Mailbox> = self.to.iter().filter(|to| !settled.iter().any(|settled| settled.is_of(to))).collect();
            match self.send(&mail, &missing).await {
                Tried::Answered(_) if self.to.len() > 1 => self.send_to_each(delivery.id, &mail, missing).await,
                Tried::Taken => told_but(&settled),
                tried => tried.into(),
            }
        }
        .boxed()
    }
}

/// How sending a mail went.
enum Tried {
    Taken,
    /// The server answers that it does not take it, to at least one of its addresses. Whether it never will.
    Answered(bool),
    /// The server is not there, says nothing or does not know who sends: the same for each address.
    Away(&'static str),
}

impl From<Tried> for Sent {
    fn from(tried: Tried) -> Self {
        match tried {
            Tried::Taken => Self::Done,
            Tried::Answered(true) => Self::Never("the mail server refuses it".to_owned()),
            Tried::Answered(false) => Self::Later { why: "the mail server does not take it".to_owned(), pause: None },
            Tried::Away(why) => Self::Later { why: why.to_owned(), pause: None },
        }
    }
}

impl Email {
    async fn send(&self, mail: &[u8], to: &[&Mailbox]) -> Tried {
        let addresses = to.iter().map(|to| to.email.clone()).collect();
        let Ok(envelope) = Envelope::new(Some(self.from.email.clone()), addresses) else { return Tried::Taken };
        match tokio::time::timeout(TIMEOUT, self.transport.send_raw(&envelope, mail)).await {
            Ok(Ok(_)) => Tried::Taken,
            Ok(Err(problem)) => match problem.status() {
                // 530, 534, 535: a password that is changed may be changed here, too.
                Some(code) if code.category == Category::Unspecified3 => Tried::Away("the mail server does not let pulse in"),
                Some(_) => Tried::Answered(problem.is_permanent()),
                None => Tried::Away("the mail server cannot be reached"),
            },
            Err(_) => Tried::Away("the mail server does not answer"),
        }
    }

    /// A mail for each address, for a server that does not take one of them takes the mail for none. Those that have it are not told again
    /// when the others are.
    async fn send_to_each(&self, id: Uuid, mail: &[u8], to: Vec<&Mailbox>) -> Sent {
        let mut later = None;
        for to in to {
            let tried = self.send(mail, &[to]).await;
            match tried {
                Tried::Taken => settle(id, to, false),
                Tried::Answered(true) => settle(id, to, true),
                Tried::Answered(false) => later = Some(tried),
                Tried::Away(_) => return tried.into(),
            }
        }
        match (later, settled(id)) {
            (Some(tried), _) => tried.into(),
            (None, settled) if settled.iter().all(|settled| settled.is_refused) => Tried::Answered(true).into(),
            (None, settled) => told_but(&settled),
        }
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

/// An address that needs no other mail of an id.
#[derive(Clone)]
struct Settled {
    id: Uuid,
    address: String,
    /// Whether it has none, since the server refuses it for good.
    is_refused: bool,
}

impl Settled {
    fn is_of(&self, to: &Mailbox) -> bool {
        self.address == to.email.as_ref() as &str
    }
}

/// Mails that not all of their addresses could be sent at once, with those that need no other one. After a restart they get one more: its
/// `Message-ID` says that it is the same.
static SETTLED: Mutex<VecDeque<Settled>> = Mutex::new(VecDeque::new());
const MOST_SETTLED: usize = 10_000;

fn settle(id: Uuid, to: &Mailbox, is_refused: bool) {
    let mut settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
    if settled.len() >= MOST_SETTLED {
        settled.pop_front();
    }
    settled.push_back(Settled { id, address: to.email.to_string(), is_refused });
}

/// The addresses that need no other mail of an id.
fn settled(id: Uuid) -> Vec<Settled> {
    let settled = SETTLED.lock().unwrap_or_else(PoisonError::into_inner);
    settled.iter().filter(|settled| settled.id == id).cloned().collect()
}

/// What became of a mail that all have but those of these that are refused.
fn told_but(settled: &[Settled]) -> Sent {
    let refused: Vec<&str> = settled.iter().filter(|settled| settled.is_refused).map(|settled| settled.address.as_str()).collect();
    if refused.is_empty() {
        return Sent::Done;
    }
    Sent::Partly(cut(&format!("the mail server refuses for good: {}", refused.join(", ")), MOST_SAID))
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
        let told = tokio::time::timeout(2 * TIMEOUT, channel.channel.tell(&delivery)).await;
        assert!(matches!(told, Ok(Sent::Later { .. })), "{told:?}");
    }
}
