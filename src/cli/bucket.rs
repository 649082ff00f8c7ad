//! A bucket of an S3-compatible store, `s3://bucket/prefix`. What opens it, and where it is if not at AWS, say the variables that AWS's own tools
//! read: `AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL` and their like; there is no other way to give keys.
//!
//! Promises: what is sent is encrypted unless the store is on this machine or `AWS_ALLOW_HTTP` is true. An object is written whole or not at
//! all, and only where none of its name is.
//! May go wrong: a store that knows no conditional writes. Then `AWS_CONDITIONAL_PUT=disabled` has it looked up first, which two writers at the
//! same moment may both do.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientConfigKey, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use tempfile::TempDir;
use url::Url;

use super::remote::is_here;
use crate::backoff::Backoff;

const SCHEME: &str = "s3://";
/// Where the note of an object stands among what is known of it.
const NOTE: &str = "pulse-export";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer: the largest object over a slow line, and for a piece of one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often and how long a request is tried again that the store answers with an error of its own.
const RETRIES: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often an object is written again of which it is not known whether it was, and the pauses in between.
const WRITES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether an argument names something in a bucket.
pub(super) fn is_address(argument: &std::path::Path) -> bool {
    argument.to_str().is_some_and(|text| text.starts_with(SCHEME))
}

/// What is below a prefix of a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    name: String,
    prefix: Path,
}

/// An object as it is listed.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) path: Path,
    pub(super) bytes: u64,
}

/// An object that is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewObject<'a> {
    pub(super) name: &'a str,
    pub(super) content_type: &'static str,
    /// What it says of itself.
    pub(super) note: &'a str,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(&self.prefix))
    }
}

impl Bucket {
    /// What is at `s3://bucket/prefix`. Asks nobody yet.
    ///
    /// # Errors
    /// The address, or what the environment says of the store.
    pub(super) fn open(address: &str) -> Result<Self> {
        let (name, prefix) = parts(address)?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&name).with_http_connector(Connector);
        let own = builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint);
        if let Some(endpoint) = own.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint)) {
            let parsed = Url::parse(&endpoint).with_context(|| format!("AWS_ENDPOINT_URL: `{endpoint}`"))?;
            if is_here(&parsed) {
                builder = builder.with_allow_http(true);
            }
            let is_allowed =
                builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).is_some_and(|is| is == "true");
            ensure!(
                parsed.scheme() == "https" || is_allowed,
                "AWS_ENDPOINT_URL: `{endpoint}` would send events over the network as they are; use https://, or set AWS_ALLOW_HTTP=true if nobody listens"
            );
        }
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let store = builder.with_retry(retry).build().with_context(|| address.to_owned())?;
        Ok(Self { store: Arc::new(store), name, prefix })
    }

    #[cfg(test)]
    pub(super) fn in_memory(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, name: "bucket".to_owned(), prefix: Path::from(prefix) }
    }

    /// An object's address.
    pub(super) fn shown(&self, path: &Path) -> String {
        format!("{SCHEME}{}/{path}", self.name)
    }

    /// The names of the objects right below the prefix.
    pub(super) async fn names(&self) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await.with_context(|| self.to_string())?;
        Ok(listed.objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    /// The object of that very name, or all below it, in the order of their names.
    ///
    /// # Errors
    /// There is no object.
    pub(super) async fn objects(&self) -> Result<Vec<Object>> {
        if !self.prefix.is_root() {
            match self.store.head(&self.prefix).await {
                Ok(found) => return Ok(vec![Object { path: found.location, bytes: found.size }]),
                Err(Error::NotFound { .. }) => {}
                Err(problem) => return Err(problem).with_context(|| self.to_string()),
            }
        }
        let listed = self.store.list(Some(&self.prefix)).try_collect::<Vec<_>>().await.with_context(|| self.to_string())?;
        // Some tools make a folder by an object with nothing in it.
        let listed = listed.into_iter().filter(|object| object.size > 0);
        let mut objects: Vec<Object> = listed.map(|object| Object { path: object.location, bytes: object.size }).collect();
        objects.sort_by(|one, other| one.path.cmp(&other.path));
        ensure!(!objects.is_empty(), "{self}: there is no object of that name, and none below it");
        Ok(objects)
    }

    /// An object as a file of its name, in a folder that is removed with what is returned.
    pub(super) async fn fetch(&self, path: &Path) -> Result<(TempDir, PathBuf)> {
        let named = || self.shown(path);
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let local = folder.path().join(path.filename().unwrap_or("object"));
        let mut file = File::create(&local).with_context(|| local.display().to_string())?;
        let mut pieces = self.store.get(path).await.with_context(named)?.into_stream();
        while let Some(piece) = tokio::time::timeout(PIECE_TIMEOUT, pieces.next()).await.with_context(named)? {
            file.write_all(&piece.with_context(named)?).with_context(|| local.display().to_string())?;
        }
        Ok((folder, local))
    }

    /// What was noted of an object as it was written; nothing of one that another program wrote.
    pub(super) async fn note(&self, name: &str) -> Result<Option<String>> {
        let path = self.prefix.clone().join(name);
        let found =
            self.store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await.with_context(|| self.shown(&path))?;
        Ok(found.attributes.get(&Attribute::Metadata(NOTE.into())).map(|note| note.as_ref().to_owned()))
    }

    /// Writes an object with a note, unless there is one. One of the same note is taken for this one, whose answer was lost.
    ///
    /// # Errors
    /// There is another, or it cannot be written.
    pub(super) async fn create(&self, object: NewObject<'_>, data: Bytes) -> Result<()> {
        let path = self.prefix.clone().join(object.name);
        let named = || self.shown(&path);
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut writes = 0;
        loop {
            writes += 1;
            match self.put(object, &data, PutMode::Create).await {
                Ok(()) => return Ok(()),
                Err(Error::AlreadyExists { .. }) => return self.is_the_same(object).await,
                Err(Error::NotImplemented { .. }) => break,
                // Whether it came there is not known.
                Err(problem @ Error::Generic { .. }) if writes < WRITES => tracing::debug!(%problem, "trying again"),
                Err(problem) => return Err(problem).with_context(named),
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
        match self.store.head(&path).await {
            Ok(_) => self.is_the_same(object).await,
            Err(Error::NotFound { .. }) => self.put(object, &data, PutMode::Overwrite).await.with_context(named),
            Err(problem) => Err(problem).with_context(named),
        }
    }

    async fn put(&self, object: NewObject<'_>, data: &Bytes, mode: PutMode) -> Result<(), Error> {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, object.content_type.into());
        attributes.insert(Attribute::Metadata(NOTE.into()), object.note.to_owned().into());
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.store.put_opts(&self.prefix.clone().join(object.name), data.clone().into(), options).await.map(|_| ())
    }

    async fn is_the_same(&self, object: NewObject<'_>) -> Result<()> {
        let there = self.note(object.name).await?;
        ensure!(
            there.as_deref() == Some(object.note),
            "{}: another run has written it meanwhile; run again, the export goes on behind it",
            self.shown(&self.prefix.clone().join(object.name))
        );
        Ok(())
    }
}

/// Bucket and prefix.
fn parts(address: &str) -> Result<(String, Path)> {
    let parsed = Url::parse(address).with_context(|| format!("`{address}`"))?;
    let is_plain = parsed.query().is_none() && parsed.fragment().is_none() && parsed.username().is_empty() && parsed.port().is_none();
    let Some(bucket) = parsed.host_str().filter(|bucket| !bucket.is_empty() && is_plain && parsed.scheme() == "s3") else {
        bail!("`{address}` is no address in a bucket, such as s3://bucket/prefix");
    };
    let prefix = Path::from_url_path(parsed.path()).with_context(|| format!("`{address}`"))?;
    Ok((bucket.to_owned(), prefix))
}

/// The way to the store: the client that pulse has anyway.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |problem| Error::Generic { store: "S3", source: Box::new(problem) };
        let authorities = HttpsConnectorBuilder::new().with_native_roots().map_err(failed)?;
        let may_be_plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|is| is == "true");
        let schemes = if may_be_plain { authorities.https_or_http() } else { authorities.https_only() };
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Ok(HttpClient::new(Transport(Client::builder(TokioExecutor::new()).build(schemes.enable_http1().wrap_connector(tcp)))))
    }
}

#[derive(Debug)]
struct Transport(Client<HttpsConnector<Tcp>, HttpRequestBody>);

impl HttpService for Transport {
    fn call<'life, 'call>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'life: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.0.request(request)).await;
            let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
            let kind = |is_connect| if is_connect { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            let answer = answer.map_err(|problem| HttpError::new(kind(problem.is_connect()), problem))?;
            let (parts, body) = answer.into_parts();
            let body = body.map_err(|problem| HttpError::new(HttpErrorKind::Interrupted, problem));
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_a_prefix() {
        for (address, bucket, prefix) in [
            ("s3://events", "events", ""),
            ("s3://events/", "events", ""),
            ("s3://My_Events/a b/c/", "My_Events", "a b/c"),
            ("s3://events/a%2Bb", "events", "a+b"),
        ] {
            let (name, path) = parts(address).unwrap();
            assert_eq!((name.as_str(), path.as_ref()), (bucket, prefix), "{address}");
        }
        for no in ["s3://", "s3:///a", "s3://events/a?b=c", "s3://key@events/a", "s3://events:1/a", "s3://events/a#b", "https://events/a"] {
            assert!(parts(no).is_err(), "{no}");
        }
        assert!(is_address("s3://events".as_ref()) && !is_address("./s3/events".as_ref()));
    }

    #[tokio::test]
    async fn an_object_is_written_once_and_known_again_by_its_note() {
        let bucket = Bucket::in_memory(Arc::new(object_store::memory::InMemory::new()), "a");
        let object = |note| NewObject { name: "1", content_type: "text/csv", note };
        bucket.create(object("{}"), Bytes::from_static(b"one")).await.unwrap();
        bucket.create(object("{}"), Bytes::from_static(b"one, its answer lost")).await.unwrap();
        let other = bucket.create(object("[]"), Bytes::from_static(b"two")).await.unwrap_err();
        assert!(other.to_string().starts_with("s3://bucket/a/1: another run"), "{other}");
        let objects = bucket.objects().await.unwrap();
        let (_folder, local) = bucket.fetch(&objects[0].path).await.unwrap();
        assert_eq!((std::fs::read(local).unwrap(), objects[0].bytes), (b"one".to_vec(), 3));
        assert!(Bucket::in_memory(Arc::clone(&bucket.store), "b").objects().await.is_err());
    }
}
