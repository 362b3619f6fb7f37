//! Paths as texts of a JSON file: bytes that are no text are told as such, and do not come back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    String::deserialize(from).map(PathBuf::from)
}

/// The same for a path that may not be there.
pub(super) mod option {
    use super::{Deserialize, Deserializer, Path, PathBuf, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(in crate::train) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match path.as_deref().map(Path::to_string_lossy) {
            Some(text) => to.serialize_some(&text),
            None => to.serialize_none(),
        }
    }

    pub(in crate::train) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        Ok(text.map(PathBuf::from))
    }
}
