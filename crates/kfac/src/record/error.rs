//! Why a record is not taken.

use super::{kind::OptimizerKind, tree::RecordError};

/// Why a record is not taken; the optimizer is exactly as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read, or is no burnpack.
    #[error("the record cannot be read: {why}")]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
    /// The content is not what was written.
    #[error(
        "the record is damaged: its content has the checksum {found}, {expected} was written with it; take an \
         earlier one"
    )]
    Damaged {
        /// The checksum of the content.
        found: String,
        /// The one in it.
        expected: String,
    },
    /// It is written in another version of the format.
    #[error(
        "the record has version `{found}` of its format, this library reads version {supported}: read it with the \
         version of the library that wrote it"
    )]
    Version {
        /// The version of the record.
        found: String,
        /// What this library reads.
        supported: u32,
    },
    /// It is of the other optimizer.
    #[error("the record is of a {found:?}, and this is a {expected:?}")]
    Optimizer {
        /// What the record is of.
        found: OptimizerKind,
        /// What it was loaded into.
        expected: OptimizerKind,
    },
    /// The optimizer has other settings.
    #[error(
        "the record was made with {setting} = {recorded}, this optimizer has {own}: make it with the recorded \
         settings"
    )]
    Configuration {
        /// The path of the first setting that differs.
        setting: String,
        /// Its recorded value.
        recorded: String,
        /// That of the optimizer.
        own: String,
    },
    /// The optimizer is for another model.
    #[error(
        "the record is of a model with {recorded}, this model has {own}: load it into the model that it was made \
         for"
    )]
    Model {
        /// The first row of the recorded parameter table that differs.
        recorded: String,
        /// That of the model.
        own: String,
    },
    /// A number does not fit into the precision of the optimizer.
    #[error(
        "`{what}` was recorded as {recorded} and is not finite as {own}: load it into a model of the recorded \
         precision"
    )]
    Precision {
        /// Path of the tensor in the record.
        what: String,
        /// The recorded precision.
        recorded: String,
        /// That of the model.
        own: String,
    },
    /// Something in it is not what it was taken for.
    #[error("the record does not fit: {0}")]
    Content(#[from] RecordError),
}
