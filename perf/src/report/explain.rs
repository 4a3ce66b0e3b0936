//! Explanations of results that are not as native.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glob::Pattern;
use serde::Deserialize;

use crate::result::{Run, WorkloadInfo};

/// Why a file of explanations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is not TOML with a table `[explanations]`.
    #[error(
        "{path} is not a file of explanations: it must have lines like \"meta-create/bindfs\" = \"why\" under [explanations]"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<toml::de::Error>,
    },
    /// A key without a target.
    #[error("{path}: the key {key:?} must be WORKLOAD/TARGET, with * for any part of a name")]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// Reads a file of explanations.
///
/// # Errors
/// It cannot be read, is not TOML, or has a key that matches nothing.
pub fn load(path: &Path) -> Result<BTreeMap<String, String>, ExplainError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        explanations: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(path).map_err(|source| ExplainError::Read {
        path: path.to_owned(),
        source,
    })?;
    let file: File = toml::from_str(&text).map_err(|source| ExplainError::Format {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    if let Some(key) = file.explanations.keys().find(|key| !key.contains('/')) {
        return Err(ExplainError::Key {
            path: path.to_owned(),
            key: key.clone(),
        });
    }
    Ok(file.explanations)
}

/// The explanation of a row: that of the most specific key that matches. A key is `WORKLOAD/TARGET`, or
/// `GROUP:WORKLOAD/TARGET`; a `*` stands for any characters, also none.
pub fn find<'a>(run: &'a Run, workload: &WorkloadInfo, target: &str) -> Option<&'a str> {
    run.explanations
        .iter()
        .filter(|(key, _)| matches(key, workload, target))
        .max_by_key(|(key, _)| specificity(key))
        .map(|(_, text)| text.as_str())
}

fn matches(key: &str, workload: &WorkloadInfo, target: &str) -> bool {
    let Some((name, of)) = key.rsplit_once('/') else {
        return false;
    };
    let grouped = name
        .split_once(':')
        .is_some_and(|(group, name)| glob(group, &workload.group) && glob(name, &workload.name));
    (grouped || glob(name, &workload.name)) && glob(of, target)
}

/// Fewer wildcards first, then more characters.
fn specificity(key: &str) -> (std::cmp::Reverse<usize>, usize) {
    let stars = key.matches('*').count();
    (std::cmp::Reverse(stars), key.len() - stars)
}

/// Whether `pattern` matches all of `text`.
fn glob(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::report::specimen;

    #[test]
    fn stars_match_any_part() {
        assert!(glob("*", ""));
        assert!(glob("meta-*-2c", "meta-create-2c"));
        assert!(!glob("meta-*-2c", "meta-create-2c-cold"));
        assert!(glob("*a*a*", "banana"));
        assert!(!glob("meta", "meta-create"));
    }

    #[test]
    fn the_most_specific_wins() {
        let mut run = specimen::empty();
        for key in [
            "*/*",
            "meta-create/*",
            "*/bindfs",
            "meta-create/bindfs",
            "metadata:*/fbr",
        ] {
            run.explanations.insert(key.into(), key.into());
        }
        let workload =
            |name| specimen::workload(name, "metadata", "op/s", crate::result::Better::Higher);
        let create = workload("meta-create");
        assert_eq!(find(&run, &create, "bindfs"), Some("meta-create/bindfs"));
        assert_eq!(find(&run, &create, "ll"), Some("meta-create/*"));
        assert_eq!(find(&run, &workload("meta-x"), "bindfs"), Some("*/bindfs"));
        assert_eq!(
            find(&run, &workload("meta-x"), "fbr"),
            Some("metadata:*/fbr")
        );
        assert_eq!(find(&run, &workload("other"), "ll"), Some("*/*"));
        run.explanations.clear();
        assert_eq!(find(&run, &create, "bindfs"), None);
    }

    #[test]
    fn files_are_checked() {
        let load_text = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            load(file.path())
        };
        let map = load_text("[explanations]\n\"a/b\" = \"why\"\n").unwrap();
        assert_eq!(map["a/b"], "why");
        assert!(matches!(
            load_text("[explanations]\n\"ab\" = \"why\"\n"),
            Err(ExplainError::Key { .. })
        ));
        assert!(matches!(
            load_text("\"a/b\" = \"why\"\n"),
            Err(ExplainError::Format { .. })
        ));
        assert!(matches!(
            load(Path::new("/no/such/file")),
            Err(ExplainError::Read { .. })
        ));
    }
}
