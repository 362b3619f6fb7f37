//! Records as burnpack files: each tensor, number and text under the path of its record.

use std::collections::BTreeMap;

use burn::tensor::{Bytes, TensorData};
use burn_pack::{Reader, Scalar, Writer};
use xxhash_rust::xxh3::Xxh3;

use super::{error::LoadError, place::Place, tree::Record};

/// The path of the record itself.
const ROOT: &str = "state";

/// Where the checksum of all else is.
const CHECKSUM: &str = "checksum";

/// Records within records, at most: the optimizers' have seven.
const DEPTH: usize = 16;

/// Named tensors, numbers and texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Pack {
    tensors: BTreeMap<String, TensorData>,
    numbers: BTreeMap<String, f64>,
    texts: BTreeMap<String, String>,
}

impl Pack {
    /// The pack of a record.
    pub(super) fn of(record: &Record) -> Self {
        let mut pack = Self::default();
        pack.enter(ROOT, record);
        pack
    }

    fn enter(&mut self, path: &str, record: &Record) {
        let key = |name: &str| format!("{path}:{name}");
        self.texts.insert(path.to_owned(), record.form.clone());
        for (name, tensor) in &record.tensors {
            self.tensors.insert(key(name), tensor.to_data());
        }
        for (name, number) in &record.numbers {
            self.numbers.insert(key(name), *number);
        }
        for (name, text) in &record.texts {
            self.texts.insert(key(name), text.clone());
        }
        for (index, part) in record.parts.iter().enumerate() {
            self.enter(&format!("{path}/{index}"), part);
        }
    }

    /// The pack with one more text.
    pub(super) fn with_text(mut self, name: &str, text: String) -> Self {
        self.texts.insert(name.to_owned(), text);
        self
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<&str, LoadError> {
        let text = self.texts.get(name).map(String::as_str);
        text.ok_or_else(|| unreadable(format!("it has no `{name}`")))
    }

    /// The record, with its tensors in a place.
    pub(super) fn record(&self, place: &Place) -> Result<Record, LoadError> {
        self.node(ROOT, place, DEPTH)
    }

    fn node(&self, path: &str, place: &Place, depth: usize) -> Result<Record, LoadError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(unreadable(format!("`{path}` is a record too deep")));
        };
        let mut record = Record::new(self.text(path)?);
        for (name, data) in own(&self.tensors, path) {
            let tensor = place.tensor(&format!("{path}:{name}"), data.clone())?;
            record.tensors.push((name.to_owned(), tensor));
        }
        let numbers = own(&self.numbers, path).map(|(name, number)| (name.to_owned(), *number));
        record.numbers.extend(numbers);
        let texts = own(&self.texts, path).map(|(name, text)| (name.to_owned(), text.clone()));
        record.texts.extend(texts);
        loop {
            let part = format!("{path}/{}", record.parts.len());
            if !self.texts.contains_key(&part) {
                return Ok(record);
            }
            record.parts.push(self.node(&part, place, depth)?);
        }
    }

    /// All as a burnpack, with its checksum.
    pub(super) fn into_writer(self) -> Writer {
        let checksum = self.checksum();
        let tensors = self.tensors.into_iter().map(|(name, data)| {
            let (bytes, shape, dtype) = data.into_parts();
            burn_pack::Tensor::new(name, dtype, shape, None, bytes)
        });
        let writer = Writer::new(tensors.collect()).with_metadata(CHECKSUM, &checksum);
        let numbers = self.numbers.iter();
        let writer = numbers.fold(writer, |writer, (name, number)| {
            writer.with_scalar(name, Scalar::Float(*number))
        });
        let texts = self.texts.iter();
        texts.fold(writer, |writer, (name, text)| {
            writer.with_metadata(name, text)
        })
    }

    /// What was written as a burnpack.
    pub(super) fn from_bytes(bytes: Bytes) -> Result<Self, LoadError> {
        let broken = |error: burn_pack::Error| unreadable(error.to_string());
        let reader = Reader::from_bytes(bytes).map_err(broken)?;
        let mut texts = reader.metadata().clone();
        let numbers = reader.scalars().iter();
        let numbers = numbers.filter_map(|(name, scalar)| match scalar {
            Scalar::Float(number) => Some((name.clone(), *number)),
            Scalar::Int(_) | Scalar::UInt(_) | Scalar::Bool(_) => None,
        });
        let numbers = numbers.collect();
        let expected = texts.remove(CHECKSUM).unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for tensor in reader.into_tensors().map_err(broken)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(broken)?;
            tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
        }
        let pack = Self {
            tensors,
            numbers,
            texts,
        };
        let found = pack.checksum();
        if found == expected {
            Ok(pack)
        } else {
            Err(LoadError::Damaged { found, expected })
        }
    }

    fn checksum(&self) -> String {
        let mut hash = Xxh3::new();
        let mut take = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for (name, data) in &self.tensors {
            take(name.as_bytes());
            take(format!("{:?} {:?}", data.dtype(), data.shape().to_vec()).as_bytes());
            take(data.as_bytes());
        }
        for (name, number) in &self.numbers {
            take(name.as_bytes());
            take(&number.to_bits().to_le_bytes());
        }
        for (name, text) in &self.texts {
            take(name.as_bytes());
            take(text.as_bytes());
        }
        format!("{:032x}", hash.digest128())
    }
}

/// What belongs to the record of a path itself, by its name.
fn own<'a, T>(
    all: &'a BTreeMap<String, T>,
    path: &str,
) -> impl Iterator<Item = (&'a str, &'a T)> + use<'a, T> {
    let prefix = format!("{path}:");
    let from = all.range(prefix.clone()..);
    from.map_while(move |(key, value)| Some((key.strip_prefix(&prefix)?, value)))
}

fn unreadable(why: String) -> LoadError {
    LoadError::Unreadable { why }
}
