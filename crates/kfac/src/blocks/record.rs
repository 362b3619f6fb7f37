//! Records: the named tensors and numbers that an object is made of.

use burn::tensor::Tensor;

/// All that makes an inverse again.
#[derive(Clone, Debug)]
pub struct Record {
    /// What kind of inverse it is, for instance `kronecker`.
    pub form: String,
    /// Tensors by name.
    pub tensors: Vec<(String, Tensor<2>)>,
    /// Numbers by name.
    pub numbers: Vec<(String, f64)>,
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

    fn missing(&self, name: &str) -> RecordError {
        RecordError::Missing {
            form: self.form.clone(),
            name: name.to_owned(),
        }
    }
}
