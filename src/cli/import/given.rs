//! What the arguments of an import name: files, standard input, and objects of a bucket.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use crate::cli::bucket::{Bucket, Object, is_address};

/// Something to read.
#[derive(Debug)]
pub(super) enum Given {
    /// A file, or `-` for standard input.
    File(PathBuf),
    Object(Arc<Bucket>, Object),
}

impl Given {
    /// The file; none for an object.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Object(..) => None,
        }
    }

    /// Everything that is named; of a prefix all objects below it, in the order of their names.
    ///
    /// # Errors
    /// A bucket cannot be listed, or has nothing there.
    pub(super) async fn all(arguments: &[PathBuf]) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for argument in arguments {
            if is_address(argument) {
                let bucket = Arc::new(Bucket::open(&argument.to_string_lossy())?);
                all.extend(bucket.objects().await?.into_iter().map(|object| Self::Object(Arc::clone(&bucket), object)));
            } else {
                all.push(Self::File(argument.clone()));
            }
        }
        Ok(all)
    }
}
