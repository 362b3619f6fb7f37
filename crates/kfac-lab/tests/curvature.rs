//! The curvature of every kind of layer against recorded numbers.
#![cfg(test)]

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use kfac_lab::{
    curvature::{Case, Comparison, CurvatureOptions, compute, run},
    verdict::Verdict,
};
use serde_json::{Value, json};

fn recorded() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/layers");
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut cases: Vec<_> = entries.collect();
    cases.sort();
    cases
}

fn read(path: &Path) -> Value {
    let mut text = String::new();
    let mut unpacked = GzDecoder::new(File::open(path).unwrap());
    unpacked.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn named(name: &str) -> Value {
    let file = format!("{name}.json.gz");
    let path = recorded().into_iter().find(|path| path.ends_with(&file));
    read(&path.unwrap())
}

fn found(case: &Value) -> Value {
    let case: Case = serde_json::from_value(case.clone()).unwrap();
    compute(&case).unwrap()
}

#[test]
fn every_recorded_case_is_reproduced() {
    let cases = recorded();
    assert_eq!(cases.len(), 17, "{cases:?}");
    for path in cases {
        let case = read(&path);
        let comparison = Comparison::new(&case["expected"], &found(&case));
        assert!(comparison.passed(), "{}: {comparison}", path.display());
        // Objective, and for each layer the gradient, four members of its block and two solutions.
        assert!(comparison.deviations.len() > 10, "{comparison}");
    }
}

#[test]
fn cases_said_to_be_equal_are() {
    let image = found(&named("conv2d_1x1"));
    let dense = found(&named("conv2d_1x1_as_linear"));
    for member in ["objective", "gradient", "blocks", "preconditioned"] {
        let comparison = Comparison::new(
            &json!({"same": image[member]}),
            &json!({"same": dense[member]}),
        );
        assert!(comparison.passed(), "{member}: {comparison}");
    }
}

#[test]
fn a_wrong_number_is_seen_wherever_it_is() {
    let case = named("conv2d_grouped");
    let found = found(&case);
    let places = [
        "/blocks/0/groups/1/input_factor/3/2",
        "/blocks/3/gradient_factor/0/1",
        "/preconditioned/exact/layers/0/1/4",
        "/preconditioned/factored_tikhonov_trace_pi/pi/0/1",
        "/objective",
    ];
    for place in places {
        let mut expected = case["expected"].clone();
        let number = expected.pointer_mut(place).unwrap();
        *number = json!(number.as_f64().unwrap() * 1.001 + 1e-3);
        assert!(!Comparison::new(&expected, &found).passed(), "{place}");
    }
    let mut expected = case["expected"].clone();
    expected["blocks"]["0"]["kind"] = json!("kronecker");
    assert!(!Comparison::new(&expected, &found).passed());
    expected["blocks"]["0"]["kind"] = json!("kronecker_per_group");
    expected["more"] = json!(1.0);
    assert!(
        !Comparison::new(&expected, &found).passed(),
        "a member that is not computed"
    );
}

#[test]
fn damping_and_expected_numbers_are_optional() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (
        folder.path().join("case.json"),
        folder.path().join("out.json"),
    );
    let options = CurvatureOptions {
        case: path.clone(),
        out: Some(out.clone()),
    };
    let mut case = named("conv_transpose2d");
    case["damping"] = json!({"gamma": 0.1, "lambda": 0.01});
    fs::write(&path, case.to_string()).unwrap();
    assert_eq!(run(&options).unwrap(), Verdict::Agrees);
    case["damping"]["lambda"] = json!(0.02);
    fs::write(&path, case.to_string()).unwrap();
    assert_eq!(
        run(&options).unwrap(),
        Verdict::Deviates,
        "another damping has other solutions"
    );
    case.as_object_mut().unwrap().remove("expected");
    fs::write(&path, case.to_string()).unwrap();
    assert_eq!(run(&options).unwrap(), Verdict::NothingExpected);
    let written: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    for member in ["objective", "gradient", "blocks", "preconditioned", "ekfac"] {
        assert!(!written[member].is_null(), "{member}");
    }
}

#[test]
fn layers_may_come_in_other_orders_and_sizes() {
    let mut case = named("sequence_mean_reduce_deep_linear");
    case.as_object_mut().unwrap().remove("expected");
    // The same network with positions pooled before its second layer.
    case["model"].as_array_mut().unwrap().swap(1, 2);
    let pooled_early = found(&case);
    assert_eq!(pooled_early["blocks"]["2"]["positions"], 1);
    let mut classes = named("conv1d");
    classes.as_object_mut().unwrap().remove("expected");
    classes["model"] = json!([
        {"type": "shared", "of": 0},
        {"type": "tanh"},
    ]);
    let case: Case = serde_json::from_value(classes).unwrap();
    let error = format!("{:#}", compute(&case).unwrap_err());
    assert!(error.contains("layer 0: no layer 0 before"), "{error}");
}

#[test]
fn malformed_cases_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.json");
    let error = |case: &Value| {
        fs::write(&path, case.to_string()).unwrap();
        let options = CurvatureOptions {
            case: path.clone(),
            out: None,
        };
        format!("{:#}", run(&options).unwrap_err())
    };
    let good = named("conv1d");
    let mut ragged = good.clone();
    ragged["inputs"][0][0].as_array_mut().unwrap().pop();
    assert!(
        error(&ragged).contains("nested lists of numbers"),
        "{}",
        error(&ragged)
    );
    let mut kernel = good.clone();
    kernel["model"][0]["kernel"] = json!([3, 3]);
    assert!(
        error(&kernel).contains("expected 1 numbers"),
        "{}",
        error(&kernel)
    );
    let mut class = good.clone();
    class["targets"][0] = json!(7);
    assert!(error(&class).contains("class 7 of 2"), "{}", error(&class));
    let mut unknown = good.clone();
    unknown["model"][1]["type"] = json!("swish");
    assert!(error(&unknown).contains("swish"), "{}", error(&unknown));
    for nothing in [json!({}), json!([1.0])] {
        let mut unexpecting = good.clone();
        unexpecting["expected"] = nothing;
        let error = error(&unexpecting);
        assert!(
            error.contains("case.json") && error.contains("objective"),
            "{error}"
        );
    }
    let mut kind = good;
    kind["kind"] = json!("trajectory");
    assert!(error(&kind).contains("layer-case"), "{}", error(&kind));
}
