//! The record of an optimizer.

use std::{fs, path::Path};

use burn::tensor::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{error::LoadError, kind::OptimizerKind, pack::Pack, place::Place, tree::Record};
use crate::network::{Coverage, ParameterRow, ParameterTable};

/// The version of what is written.
const VERSION: u32 = 1;

/// The names of what a record starts with.
const FORMAT: &str = "kfac";
const OPTIMIZER: &str = "optimizer";
const LIBRARY: &str = "library";
const CONFIGURATION: &str = "configuration";
const PARAMETERS: &str = "parameters";

/// All that an optimizer has learnt: with it and the model, training goes on as if it had not stopped, to the bit
/// on the same device with the same number of threads.
///
/// It is made by [`Kfac::record`](crate::Kfac::record) or [`Preconditioner::record`](crate::Preconditioner::record)
/// and taken by their `load_record`. As a file it is a burnpack, Burn's own format, whose metadata say which
/// optimizer it is of, with which settings, and what its parameter table was, and which has a checksum over its
/// content.
///
/// The parameters themselves are not in it: they are in the record of the model, and running statistics of batch
/// normalisations with them.
#[derive(Clone, Debug)]
pub struct OptimizerRecord {
    header: Header,
    content: Content,
}

#[derive(Clone, Debug)]
struct Header {
    optimizer: OptimizerKind,
    /// The version of the library that made it.
    library: String,
    configuration: Value,
    parameters: Vec<ParameterRow>,
}

#[derive(Clone, Debug)]
enum Content {
    /// Of an optimizer: its tensors, where they are.
    Live(Record),
    /// Of a file.
    Packed(Pack),
}

/// What an optimizer is, for its record.
pub(crate) struct Recorded<'a, C> {
    pub(crate) optimizer: OptimizerKind,
    pub(crate) configuration: &'a C,
    pub(crate) table: &'a ParameterTable,
}

impl OptimizerRecord {
    /// The record of an optimizer in a state.
    pub(crate) fn new<C: Serialize>(of: &Recorded<'_, C>, state: Record) -> Self {
        Self {
            header: of.header(),
            content: Content::Live(state),
        }
    }

    /// The state, with its tensors in a place, for an optimizer that it has to go with.
    pub(crate) fn state<C: Serialize>(
        &self,
        of: &Recorded<'_, C>,
        place: &Place,
    ) -> Result<Record, LoadError> {
        self.header.check(&of.header())?;
        self.content(place)
    }

    /// The state, with its tensors in a place.
    pub(crate) fn content(&self, place: &Place) -> Result<Record, LoadError> {
        match &self.content {
            Content::Live(record) => moved("state", record, place),
            Content::Packed(pack) => pack.record(place),
        }
    }

    /// Which optimizer it is of.
    pub fn optimizer(&self) -> OptimizerKind {
        self.header.optimizer
    }

    /// The version of the library that made it.
    pub fn library(&self) -> &str {
        &self.header.library
    }

    /// The settings of the optimizer, a [`KfacConfig`](crate::KfacConfig) or a
    /// [`PreconditionerConfig`](crate::PreconditionerConfig); `None` where they are not of that type.
    pub fn configuration<C: DeserializeOwned>(&self) -> Option<C> {
        serde_json::from_value(self.header.configuration.clone()).ok()
    }

    /// The rows of the parameter table.
    pub fn parameters(&self) -> &[ParameterRow] {
        &self.header.parameters
    }

    /// The record as a burnpack.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unreadable`] where it is larger than a burnpack can be.
    pub fn into_bytes(self) -> Result<Bytes, LoadError> {
        let bytes = self.into_pack().into_writer().into_bytes();
        bytes.map_err(unreadable)
    }

    /// The record of a burnpack.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where it is none of an optimizer, of another version, or damaged.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, LoadError> {
        let pack = Pack::from_bytes(bytes)?;
        Ok(Self {
            header: Header::of(&pack)?,
            content: Content::Packed(pack),
        })
    }

    /// Writes the record to a file, which is replaced at once when all of it is on the disk.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unreadable`] where the file cannot be written; one that was there is as before.
    pub fn save(self, path: impl AsRef<Path>) -> Result<(), LoadError> {
        let writer = self.into_pack().into_writer().auto_extension(false);
        writer
            .overwrite(true)
            .write_to_file(path)
            .map_err(unreadable)
    }

    /// The record of a file.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes), and where the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let bytes =
            fs::read(path).map_err(|error| unreadable(format!("{}: {error}", path.display())))?;
        Self::from_bytes(Bytes::from_bytes_vec(bytes))
    }

    fn into_pack(self) -> Pack {
        let pack = match self.content {
            Content::Live(record) => Pack::of(&record),
            Content::Packed(pack) => pack,
        };
        self.header.written(pack)
    }
}

impl<C: Serialize> Recorded<'_, C> {
    fn header(&self) -> Header {
        Header {
            optimizer: self.optimizer,
            library: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: serde_json::to_value(self.configuration).unwrap_or_default(),
            parameters: self.table.rows().to_vec(),
        }
    }
}

impl Header {
    fn written(&self, pack: Pack) -> Pack {
        let json = |value| serde_json::to_string(value).unwrap_or_default();
        let parameters = serde_json::to_string(&self.parameters).unwrap_or_default();
        let optimizer = serde_json::to_string(&self.optimizer).unwrap_or_default();
        pack.with_text(FORMAT, VERSION.to_string())
            .with_text(OPTIMIZER, optimizer)
            .with_text(LIBRARY, self.library.clone())
            .with_text(CONFIGURATION, json(&self.configuration))
            .with_text(PARAMETERS, parameters)
    }

    fn of(pack: &Pack) -> Result<Self, LoadError> {
        let version = pack.text(FORMAT)?;
        if version != VERSION.to_string() {
            return Err(LoadError::Version {
                found: version.to_owned(),
                supported: VERSION,
            });
        }
        Ok(Self {
            optimizer: parsed(pack, OPTIMIZER)?,
            library: pack.text(LIBRARY)?.to_owned(),
            configuration: parsed(pack, CONFIGURATION)?,
            parameters: parsed(pack, PARAMETERS)?,
        })
    }

    /// Refuses an optimizer that differs.
    fn check(&self, own: &Self) -> Result<(), LoadError> {
        if self.optimizer != own.optimizer {
            return Err(LoadError::Optimizer {
                found: self.optimizer,
                expected: own.optimizer,
            });
        }
        let setting = String::new();
        if let Some(difference) = difference(setting, &self.configuration, &own.configuration) {
            return Err(difference);
        }
        let rows = self.parameters.len().max(own.parameters.len());
        for row in 0..rows {
            let [recorded, own] =
                [&self.parameters, &own.parameters].map(|rows| told(rows.get(row)));
            if recorded != own {
                return Err(LoadError::Model { recorded, own });
            }
        }
        Ok(())
    }
}

fn parsed<T: DeserializeOwned>(pack: &Pack, name: &str) -> Result<T, LoadError> {
    let text = pack.text(name)?;
    serde_json::from_str(text).map_err(|error| unreadable(format!("`{name}`: {error}")))
}

/// The first setting that differs.
fn difference(setting: String, recorded: &Value, own: &Value) -> Option<LoadError> {
    let (Value::Object(fields), Value::Object(others)) = (recorded, own) else {
        return (recorded != own).then(|| LoadError::Configuration {
            setting,
            recorded: recorded.to_string(),
            own: own.to_string(),
        });
    };
    let path = |name: &String| match setting.as_str() {
        "" => name.clone(),
        setting => format!("{setting}.{name}"),
    };
    let names = fields.keys().chain(others.keys());
    let mut differing = names.filter_map(|name| {
        let of = |values: &serde_json::Map<String, Value>| values.get(name).cloned();
        let [recorded, own] = [fields, others].map(of).map(Option::unwrap_or_default);
        difference(path(name), &recorded, &own)
    });
    differing.next()
}

/// A row of a parameter table in words: all of it that a record depends on, which is not the precision.
fn told(row: Option<&ParameterRow>) -> String {
    let Some(row) = row else {
        return "no more parameters".to_owned();
    };
    let covered = match &row.coverage {
        Coverage::Block(block) => {
            let description = &block.description;
            let chain = block.chain.map(|chain| format!(", chain {chain}"));
            format!(
                "layer {}, {} ({}), {:?}{}",
                block.layer,
                description.structure,
                description.form,
                block.sharing,
                chain.unwrap_or_default()
            )
        }
        other => format!("{other:?}"),
    };
    format!("`{}` {:?}: {covered}", row.path, row.shape)
}

fn moved(path: &str, record: &Record, place: &Place) -> Result<Record, LoadError> {
    let tensors = record.tensors.iter().map(|(name, tensor)| {
        let tensor = place.moved(&format!("{path}:{name}"), tensor)?;
        Ok((name.clone(), tensor))
    });
    let parts = record.parts.iter().enumerate();
    let parts = parts.map(|(index, part)| moved(&format!("{path}/{index}"), part, place));
    Ok(Record {
        tensors: tensors.collect::<Result<_, LoadError>>()?,
        parts: parts.collect::<Result<_, _>>()?,
        ..record.clone()
    })
}

fn unreadable(why: impl ToString) -> LoadError {
    LoadError::Unreadable {
        why: why.to_string(),
    }
}
