//! Reads an expression of `--assert`.

use std::str::FromStr;

use crate::lab::assertion::{Assertion, AssertionError, Condition, RELATIONS, Term};

/// Deeper nesting is refused, so that no text can exhaust the stack.
const MAX_DEPTH: usize = 32;

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

/// Recursive descent over the text: one method for each rule of the grammar.
struct Parser<'a> {
    text: &'a str,
    /// Bytes that have been read.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Skips white space and returns the text that has not been read.
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    /// Reads `sign` if it comes next.
    fn take(&mut self, sign: &str) -> bool {
        let taken = self.rest().starts_with(sign);
        self.at += if taken { sign.len() } else { 0 };
        taken
    }

    /// Returns the error that something else was expected here.
    fn wrong(&mut self, expected: &'static str) -> AssertionError {
        let found: String = self.rest().chars().take(12).collect();
        let at = self.text[..self.at].chars().count() + 1;
        AssertionError::Syntax { at, expected, found: if found.is_empty() { "the end".to_owned() } else { found } }
    }

    fn expression(&mut self) -> Result<Condition, AssertionError> {
        let mut conditions = vec![self.and()?];
        while self.take("||") {
            conditions.push(self.and()?);
        }
        Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::Or(conditions) })
    }

    fn and(&mut self) -> Result<Condition, AssertionError> {
        let mut conditions = vec![self.not()?];
        while self.take("&&") {
            conditions.push(self.not()?);
        }
        Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::And(conditions) })
    }

    fn not(&mut self) -> Result<Condition, AssertionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(AssertionError::TooDeep);
        }
        let condition = if self.take("!") {
            Condition::Not(Box::new(self.not()?))
        } else if self.take("(") {
            let inner = self.expression()?;
            if !self.take(")") {
                return Err(self.wrong(")"));
            }
            inner
        } else {
            let left = self.term()?;
            match RELATIONS.iter().find(|(sign, _)| self.take(sign)) {
                Some((_, relation)) => Condition::Compare(left, *relation, self.term()?),
                None => Condition::Is(left),
            }
        };
        self.depth -= 1;
        Ok(condition)
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

/// Returns the letters, digits, `_`, `-` and `.` at the beginning of a text.
fn word_of(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
    &text[..end.unwrap_or(text.len())]
}

/// Returns true for names joined by points.
fn is_path(word: &str) -> bool {
    let starts = word.starts_with(|c: char| c.is_alphabetic() || c == '_');
    starts && word.split('.').all(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> AssertionError {
        text.parse::<Assertion>().expect_err("not an expression")
    }

    #[test]
    fn reports_where_an_expression_is_wrong() {
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
            let error = error(text);
            assert!(matches!(error, AssertionError::Syntax { at: found, .. } if found == at), "{text}: {error:?}");
        }
    }

    #[test]
    fn refuses_deep_nesting_before_the_stack_ends() {
        assert_eq!(error(&"(".repeat(100_000)), AssertionError::TooDeep);
        assert_eq!(error(&"!".repeat(100_000)), AssertionError::TooDeep);
        assert!(matches!(error(&"ratio(".repeat(100_000)), AssertionError::Syntax { at: 12, .. }));
    }
}
