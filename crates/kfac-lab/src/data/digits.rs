//! Handwritten digits of 8 × 8 pixels (Alpaydin & Kaynak 1998, UCI), embedded.

use std::path::Path;

use super::idx::gunzip;
use super::{Cases, DataError, DataSet};

const FILE: &[u8] = include_bytes!("../../../../data/digits/digits.csv.gz");
const PATH: &str = "data/digits/digits.csv.gz";
const FEATURES: usize = 64;
const CASES: usize = 1_797;
/// The order of the file is kept: neighbours tend to be by the same writer, so a random split would
/// test on the hands that were trained on.
const TRAIN: usize = 1_497;
const LARGEST: u8 = 16;
/// Each line is of 65 numbers of at most two digits.
const LARGEST_TEXT: usize = CASES * 3 * (FEATURES + 1);

/// The first 1,497 cases to train on and the last 300 to test on, values divided by 16.
pub(super) fn load() -> Result<DataSet, DataError> {
    let path = Path::new(PATH);
    let mut train = parse(&gunzip(FILE, LARGEST_TEXT, path)?, path)?;
    let test = Cases {
        features: FEATURES,
        values: train.values.split_off(TRAIN * FEATURES),
        labels: train.labels.as_mut().map(|labels| labels.split_off(TRAIN)),
    };
    Ok(DataSet {
        description: "digits 8x8: 1497 + 300".into(),
        train,
        test,
    })
}

/// Each line holds 64 values of 0 to 16 and the class.
pub(super) fn parse(text: &[u8], path: &Path) -> Result<Cases, DataError> {
    let mut values = Vec::with_capacity(CASES * FEATURES);
    let mut labels = Vec::with_capacity(CASES);
    for (position, line) in String::from_utf8_lossy(text).lines().enumerate() {
        let Some((pixels, label)) = parse_line(line) else {
            return Err(DataError::malformed(
                path,
                format!(
                    "64 values of 0 to {LARGEST} and a class on line {}",
                    position + 1
                ),
                format!("{line:?}"),
            ));
        };
        values.extend(
            pixels
                .iter()
                .map(|&pixel| f32::from(pixel) / f32::from(LARGEST)),
        );
        labels.push(label);
    }
    if labels.len() != CASES {
        let found = format!("{} lines", labels.len());
        return Err(DataError::malformed(path, format!("{CASES} lines"), found));
    }
    Ok(Cases {
        features: FEATURES,
        values,
        labels: Some(labels),
    })
}

fn parse_line(line: &str) -> Option<(Vec<u8>, u8)> {
    let mut row: Vec<u8> = line
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let label = row.pop().filter(|&label| label < 10)?;
    (row.len() == FEATURES && row.iter().all(|&pixel| pixel <= LARGEST)).then_some((row, label))
}

#[cfg(test)]
mod tests {
    use super::super::class_counts;
    use super::*;

    #[test]
    fn the_classes_have_their_known_counts() {
        let set = load().unwrap();
        assert_eq!((set.train.len(), set.test.len()), (1_497, 300));
        let (train, test) = (class_counts(&set.train), class_counts(&set.test));
        let all: Vec<usize> = train.iter().zip(test).map(|(a, b)| a + b).collect();
        assert_eq!(all, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert!(
            set.train
                .values
                .iter()
                .all(|value| (0.0..=1.0).contains(value))
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = format!("{}7\n", "16,".repeat(FEATURES));
        let bad = good.replacen("16", "17", 1);
        let message = parse(format!("{good}{bad}").as_bytes(), Path::new("d.csv")).unwrap_err();
        assert!(message.to_string().contains("line 2"), "{message}");
        let message = parse(good.as_bytes(), Path::new("d.csv"))
            .unwrap_err()
            .to_string();
        assert_eq!(message, "d.csv: expected 1797 lines, found 1 lines");
    }
}
