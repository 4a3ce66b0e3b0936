//! Words in braces that stand for something else in command lines.

use std::ffi::{OsStr, OsString};

/// Values by name.
pub type Values<'a> = [(&'a str, &'a OsStr)];

/// `argument` with each `{name}` replaced; names that have no value stay as they are.
pub fn replace(argument: &str, values: &Values<'_>) -> OsString {
    let mut out = OsString::new();
    for piece in Pieces(argument) {
        match piece {
            Piece::Text(text) => out.push(text),
            Piece::Name(name, text) => {
                let value = values.iter().find(|(known, _)| *known == name);
                out.push(value.map_or(OsStr::new(text), |(_, value)| value));
            }
        }
    }
    out
}

/// The names in `argument`.
pub fn names(argument: &str) -> impl Iterator<Item = &str> {
    Pieces(argument).filter_map(|piece| match piece {
        Piece::Name(name, _) => Some(name),
        Piece::Text(_) => None,
    })
}

enum Piece<'a> {
    Text(&'a str),
    /// Without and with the braces.
    Name(&'a str, &'a str),
}

struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        if let Some(inner) = text.strip_prefix('{')
            && let Some((name, rest)) = inner.split_once('}')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase())
        {
            self.0 = rest;
            return Some(Piece::Name(name, &text[..name.len() + 2]));
        }
        // A brace that begins no name is text, up to the next one.
        let first = text.chars().next().map_or(0, char::len_utf8);
        let end = text[first..]
            .find('{')
            .map_or(text.len(), |index| index + first);
        self.0 = &text[end..];
        Some(Piece::Text(&text[..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_wherever_they_stand() {
        let values = [
            ("source", OsStr::new("/srv/{mountpoint}")),
            ("mountpoint", OsStr::new("/mnt")),
        ];
        assert_eq!(replace("{source}", &values), "/srv/{mountpoint}");
        assert_eq!(
            replace("dir={source}:{mountpoint}", &values),
            "dir=/srv/{mountpoint}:/mnt"
        );
        assert_eq!(replace("{{.Format}} {} {x", &values), "{{.Format}} {} {x");
        assert_eq!(replace("{other}", &values), "{other}");
        assert_eq!(
            replace("\u{e4}{mountpoint}\u{e4}{", &values),
            "\u{e4}/mnt\u{e4}{"
        );
        assert_eq!(replace("", &values), "");
    }

    #[test]
    fn names_are_listed() {
        let found: Vec<&str> = names("a{one}{{two}}{.x}{three").collect();
        assert_eq!(found, ["one", "two"]);
    }
}
