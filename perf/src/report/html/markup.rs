//! Elements of HTML and SVG. Everything that is written is escaped and well-formed, also as XML.

use std::fmt::{self, Write};

/// An element.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Element(Element),
    Text(String),
    Raw(&'static str),
}

/// An element without attributes and content.
pub fn el(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        children: Vec::new(),
    }
}

impl Element {
    /// Adds an attribute.
    pub fn attr(mut self, name: &'static str, value: impl fmt::Display) -> Element {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Adds a coordinate, with one decimal.
    pub fn at(self, name: &'static str, value: f64) -> Element {
        self.attr(name, coordinate(value))
    }

    /// Sets the class.
    pub fn class(self, class: impl fmt::Display) -> Element {
        self.attr("class", class)
    }

    /// Adds text.
    pub fn text(mut self, text: impl Into<String>) -> Element {
        self.children.push(Node::Text(text.into()));
        self
    }

    /// Adds text of this program that is not to be escaped: a style sheet.
    pub fn raw(mut self, text: &'static str) -> Element {
        self.children.push(Node::Raw(text));
        self
    }

    /// Adds an element.
    pub fn child(mut self, child: Element) -> Element {
        self.children.push(Node::Element(child));
        self
    }

    /// Adds elements.
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.children
            .extend(children.into_iter().map(Node::Element));
        self
    }

    /// Whether it has no content.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }
}

/// A coordinate with one decimal, without what says nothing.
pub fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Elements that never have content.
const VOID: [&str; 9] = [
    "meta", "br", "hr", "col", "line", "rect", "path", "circle", "polyline",
];

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"")?;
            escape(value, f)?;
            f.write_char('"')?;
        }
        if self.children.is_empty() && VOID.contains(&self.name) {
            return f.write_str("/>");
        }
        f.write_char('>')?;
        for child in &self.children {
            match child {
                Node::Element(element) => element.fmt(f)?,
                Node::Text(text) => escape(text, f)?,
                Node::Raw(text) => f.write_str(text)?,
            }
        }
        write!(f, "</{}>", self.name)?;
        if matches!(
            self.name,
            "tr" | "svg" | "figure" | "section" | "table" | "g" | "p" | "details"
        ) {
            f.write_char('\n')?;
        }
        Ok(())
    }
}

/// Also replaces what XML does not allow at all.
fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for character in text.chars() {
        match character {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\n' | '\t' => f.write_char(character)?,
            '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
            control if control.is_control() => f.write_char('\u{fffd}')?,
            other => f.write_char(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_stays_text() {
        let element = el("p")
            .attr("title", "\"><script>")
            .text("a & b <i>\u{1b}[0m")
            .child(el("br"))
            .child(el("td"));
        assert_eq!(
            element.to_string(),
            "<p title=\"&quot;&gt;&lt;script&gt;\">a &amp; b &lt;i&gt;\u{fffd}[0m<br/><td></td></p>\n"
        );
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!(coordinate(3.04), "3");
        assert_eq!(coordinate(-0.01), "0");
        assert_eq!(coordinate(12.36), "12.4");
    }
}
