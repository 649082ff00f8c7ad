//! Any other receiver: a template (minijinja) makes the body of a request.
//!
//! Everything of the webhook's body is there, and `title` and `text`. `{{ text | tojson }}` writes a text into JSON. A template that fails,
//! or makes no JSON where it must, sends the plain notice instead.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value, json};

use super::{Channel, Delivery, Settings};
use crate::alert::notice::Notice;
use crate::alert::target::{Outgoing, Sent, Target};

const NAME: &str = "body";
/// Steps that a template may take, and the longest body.
const FUEL: u64 = 100_000;
const MOST_BYTES: usize = 256 << 10;

struct Template {
    target: Target,
    environment: Environment<'static>,
    content_type: HeaderValue,
}

pub(super) fn open(settings: &Settings<'_>) -> Result<Box<dyn Channel>, String> {
    settings.only(&["url", "template", "content_type"])?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    let template = settings.text("template")?;
    environment.add_template_owned(NAME, template).map_err(|problem| format!("template: {problem}"))?;
    let content_type = settings.optional("content_type")?.unwrap_or_else(|| "application/json".to_owned());
    let content_type = HeaderValue::try_from(content_type).map_err(|_| "content_type: no value of a header".to_owned())?;
    Ok(Box::new(Template { target: settings.target("url")?, environment, content_type }))
}

impl Channel for Template {
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent> {
        async move {
            let mut outgoing = Outgoing { body: self.body(&delivery.notice).into(), ..Outgoing::default() };
            outgoing.headers.insert(CONTENT_TYPE, self.content_type.clone());
            self.target.post(outgoing).await
        }
        .boxed()
    }
}

impl Template {
    fn body(&self, notice: &Notice) -> String {
        let mut context = super::webhook::body(notice);
        context["title"] = notice.title().into();
        context["text"] = notice.body().into();
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(minijinja::value::Serde(&context)));
        let is_json = self.content_type.as_bytes().starts_with(b"application/json");
        let fits = |body: &String| body.len() <= MOST_BYTES && (!is_json || serde_json::from_str::<Value>(body).is_ok());
        rendered.ok().filter(fits).unwrap_or_else(|| {
            tracing::warn!(rule = %notice.rule, "the template of a channel makes nothing that can be sent: the plain notice is sent");
            let plain = format!("{}\n{}", notice.title(), notice.body());
            if is_json { json!({"text": plain, "content": super::cut(&plain, 2_000)}).to_string() } else { plain }
        })
    }
}
