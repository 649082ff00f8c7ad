//! Arithmetic over series: `+ - * /`, parentheses, numbers and the letters `A`, `B`, … A division by zero is a missing value, and so
//! is all that is computed from a missing value.

use crate::query::error::QueryError;

/// Deepest nesting; the parser calls itself once a level.
const MAX_DEPTH: u32 = 32;
const MAX_LENGTH: usize = 500;

/// A checked formula.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Formula {
    Number(f64),
    Series(usize),
    Binary(char, Box<Self>, Box<Self>),
}

struct Parser<'a> {
    rest: &'a str,
    series: usize,
}

fn invalid(message: &str) -> QueryError {
    QueryError::invalid("invalid_formula", message)
}

impl Formula {
    /// Reads a formula over `series` series.
    ///
    /// # Errors
    /// 400 `invalid_formula`.
    pub(crate) fn parse(text: &str, series: usize) -> Result<Self, QueryError> {
        if text.len() > MAX_LENGTH {
            return Err(invalid("the formula is too long"));
        }
        let mut parser = Parser { rest: text, series };
        let formula = parser.sum(0)?;
        if parser.peek().is_some() { Err(invalid("the formula has something after its end")) } else { Ok(formula) }
    }

    /// The first of two series by the other.
    pub(super) fn ratio() -> Self {
        Self::Binary('/', Box::new(Self::Series(0)), Box::new(Self::Series(1)))
    }

    /// The value where the series have `values`.
    pub(crate) fn value(&self, values: &[Option<f64>]) -> Option<f64> {
        let result = match self {
            Self::Number(number) => *number,
            Self::Series(index) => (*values.get(*index)?)?,
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.value(values)?, right.value(values)?);
                match operator {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left * right,
                    _ => left / right,
                }
            }
        };
        result.is_finite().then_some(result)
    }
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, operators: [char; 2]) -> Option<char> {
        let found = self.peek().filter(|next| operators.contains(next))?;
        self.rest = self.rest.strip_prefix(found)?;
        Some(found)
    }

    fn sum(&mut self, depth: u32) -> Result<Formula, QueryError> {
        let mut left = self.product(depth)?;
        while let Some(operator) = self.take(['+', '-']) {
            left = Formula::Binary(operator, Box::new(left), Box::new(self.product(depth)?));
        }
        Ok(left)
    }

    fn product(&mut self, depth: u32) -> Result<Formula, QueryError> {
        let mut left = self.atom(depth)?;
        while let Some(operator) = self.take(['*', '/']) {
            left = Formula::Binary(operator, Box::new(left), Box::new(self.atom(depth)?));
        }
        Ok(left)
    }

    fn atom(&mut self, depth: u32) -> Result<Formula, QueryError> {
        if depth > MAX_DEPTH {
            return Err(invalid("the formula is nested too deeply"));
        }
        if self.take(['-', '-']).is_some() {
            return Ok(Formula::Binary('-', Box::new(Formula::Number(0.0)), Box::new(self.atom(depth + 1)?)));
        }
        if self.take(['(', '(']).is_some() {
            let inner = self.sum(depth + 1)?;
            return if self.take([')', ')']).is_some() { Ok(inner) } else { Err(invalid("the formula misses a `)`")) };
        }
        match self.peek() {
            Some(letter @ 'A'..='Z') => {
                let index = usize::from(letter as u8 - b'A');
                if index >= self.series {
                    return Err(invalid(&format!("the formula names series `{letter}`, which is not there")));
                }
                self.rest = self.rest.get(1..).unwrap_or("");
                Ok(Formula::Series(index))
            }
            Some('0'..='9' | '.') => {
                let end = self.rest.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(self.rest.len());
                let (digits, rest) = self.rest.split_at(end);
                self.rest = rest;
                digits.parse().map(Formula::Number).map_err(|_| invalid("the formula has a number that cannot be read"))
            }
            _ => Err(invalid("the formula needs a number, a series letter or `(`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_computed_as_in_arithmetic() {
        let values = [Some(6.0), Some(3.0), None];
        for (text, expected) in [
            ("A/B", Some(2.0)),
            ("A + B * 2", Some(12.0)),
            ("(A+B)*2", Some(18.0)),
            ("A-B-1", Some(2.0)),
            ("A/B/2", Some(1.0)),
            ("-A + .5", Some(-5.5)),
            ("100*A/(A+B)", Some(600.0 / 9.0)),
            ("A/(B-3)", None),
            ("A + C", None),
        ] {
            assert_eq!(Formula::parse(text, 3).unwrap().value(&values), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_formula_is_refused() {
        let deep = "(".repeat(40) + "A";
        let long = "A+".repeat(300) + "A";
        for text in ["", "A+", "A B", "A/D", "(A", "A)", "1.2.3", "a/b", "A^2", "é", deep.as_str(), long.as_str()] {
            assert_eq!(Formula::parse(text, 3).unwrap_err().code, "invalid_formula", "{text}");
        }
    }
}
