//! E-mail over SMTP. Mails of one episode are one thread.
//!
//! `url` is as lettre reads it: `smtps://host:465`, `smtp://host:25`, `smtp://host:587?tls=required`. `user` and `password` are keys of their own, both or
//! neither: a server that is told one alone would take mails of nobody, or none.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Channel, Delivery, Settings, cut};
use crate::alert::notice::Notice;
use crate::alert::target::{Sent, Trust};

const MOST_SUBJECT: usize = 200;
/// Longest time of one mail.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

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
            match self.transport.send(message).await {
                Ok(_) => Sent::Done,
                Err(problem) if problem.is_permanent() => Sent::Never("the mail server refuses it".to_owned()),
                Err(_) => Sent::Later { why: "the mail server does not take it".to_owned(), pause: None },
            }
        }
        .boxed()
    }
}

impl Email {
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
