//! Which colour a target has, everywhere on the page.

use crate::report::Analysis;
use crate::result::TargetKind;

/// Colours that differ; then they repeat with dashed lines.
const COLOURS: usize = 8;

/// The class that gives a target its colour: grey for native.
pub fn class(analysis: &Analysis<'_>, target: &str) -> String {
    let native = |name: &str| {
        let info = analysis.run.targets.iter().find(|info| info.name == name);
        info.is_some_and(|info| info.kind == TargetKind::Native)
    };
    if native(target) {
        return "tn".to_owned();
    }
    let others = analysis.targets.iter().filter(|name| !native(name));
    let index = others.take_while(|name| **name != target).count();
    match index / COLOURS {
        0 => format!("t{}", index % COLOURS),
        _ => format!("t{} again", index % COLOURS),
    }
}
