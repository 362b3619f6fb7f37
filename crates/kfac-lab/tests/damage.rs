//! Files that are damaged: each is refused cleanly or read correctly, in bounded time and memory.
#![cfg(test)]

use std::{
    fs,
    io::Read,
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use kfac_lab::{memory::ALLOCATED, readers::Reader};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A folder that gets the whole files, for the fuzzers to begin with.
const SEEDS: &str = "KFAC_SEEDS";

/// Damaged files of each form; the environment variable `KFAC_DAMAGED_FILES` has another number.
const FILES: u64 = 300;

/// What a reader may take besides four times the file's size.
const MOST: usize = 64 << 20;

/// The content with a piece cut off, bits turned, blocks exchanged, or numbers of a header made large.
fn damaged(content: &[u8], random: &mut impl Rng) -> Vec<u8> {
    let mut bytes = content.to_vec();
    let at = |random: &mut dyn FnMut(usize) -> usize| random(content.len());
    let mut below = |n: usize| random.random_range(0..n.max(1));
    match below(6) {
        0 => bytes.truncate(at(&mut below)),
        1 => {
            for _ in 0..=below(8) {
                let place = at(&mut below);
                bytes[place] ^= 1 << below(8);
            }
        }
        2 => {
            // Near the start are the headers.
            for _ in 0..=below(4) {
                let place = below(bytes.len().min(256));
                bytes[place] = [0, 0x7f, 0x80, 0xff, b'9', b'e', b'-', b'"'][below(8)];
            }
        }
        3 => {
            let size = below(bytes.len() / 2).max(1);
            let [a, b] = [below(bytes.len() - size), below(bytes.len() - size)];
            let block = bytes[a..a + size].to_vec();
            let other = bytes[b..b + size].to_vec();
            bytes[b..b + size].copy_from_slice(&block);
            bytes[a..a + size].copy_from_slice(&other);
        }
        4 => {
            let from = at(&mut below);
            let to = from + below(bytes.len() - from);
            bytes.drain(from..to);
        }
        _ => {
            let from = at(&mut below);
            let to = from + below((bytes.len() - from).min(64));
            bytes[from..to].fill([0, 0xff, b'9'][below(3)]);
        }
    }
    bytes
}

/// Leaves a whole file in the folder of the fuzzers' seeds, if there is to be one.
fn leave_seed(reader: Reader, content: &[u8], seed: u64) {
    if let Some(folder) = std::env::var_os(SEEDS) {
        let folder = Path::new(&folder).join(reader.name());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("whole-{seed}")), content).unwrap();
    }
}

/// Reads so many damaged files of a form.
fn check(reader: Reader, content: &[u8], seed: u64) {
    reader.read(content).unwrap();
    leave_seed(reader, content, seed);
    let files = std::env::var("KFAC_DAMAGED_FILES");
    let files = files.map_or(FILES, |files| files.parse().unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut read = 0;
    for number in 0..files {
        let bytes = damaged(content, &mut random);
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let start = Instant::now();
        let result = catch_unwind(|| reader.read(&bytes).is_ok());
        let peak = ALLOCATED.peak_usage().saturating_sub(before);
        let keep = |what: &str| {
            let path = std::env::temp_dir().join(format!("damaged-{reader:?}-{number}"));
            fs::write(&path, &bytes).unwrap();
            panic!("{reader:?}, file {number}: {what}: {}", path.display());
        };
        match result {
            Ok(whole) => read += u64::from(whole),
            Err(_) => keep("the reader panicked"),
        }
        if peak > 4 * bytes.len() + MOST {
            keep(&format!("{peak} bytes for {}", bytes.len()));
        }
        if start.elapsed() > Duration::from_secs(10) {
            keep("it took more than ten seconds");
        }
    }
    println!("{reader:?}: {read} of {files} damaged files were read");
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    let packed = fs::File::open(path).unwrap();
    GzDecoder::new(packed).read_to_end(&mut content).unwrap();
    content
}

fn images(cases: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, cases, 0, 0, 0, 28, 0, 0, 0, 28];
    bytes.extend((0..usize::from(cases) * 28 * 28).map(|pixel| (pixel % 251) as u8));
    bytes
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(content, flate2::Compression::fast());
    encoder.read_to_end(&mut packed).unwrap();
    packed
}

/// One test, as what is allocated counts for all threads.
#[test]
fn damaged_files_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits/digits.csv.gz");
    check(Reader::Images(5), &images(5), 1);
    check(Reader::Images(5), &packed(&images(5)), 2);
    check(Reader::Digits, &unpacked(&digits), 3);
    let photograph = [b"P5\n92 112\n255\n", &[7; 92 * 112][..]].concat();
    check(Reader::Photograph, &photograph, 4);
    check(
        Reader::Npy,
        &unpacked(&golden.join("P5_init_seed1.npy.gz")),
        5,
    );
    let trajectory = fs::read(golden.join("P5_diag_seed1.json")).unwrap();
    check(Reader::Trajectory, &trajectory, 6);
    check(
        Reader::Layer,
        &unpacked(&golden.join("layers/conv2d_plain.json.gz")),
        7,
    );
    for (method, seed) in [("kfac", 8), ("ekfac", 9), ("preconditioned-sgd", 10)] {
        let run = folder.path().join(method);
        let trained = std::process::Command::new(env!("CARGO_BIN_EXE_kfac"))
            .args([
                "train",
                "digits",
                "--iterations",
                "3",
                "--optimizer",
                method,
                "--out",
            ])
            .arg(&run)
            .output();
        assert!(trained.unwrap().status.success());
        let checkpoint = run.join("checkpoints/3");
        let optimizer = fs::read(checkpoint.join("kfac.bpk")).unwrap();
        check(Reader::Optimizer, &optimizer, seed);
        let state = fs::read(checkpoint.join("run.json")).unwrap();
        check(Reader::Run, &state, seed);
    }
}
