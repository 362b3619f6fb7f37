//! Do the modules use only what ARCHITECTURE.md puts before them, and do no files form a circle?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules in their order: each may use those before it.
const LAYERS: [&str; 17] = [
    "error",
    "clock",
    "workers",
    "random",
    "moving_average",
    "linalg",
    "network",
    "record",
    "loss",
    "capture",
    "damping",
    "blocks",
    "inverse",
    "curvature",
    "engine",
    "optim",
    "train",
];

/// The modules of a crate: the file of each, the names that it re-exports, and what it imports.
#[derive(Default)]
struct Sources {
    /// By module path, for instance `blocks::kronecker`.
    modules: BTreeMap<String, Module>,
}

#[derive(Default)]
struct Module {
    /// Re-exported name -> path that it stands for.
    exports: BTreeMap<String, String>,
    /// Absolute paths of what is imported or named with its path.
    imports: Vec<String>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        for path in rust_files(root) {
            let module = module_path(root, &path);
            let code = code_of(&fs::read_to_string(&path).unwrap());
            sources
                .modules
                .insert(module.clone(), parse(&module, &code));
        }
        sources
    }

    /// The module whose file defines what a path stands for, re-exports followed.
    fn resolve(&self, path: &str) -> Option<String> {
        let segments: Vec<&str> = path.split("::").collect();
        let longest = (1..=segments.len()).rev();
        let found = longest
            .map(|length| (length, segments[..length].join("::")))
            .find(|(_, module)| self.modules.contains_key(module));
        let (length, module) = found?;
        let Some(name) = segments.get(length) else {
            return Some(module);
        };
        match self.modules[&module].exports.get(*name) {
            Some(target) => {
                let rest = &segments[length + 1..];
                let target = std::iter::once(target.as_str()).chain(rest.iter().copied());
                self.resolve(&target.collect::<Vec<_>>().join("::"))
            }
            None => Some(module),
        }
    }

    /// The modules that each module's file uses, itself left out.
    fn uses(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let of = |(name, module): (&String, &Module)| {
            let used = module.imports.iter().filter_map(|path| self.resolve(path));
            used.filter(|used| used != name).collect::<BTreeSet<_>>()
        };
        let modules = self.modules.iter();
        modules.map(|entry| (entry.0.as_str(), of(entry))).collect()
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| {
        if path.is_dir() {
            rust_files(&path)
        } else {
            vec![path]
        }
    };
    entries.flat_map(of).collect()
}

/// `blocks::kronecker` of `src/blocks/kronecker.rs`, `blocks` of `src/blocks/mod.rs`.
fn module_path(root: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(root).unwrap().with_extension("");
    let parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
    let parts = match parts.as_slice() {
        [parents @ .., "mod"] => parents,
        all => all,
    };
    parts.join("::")
}

/// The text without comments and without its unit tests.
fn code_of(text: &str) -> String {
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..tests].lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or(""));
    code.collect::<Vec<_>>().join("\n")
}

fn parse(module: &str, code: &str) -> Module {
    let mut parsed = Module::default();
    for statement in code.split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ") else {
            continue;
        };
        let visible = before.rsplit('\n').next().unwrap_or("").trim();
        if !(visible.is_empty() || visible.starts_with("pub")) {
            continue;
        }
        let words: Vec<&str> = tree.split_whitespace().collect();
        let tree = words.join(" ").replace(" as ", RENAMED).replace(' ', "");
        for path in expand(&tree) {
            let Some(path) = absolute(module, &path) else {
                continue;
            };
            if visible.starts_with("pub") {
                let name = path.rsplit("::").next().unwrap_or("").to_owned();
                parsed.exports.insert(name, path);
            } else {
                parsed.imports.push(path);
            }
        }
    }
    let named = code.split("crate::").skip(1);
    let named = named.map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        rest[..end.unwrap_or(rest.len())]
            .trim_end_matches(':')
            .to_owned()
    });
    parsed.imports.extend(named.filter(|path| !path.is_empty()));
    parsed
}

/// Stands between a path and the name that it is imported by.
const RENAMED: &str = "@";

/// All paths of an import tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.split(RENAMED).next().unwrap_or(tree).to_owned()];
    };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts
        .flat_map(|part| expand(&format!("{prefix}{part}")))
        .map(|path| path.trim_end_matches("::self").to_owned())
        .collect()
}

/// The path from the root of the crate; `None` of another crate's.
fn absolute(module: &str, path: &str) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    if path.starts_with("super::") {
        let mut parents: Vec<&str> = module.split("::").collect();
        let mut rest = path;
        while let Some(next) = rest.strip_prefix("super::") {
            parents.pop();
            rest = next;
        }
        parents.push(rest);
        return Some(parents.join("::"));
    }
    // Re-exports of a module's own files have no prefix.
    let own = ![
        "std", "burn", "faer", "serde", "rand", "rayon", "clap", "proptest",
    ]
    .iter()
    .any(|other| path.starts_with(other));
    own.then(|| {
        format!("{module}::{path}")
            .trim_start_matches("::")
            .to_owned()
    })
}

fn library_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn library() -> Sources {
    Sources::read(&library_root())
}

#[test]
fn modules_use_only_those_before_them() {
    let sources = library();
    let layer = |path: &str| {
        let top = path.split("::").next().unwrap_or(path);
        LAYERS.iter().position(|layer| *layer == top)
    };
    let mut seen = 0;
    for (module, used) in sources.uses() {
        if module == "lib" {
            continue; // lists what is public
        }
        let own = layer(module).unwrap_or_else(|| panic!("{module} is in no layer"));
        for used in used {
            let other = layer(&used).unwrap_or_else(|| panic!("{used} is in no layer"));
            assert!(other <= own, "{module} uses {used}, which is above it");
            seen += 1;
        }
    }
    assert!(seen > 200, "only {seen} imports were read");
}

#[test]
fn no_files_form_a_circle() {
    let sources = library();
    let uses = sources.uses();
    let mut left: BTreeSet<&str> = uses.keys().copied().filter(|name| *name != "lib").collect();
    // Files that use none that are left are taken away, until none can be.
    loop {
        let free = |name: &&str| !uses[name].iter().any(|used| left.contains(used.as_str()));
        let free: Vec<&str> = left.iter().copied().filter(|name| free(name)).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name| !free.contains(name));
    }
    assert!(left.is_empty(), "circles among {left:?}");
}

#[test]
fn the_reader_of_imports_finds_what_is_there() {
    let sources = library();
    let uses = sources.uses();
    let expected = ["blocks::kronecker", "blocks::block", "network::layer"];
    for (module, used) in [
        ("inverse::conditional", expected[0]),
        ("blocks::full", expected[1]),
        ("blocks::diagonal", expected[2]),
        ("network::layers", "network::vector"),
        ("optim::step", "engine::observe"),
    ] {
        assert!(uses[module].contains(used), "{module}: {:?}", uses[module]);
    }
    let paths = expand("crate::a::{self,b,c::{d,e}}");
    assert_eq!(
        paths,
        [
            "crate::a",
            "crate::a::b",
            "crate::a::c::d",
            "crate::a::c::e"
        ]
    );
}

/// Other devices than the host go wrong without an error where several threads work on them.
#[test]
fn threads_work_on_several_things_in_one_place_only() {
    let users: Vec<PathBuf> = rust_files(&library_root())
        .into_iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains("rayon"))
        .collect();
    assert_eq!(users, [library_root().join("workers.rs")]);
}

#[test]
fn every_error_is_in_the_troubleshooting() {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let known = read(library_root().join("../../../docs/troubleshooting.md"));
    let variants = |file: &str, name: &str| {
        let text = read(library_root().join(file));
        let start = text.find(&format!("pub enum {name} {{")).unwrap();
        let body = text[start..].split("\n}").next().unwrap().to_owned();
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        let variant = |line: &str| {
            let name: String = line
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect();
            line.starts_with(|c: char| c.is_ascii_uppercase())
                .then_some(name)
        };
        lines.filter_map(variant).collect::<Vec<_>>()
    };
    let errors = [
        variants("error.rs", "StepError"),
        variants("engine/fault.rs", "InitError"),
    ]
    .concat();
    assert!(errors.len() > 40, "{errors:?}");
    let missing = errors
        .iter()
        .filter(|error| !known.contains(&format!("`{error}`")));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}
