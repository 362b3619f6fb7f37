//! Records: the named tensors, numbers and texts that an object is made of.

use burn::tensor::Tensor;
use serde::{Serialize, de::DeserializeOwned};

/// All that makes an object again, for instance an inverse.
#[derive(Clone, Debug)]
pub struct Record {
    /// What kind of object it is, for instance `kronecker`.
    pub form: String,
    /// Tensors by name.
    pub tensors: Vec<(String, Tensor<2>)>,
    /// Numbers by name.
    pub numbers: Vec<(String, f64)>,
    /// Texts by name.
    pub texts: Vec<(String, String)>,
    /// Records of what it consists of, in order.
    pub parts: Vec<Record>,
}

/// A record is not of what it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is of another form.
    #[error("the record is of the form `{found}`, expected {expected}")]
    Form {
        /// The form of the record.
        found: String,
        /// The forms that would have been right.
        expected: &'static str,
    },
    /// Something is not in it.
    #[error("the record of the form `{form}` has no `{name}`")]
    Missing {
        /// The form of the record.
        form: String,
        /// What is missing.
        name: String,
    },
}

impl Record {
    /// A record without content.
    pub fn new(form: &str) -> Self {
        Self {
            form: form.to_owned(),
            tensors: Vec::new(),
            numbers: Vec::new(),
            texts: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// The record with one more tensor.
    #[must_use]
    pub fn with_tensor(mut self, name: &str, tensor: &Tensor<2>) -> Self {
        self.tensors.push((name.to_owned(), tensor.clone()));
        self
    }

    /// The record with one more number.
    #[must_use]
    pub fn with_number(mut self, name: &str, number: f64) -> Self {
        self.numbers.push((name.to_owned(), number));
        self
    }

    /// The record with one more text.
    #[must_use]
    pub fn with_text(mut self, name: &str, text: impl Into<String>) -> Self {
        self.texts.push((name.to_owned(), text.into()));
        self
    }

    /// The record with what is written as JSON.
    #[must_use]
    pub(crate) fn with_json<T: Serialize>(self, name: &str, value: &T) -> Self {
        self.with_text(name, serde_json::to_string(value).unwrap_or_default())
    }

    /// The record with several numbers.
    #[must_use]
    pub(crate) fn with_numbers(self, name: &str, numbers: &[f64]) -> Self {
        let record = self.with_number(name, numbers.len() as f64);
        let numbers = numbers.iter().enumerate();
        numbers.fold(record, |record, (index, number)| {
            record.with_number(&format!("{name}.{index}"), *number)
        })
    }

    /// The record with these parts.
    #[must_use]
    pub fn with_parts(self, parts: Vec<Self>) -> Self {
        Self { parts, ..self }
    }

    /// A tensor.
    ///
    /// # Errors
    ///
    /// [`RecordError::Missing`].
    pub fn tensor(&self, name: &str) -> Result<Tensor<2>, RecordError> {
        let found = self.tensors.iter().find(|(own, _)| own == name);
        let found = found.map(|(_, tensor)| tensor.clone());
        found.ok_or_else(|| self.missing(name))
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// [`RecordError::Missing`].
    pub fn number(&self, name: &str) -> Result<f64, RecordError> {
        let found = self.numbers.iter().find(|(own, _)| own == name);
        let found = found.map(|(_, number)| *number);
        found.ok_or_else(|| self.missing(name))
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// [`RecordError::Missing`].
    pub fn text(&self, name: &str) -> Result<&str, RecordError> {
        let found = self.texts.iter().find(|(own, _)| own == name);
        let found = found.map(|(_, text)| text.as_str());
        found.ok_or_else(|| self.missing(name))
    }

    /// The first part of a form, if any.
    pub fn part_of(&self, form: &str) -> Option<&Self> {
        self.parts.iter().find(|part| part.form == form)
    }

    /// A number that counts.
    pub(crate) fn count(&self, name: &str) -> Result<u64, RecordError> {
        let number = self.number(name)?;
        // All of them are exact in a float, up to 2⁵³.
        let counts = number >= 0.0 && number.fract() == 0.0 && number <= 9e15;
        counts
            .then_some(number as u64)
            .ok_or_else(|| self.missing(name))
    }

    /// Several numbers.
    pub(crate) fn numbers_of(&self, name: &str) -> Result<Vec<f64>, RecordError> {
        let count = self.count(name)?;
        (0..count)
            .map(|index| self.number(&format!("{name}.{index}")))
            .collect()
    }

    /// What was written as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, RecordError> {
        serde_json::from_str(self.text(name)?).map_err(|_| self.missing(name))
    }

    /// A part.
    ///
    /// # Errors
    ///
    /// [`RecordError::Missing`].
    pub fn part(&self, index: usize) -> Result<&Self, RecordError> {
        let found = self.parts.get(index);
        found.ok_or_else(|| self.missing(&format!("part {index}")))
    }

    /// Refuses a record of another form.
    ///
    /// # Errors
    ///
    /// [`RecordError::Form`].
    pub fn expect_form(&self, expected: &'static str) -> Result<(), RecordError> {
        if self.form == expected {
            Ok(())
        } else {
            Err(self.of_other_form(expected))
        }
    }

    /// The error of a record of a form that was not expected.
    pub fn of_other_form(&self, expected: &'static str) -> RecordError {
        RecordError::Form {
            found: self.form.clone(),
            expected,
        }
    }

    /// The error of a record that lacks something, or has it in a form that makes no object.
    pub fn missing(&self, name: &str) -> RecordError {
        RecordError::Missing {
            form: self.form.clone(),
            name: name.to_owned(),
        }
    }
}
