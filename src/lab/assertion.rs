//! The language of `--assert`: what a report must say, so that a script can stop when it does not.
//!
//! ```text
//! expression := and { "||" and }
//! and        := not { "&&" not }
//! not        := "!" not | "(" expression ")" | value [ ("<" | "<=" | ">" | ">=" | "==" | "!=") value ]
//! value      := number | "text" | true | false | null | path | "ratio" "(" path ")"
//! path       := name { "." name }
//! ```
//! A path names a value of the report: `frame.p99_us`, `allocations_per_frame.ours`, `valid`. What the report holds in
//! its lists of stages and tasks may be named without them: `encode.p50_us` is `stages.encode.p50_us`. `ratio(PATH)` is
//! that value divided by the same one of the reference report.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Why an expression cannot be read or decided. It is not the answer "no".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AssertionError {
    #[error("at character {at}: {expected} expected, '{found}' found")]
    Syntax { at: usize, expected: &'static str, found: String },
    #[error("the expression is nested too deeply")]
    TooDeep,
    #[error("the report has no {path}: {parent} has {known}")]
    Unknown { path: String, parent: String, known: String },
    #[error("{value} is {kind}, a {wanted} was expected")]
    Kind { value: String, kind: &'static str, wanted: &'static str },
    #[error("ratio({path}) needs a report to compare with (--reference)")]
    NoReference { path: String },
    #[error("ratio({path}): the reference has 0")]
    Zero { path: String },
}

/// An expression that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Compare(Term, Relation, Term),
    Is(Term),
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Number(f64),
    Text(String),
    Truth(bool),
    Null,
    Path(String),
    Ratio(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Relation {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
    Unequal,
}

const RELATIONS: [(&str, Relation); 6] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("!=", Relation::Unequal),
    ("<", Relation::Less),
    (">", Relation::Greater),
];

/// Deeper nesting is refused, so that no text can exhaust the stack.
const MAX_DEPTH: usize = 32;

/// The report that paths are looked up in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    pub report: &'a Value,
    /// Objects of the report (JSON pointers) in which a path is looked up when the report itself has no such name.
    pub shortcuts: &'a [&'a str],
    /// The other report, for `ratio`, looked up with the same shortcuts or with its own.
    pub reference: Option<(&'a Value, &'a [&'a str])>,
}

impl FromStr for Assertion {
    type Err = AssertionError;

    fn from_str(text: &str) -> Result<Assertion, AssertionError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let root = parser.expression()?;
        match parser.rest() {
            "" => Ok(Assertion { text: text.trim().to_owned(), root }),
            _ => Err(parser.wrong("&&, || or the end")),
        }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Assertion {
    /// `None` when the report satisfies it; else the comparisons that decided against it, with their values.
    ///
    /// # Errors
    /// When a path leads nowhere, values of different kinds are compared, or a ratio has nothing to compare with.
    pub fn violation(&self, scope: &Scope) -> Result<Option<String>, AssertionError> {
        let mut reasons = Vec::new();
        let holds = self.root.holds(scope, &mut reasons)?;
        Ok((!holds).then(|| reasons.join(", ")))
    }
}

impl Node {
    /// Appends a reason for each comparison that did not hold.
    fn holds(&self, scope: &Scope, reasons: &mut Vec<String>) -> Result<bool, AssertionError> {
        match self {
            // Every branch is decided, so that a wrong path is told of in any case.
            Node::Or(nodes) => {
                let (mut any, mut here) = (false, Vec::new());
                for node in nodes {
                    any |= node.holds(scope, &mut here)?;
                }
                if !any {
                    reasons.append(&mut here);
                }
                Ok(any)
            }
            Node::And(nodes) => {
                let mut all = true;
                for node in nodes {
                    all &= node.holds(scope, reasons)?;
                }
                Ok(all)
            }
            Node::Not(node) => {
                let holds = node.holds(scope, &mut Vec::new())?;
                if holds {
                    reasons.push(format!("what follows ! holds: {node}"));
                }
                Ok(!holds)
            }
            Node::Is(term) => match term.value(scope)? {
                Value::Bool(true) => Ok(true),
                Value::Bool(false) => {
                    reasons.push(format!("{term} is false"));
                    Ok(false)
                }
                other => Err(wrong_kind(term, &other, "truth value")),
            },
            Node::Compare(left, relation, right) => {
                let (a, b) = (left.value(scope)?, right.value(scope)?);
                let holds = compare(left, &a, *relation, right, &b)?;
                if !holds {
                    reasons.push(format!("{self} does not hold: {} and {}", show(&a), show(&b)));
                }
                Ok(holds)
            }
        }
    }
}

fn compare(left: &Term, a: &Value, relation: Relation, right: &Term, b: &Value) -> Result<bool, AssertionError> {
    match relation {
        Relation::Equal => Ok(equal(a, b)),
        Relation::Unequal => Ok(!equal(a, b)),
        _ => {
            let a = a.as_f64().ok_or_else(|| wrong_kind(left, a, "number"))?;
            let b = b.as_f64().ok_or_else(|| wrong_kind(right, b, "number"))?;
            Ok(match relation {
                Relation::Less => a < b,
                Relation::AtMost => a <= b,
                Relation::Greater => a > b,
                _ => a >= b,
            })
        }
    }
}

/// As numbers where both are: 0 equals 0.0.
fn equal(a: &Value, b: &Value) -> bool {
    a.as_f64().zip(b.as_f64()).map_or_else(|| a == b, |(a, b)| a == b)
}

fn show(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() != 0.0 => format!("{number:.4}"),
        _ => value.to_string(),
    }
}

fn wrong_kind(term: &Term, value: &Value, wanted: &'static str) -> AssertionError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of values",
    };
    AssertionError::Kind { value: term.to_string(), kind, wanted }
}

impl Term {
    fn value(&self, scope: &Scope) -> Result<Value, AssertionError> {
        Ok(match self {
            Term::Number(number) => Value::from(*number),
            Term::Text(text) => Value::from(text.as_str()),
            Term::Truth(truth) => Value::from(*truth),
            Term::Null => Value::Null,
            Term::Path(path) => look_up(scope.report, scope.shortcuts, path)?.clone(),
            Term::Ratio(path) => {
                let (reference, shortcuts) =
                    scope.reference.ok_or_else(|| AssertionError::NoReference { path: path.clone() })?;
                let number = |value: &Value| value.as_f64().ok_or_else(|| wrong_kind(self, value, "number"));
                let here = number(look_up(scope.report, scope.shortcuts, path)?)?;
                match number(look_up(reference, shortcuts, path)?)? {
                    0.0 => return Err(AssertionError::Zero { path: path.clone() }),
                    there => Value::from(here / there),
                }
            }
        })
    }
}

fn look_up<'a>(report: &'a Value, shortcuts: &[&str], path: &str) -> Result<&'a Value, AssertionError> {
    let first = path.split('.').next().unwrap_or_default();
    let places = std::iter::once(Some(report)).chain(shortcuts.iter().map(|pointer| report.pointer(pointer)));
    let mut here = places.flatten().find(|place| place.get(first).is_some()).unwrap_or(report);
    let mut parent = "it".to_owned();
    for name in path.split('.') {
        let Some(next) = here.get(name) else {
            let known = here.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>().join(", "));
            let known = known.unwrap_or_else(|| "no names below it".to_owned());
            return Err(AssertionError::Unknown { path: path.to_owned(), parent, known });
        };
        (here, parent) = (next, name.to_owned());
    }
    Ok(here)
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Term::Number(number) => write!(f, "{number}"),
            Term::Text(text) => write!(f, "\"{text}\""),
            Term::Truth(truth) => write!(f, "{truth}"),
            Term::Null => f.write_str("null"),
            Term::Path(path) => f.write_str(path),
            Term::Ratio(path) => write!(f, "ratio({path})"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |f: &mut fmt::Formatter, nodes: &[Node], between: &str| {
            let nodes: Vec<String> = nodes.iter().map(Node::to_string).collect();
            write!(f, "({})", nodes.join(between))
        };
        match self {
            Node::Or(nodes) => list(f, nodes, " || "),
            Node::And(nodes) => list(f, nodes, " && "),
            Node::Not(node) => write!(f, "!{node}"),
            Node::Is(term) => write!(f, "{term}"),
            Node::Compare(left, relation, right) => {
                let sign = RELATIONS.iter().find(|(_, known)| known == relation).map_or("?", |(sign, _)| sign);
                write!(f, "{left} {sign} {right}")
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// What has not been read, without leading space.
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    fn take(&mut self, sign: &str) -> bool {
        let taken = self.rest().starts_with(sign);
        self.at += if taken { sign.len() } else { 0 };
        taken
    }

    fn wrong(&mut self, expected: &'static str) -> AssertionError {
        let found: String = self.rest().chars().take(12).collect();
        let at = self.text[..self.at].chars().count() + 1;
        AssertionError::Syntax { at, expected, found: if found.is_empty() { "the end".to_owned() } else { found } }
    }

    fn expression(&mut self) -> Result<Node, AssertionError> {
        let mut nodes = vec![self.and()?];
        while self.take("||") {
            nodes.push(self.and()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
    }

    fn and(&mut self) -> Result<Node, AssertionError> {
        let mut nodes = vec![self.not()?];
        while self.take("&&") {
            nodes.push(self.not()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
    }

    fn not(&mut self) -> Result<Node, AssertionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(AssertionError::TooDeep);
        }
        let node = if self.take("!") {
            Node::Not(Box::new(self.not()?))
        } else if self.take("(") {
            let inner = self.expression()?;
            if !self.take(")") {
                return Err(self.wrong(")"));
            }
            inner
        } else {
            let left = self.term()?;
            match RELATIONS.iter().find(|(sign, _)| self.take(sign)) {
                Some((_, relation)) => Node::Compare(left, *relation, self.term()?),
                None => Node::Is(left),
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn term(&mut self) -> Result<Term, AssertionError> {
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix('"') {
            let Some(end) = quoted.find('"') else { return Err(self.wrong("a text that ends with \"")) };
            self.at += end + 2;
            return Ok(Term::Text(quoted[..end].to_owned()));
        }
        let word = word_of(rest);
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            let number: Option<f64> = word.parse().ok().filter(|number: &f64| number.is_finite());
            let number = number.ok_or_else(|| self.wrong("a number"))?;
            self.at += word.len();
            return Ok(Term::Number(number));
        }
        if !is_path(word) {
            return Err(self.wrong("a number, a text or a name of the report"));
        }
        self.at += word.len();
        Ok(match word {
            "true" => Term::Truth(true),
            "false" => Term::Truth(false),
            "null" => Term::Null,
            "ratio" => {
                if !self.take("(") {
                    return Err(self.wrong("( after ratio"));
                }
                let path = word_of(self.rest());
                if !is_path(path) {
                    return Err(self.wrong("a name of the report"));
                }
                self.at += path.len();
                if !self.take(")") {
                    return Err(self.wrong(")"));
                }
                Term::Ratio(path.to_owned())
            }
            _ => Term::Path(word.to_owned()),
        })
    }
}

/// Letters, digits, `_`, `-` and `.` at the beginning of a text.
fn word_of(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
    &text[..end.unwrap_or(text.len())]
}

fn is_path(word: &str) -> bool {
    let starts = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
    starts && word.split('.').all(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decide(text: &str) -> Result<Option<String>, AssertionError> {
        let report = json!({
            "frame": {"p99_us": 7990}, "allocations_per_frame": {"ours": 0}, "valid": true, "invalid_because": null,
            "stages": {"encode": {"p50_us": 1200}, "decode_age": {"p50_us": 100}}, "machine": {"governor": "performance"},
        });
        let reference = json!({"stages": {"encode": {"p50_us": 1000}, "decode_age": {"p50_us": 0}}});
        let shortcuts = ["/stages"];
        let scope = Scope { report: &report, shortcuts: &shortcuts, reference: Some((&reference, &shortcuts)) };
        text.parse::<Assertion>()?.violation(&scope)
    }

    #[test]
    fn what_holds_holds() {
        for text in [
            "frame.p99_us < 8000 && allocations_per_frame.ours == 0",
            "valid",
            "ratio(encode.p50_us)<=1.2",
            "stages.encode.p50_us == 1200.0",
            "!(frame.p99_us > 8000) && !false",
            "frame.p99_us < 1 || encode.p50_us >= 1200",
            "invalid_because == null && machine.governor != \"powersave\"",
            "-1 < 0 && 1e3 > 999.5",
        ] {
            assert_eq!(decide(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_does_not_hold_says_why() {
        let why = |text: &str| decide(text).expect("decidable").expect("does not hold");
        assert_eq!(why("frame.p99_us < 7000 && valid"), "frame.p99_us < 7000 does not hold: 7990 and 7000.0");
        assert_eq!(why("!valid"), "what follows ! holds: valid");
        assert!(why("ratio(encode.p50_us) < 1.1").contains("1.2"));
        assert_eq!(why("frame.p99_us < 1 || encode.p50_us < 1").matches("does not hold").count(), 2);
        // `and` binds closer than `or`.
        assert_eq!(decide("true || false && false"), Ok(None));
        assert!(why("(true || false) && false").contains("false is false"));
    }

    #[test]
    fn mistakes_have_names() {
        let error = |text: &str| decide(text).expect_err("cannot be decided");
        for (text, at) in [
            ("", 1),
            ("frame.p99_us <", 15),
            ("(valid", 7),
            ("valid valid", 7),
            ("a..b", 1),
            ("\"x", 1),
            ("1.2.3 < 2", 1),
            ("ratio 3", 7),
            ("ä & b", 3),
        ] {
            assert!(
                matches!(error(text), AssertionError::Syntax { at: found, .. } if found == at),
                "{text}: {:?}",
                error(text)
            );
        }
        assert!(
            matches!(error("frame.p98_us < 1"), AssertionError::Unknown { parent, known, .. } if parent == "frame" && known == "p99_us")
        );
        assert!(matches!(error("nothing"), AssertionError::Unknown { known, .. } if known.contains("stages")));
        assert!(matches!(error("invalid_because < 1"), AssertionError::Kind { kind: "null", .. }));
        assert!(matches!(error("frame.p99_us"), AssertionError::Kind { wanted: "truth value", .. }));
        assert!(matches!(error("ratio(decode_age.p50_us) < 1"), AssertionError::Zero { .. }));
        assert_eq!(error(&"(".repeat(100_000)), AssertionError::TooDeep);
        assert_eq!(error(&"!".repeat(100_000)), AssertionError::TooDeep);
        assert!(matches!(error(&"ratio(".repeat(100_000)), AssertionError::Syntax { at: 12, .. }));
        // A branch that does not decide is read all the same.
        assert!(matches!(error("valid || nothing"), AssertionError::Unknown { .. }));
        let scope = Scope { report: &json!({"a": 1}), shortcuts: &[], reference: None };
        let alone = "ratio(a) < 1".parse::<Assertion>().expect("is well formed").violation(&scope);
        assert!(matches!(alone, Err(AssertionError::NoReference { .. })));
    }
}
