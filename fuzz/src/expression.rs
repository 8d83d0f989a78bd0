//! Expressions, which are parsed where everybody's tokens are. The input: an expression.

use oauth_operator::oauth::Expression;

/// The CRD's own bound.
const LONGEST: usize = 4_096;

/// Parses an expression.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.is_empty() || text.chars().count() > LONGEST {
        return;
    }
    match Expression::parse(text) {
        Ok(expression) => assert_eq!(expression.text(), text),
        Err(error) => assert!(error.contains("at character"), "{error}"),
    }
}
