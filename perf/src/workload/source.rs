//! Makes trees of source files, the same ones every time.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A word that is in every hundredth file and nowhere else.
pub const NEEDLE: &str = "needle_in_haystack";

const WORDS: [&str; 48] = [
    "buffer",
    "queue",
    "index",
    "entry",
    "node",
    "length",
    "offset",
    "flags",
    "state",
    "struct",
    "static",
    "return",
    "const",
    "unsigned",
    "int",
    "if",
    "else",
    "while",
    "for",
    "break",
    "case",
    "switch",
    "lock",
    "unlock",
    "list",
    "head",
    "next",
    "page",
    "inode",
    "dentry",
    "mount",
    "request",
    "reply",
    "error",
    "count",
    "limit",
    "timer",
    "handler",
    "device",
    "driver",
    "/* see the manual */",
    "0",
    "1",
    "==",
    "!=",
    "&&",
    "+=",
    "->",
];

/// Text of about this many bytes that looks like source: gzip makes a fifth of it.
pub fn text(random: &mut fastrand::Rng, length: usize) -> String {
    let mut text = String::with_capacity(length + 64);
    while text.len() < length {
        for _ in 0..random.usize(0..4) {
            text.push('\t');
        }
        for _ in 0..random.usize(1..9) {
            text += WORDS[random.usize(0..WORDS.len())];
            if random.u8(0..8) == 0 {
                let _ = write!(text, "_{}", random.u16(0..4096));
            }
            text.push(' ');
        }
        text += ";\n";
    }
    text
}

/// Path of the `number`th file: up to 12 files in a directory, directories up to five deep.
fn path(number: u64) -> String {
    let mut directory = number / 12;
    let mut path = String::new();
    while directory > 0 {
        let _ = write!(path, "part_{}/", directory % 5);
        directory /= 5;
    }
    let ending = ["c", "h", "rs", "txt"][(number % 4) as usize];
    let _ = write!(path, "file_{number}.{ending}");
    path
}

/// Makes `files` files below `root`. Their sizes are log-normal with a median of 4 KiB; the mean is about 8 KiB.
pub fn tree(root: &Path, files: u64) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(6);
    for number in 0..files {
        // The sum of twelve is as good as normal.
        let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let length = ((8.3 + 1.2 * normal).exp() as usize).clamp(64, 256 << 10);
        let mut content = text(&mut random, length);
        if number.is_multiple_of(100) {
            content += NEEDLE;
            content.push('\n');
        }
        write(&root.join(path(number)), &content)?;
    }
    Ok(())
}

/// Makes a C program of `units` files that is built by `make` in the directory `build`.
pub fn project(root: &Path, units: u64) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut all = String::from(
        "#ifndef ALL_H\n#define ALL_H\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n",
    );
    let mut main = String::from("#include \"all.h\"\nint main(void) {\n\tlong sum = 0;\n");
    let mut objects = String::from("build/main.o");
    for unit in 0..units {
        let _ = writeln!(all, "long unit_{unit}(long n);");
        let _ = writeln!(main, "\tsum += unit_{unit}({unit});");
        let _ = write!(objects, " build/unit_{unit}.o");
        let mut code = String::from("#include \"all.h\"\n");
        for function in 0..6 {
            let (a, b) = (random.u16(1..), random.u16(1..));
            let _ = write!(
                code,
                "static long part_{function}(long n) {{\n\tlong sum = {a};\n\tfor (long i = 0; i < n % {b}; i++) {{\n\t\t\
                 if (i % 3 == 0) sum += i * {b}; else sum ^= sum >> 2;\n\t}}\n\treturn sum;\n}}\n"
            );
        }
        let calls: Vec<String> = (0..6).map(|n| format!("part_{n}(n)")).collect();
        let _ = writeln!(
            code,
            "long unit_{unit}(long n) {{ return {}; }}",
            calls.join(" + ")
        );
        write(&root.join(format!("unit_{unit}.c")), &code)?;
    }
    all += "#endif\n";
    main += "\tprintf(\"%ld\\n\", sum);\n\treturn 0;\n}\n";
    write(&root.join("all.h"), &all)?;
    write(&root.join("main.c"), &main)?;
    let makefile = format!(
        "build/program: {objects}\n\tgcc -o $@ $^\n\
         build/%.o: %.c all.h\n\tgcc -O1 -pipe -c -o $@ $<\n"
    );
    write(&root.join("Makefile"), &makefile)
}

fn write(path: &Path, content: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Number of files below `root`.
pub fn count(root: &Path) -> Result<u64> {
    Ok(below(root)?.len() as u64)
}

/// All files below `root`.
pub fn below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_the_same_every_time() {
        let place = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let root = place.path().join(name);
            tree(&root, 400).unwrap();
            assert_eq!(count(&root).unwrap(), 400);
            (0..400)
                .map(|number| fs::read_to_string(root.join(path(number))).unwrap())
                .collect::<Vec<_>>()
        };
        let (one, two) = (read("one"), read("two"));
        assert!(one == two);
        assert_eq!(one.iter().filter(|text| text.contains(NEEDLE)).count(), 4);
        let mean = one.iter().map(String::len).sum::<usize>() / one.len();
        assert!((4_000..16_000).contains(&mean), "{mean}");
        assert_eq!(path(12 * 5 + 1).matches('/').count(), 2);
        assert_eq!(path(5_999).matches('/').count(), 4);
    }
}
