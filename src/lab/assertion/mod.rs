//! Assertions: the expressions of `--assert`, which a report must satisfy, so that a script can stop when it does not.
//!
//! ```text
//! expression := and { "||" and }
//! and        := not { "&&" not }
//! not        := "!" not | "(" expression ")" | value [ ("<" | "<=" | ">" | ">=" | "==" | "!=") value ]
//! value      := number | "text" | true | false | null | path | "ratio" "(" path ")"
//! path       := name { "." name }
//! ```
//! A path names a value of the report: `frame.p99_us`, `allocations_per_frame.ours`, `valid`. Values in the objects of
//! [`Scope::shortcuts`] may be named without them: `encode.p50_us` is `stages.encode.p50_us`. `ratio(PATH)` is that value
//! divided by the same one of the reference report.

mod parse;

use std::fmt;

use serde_json::Value;

/// The reason why an expression cannot be read or decided. An expression that does not hold is no error.
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

/// An expression, read and ready to be decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    text: String,
    root: Condition,
}

/// A part of an expression with a truth value.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Or(Vec<Condition>),
    And(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Term, Relation, Term),
    Is(Term),
}

/// One side of a comparison.
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

/// The reports that paths are looked up in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The report that is judged.
    pub report: &'a Value,
    /// JSON pointers of objects in which a path is looked up if the report itself has no such name.
    pub shortcuts: &'a [&'a str],
    /// The other report, for `ratio`, looked up with the same shortcuts or with its own.
    pub reference: Option<(&'a Value, &'a [&'a str])>,
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Assertion {
    /// Returns `None` if the report satisfies the expression, else the comparisons that decided against it with their values.
    ///
    /// # Errors
    /// A path that the report does not have, a comparison of different kinds, or a ratio without a reference.
    pub fn violation(&self, scope: &Scope) -> Result<Option<String>, AssertionError> {
        let mut reasons = Vec::new();
        let holds = self.root.holds(scope, &mut reasons)?;
        Ok((!holds).then(|| reasons.join(", ")))
    }
}

impl Condition {
    /// Decides the condition, and appends a reason for each comparison that does not hold.
    fn holds(&self, scope: &Scope, reasons: &mut Vec<String>) -> Result<bool, AssertionError> {
        match self {
            // Every branch is decided, so that a wrong path is reported in any case.
            Condition::Or(conditions) => {
                let (mut any, mut here) = (false, Vec::new());
                for condition in conditions {
                    any |= condition.holds(scope, &mut here)?;
                }
                if !any {
                    reasons.append(&mut here);
                }
                Ok(any)
            }
            Condition::And(conditions) => {
                let mut all = true;
                for condition in conditions {
                    all &= condition.holds(scope, reasons)?;
                }
                Ok(all)
            }
            Condition::Not(condition) => {
                let holds = condition.holds(scope, &mut Vec::new())?;
                if holds {
                    reasons.push(format!("what follows ! holds: {condition}"));
                }
                Ok(!holds)
            }
            Condition::Is(term) => match term.value(scope)? {
                Value::Bool(true) => Ok(true),
                Value::Bool(false) => {
                    reasons.push(format!("{term} is false"));
                    Ok(false)
                }
                other => Err(wrong_kind(term, &other, "truth value")),
            },
            Condition::Compare(left, relation, right) => {
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

/// Compares as numbers if both are: 0 equals 0.0.
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

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |f: &mut fmt::Formatter, conditions: &[Condition], between: &str| {
            let conditions: Vec<String> = conditions.iter().map(Condition::to_string).collect();
            write!(f, "({})", conditions.join(between))
        };
        match self {
            Condition::Or(conditions) => list(f, conditions, " || "),
            Condition::And(conditions) => list(f, conditions, " && "),
            Condition::Not(condition) => write!(f, "!{condition}"),
            Condition::Is(term) => write!(f, "{term}"),
            Condition::Compare(left, relation, right) => {
                let sign = RELATIONS.iter().find(|(_, known)| known == relation).map_or("?", |(sign, _)| sign);
                write!(f, "{left} {sign} {right}")
            }
        }
    }
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
    fn decides_every_operator_and_kind_of_value() {
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
    fn reports_the_comparisons_that_do_not_hold() {
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
    fn reports_wrong_paths_kinds_and_ratios() {
        let error = |text: &str| decide(text).expect_err("cannot be decided");
        assert!(
            matches!(error("frame.p98_us < 1"), AssertionError::Unknown { parent, known, .. } if parent == "frame" && known == "p99_us")
        );
        assert!(matches!(error("nothing"), AssertionError::Unknown { known, .. } if known.contains("stages")));
        assert!(matches!(error("invalid_because < 1"), AssertionError::Kind { kind: "null", .. }));
        assert!(matches!(error("frame.p99_us"), AssertionError::Kind { wanted: "truth value", .. }));
        assert!(matches!(error("ratio(decode_age.p50_us) < 1"), AssertionError::Zero { .. }));
        // A branch that does not decide is looked up all the same.
        assert!(matches!(error("valid || nothing"), AssertionError::Unknown { .. }));
        let scope = Scope { report: &json!({"a": 1}), shortcuts: &[], reference: None };
        let alone = "ratio(a) < 1".parse::<Assertion>().expect("is well formed").violation(&scope);
        assert!(matches!(alone, Err(AssertionError::NoReference { .. })));
    }
}
