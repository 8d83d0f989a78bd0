//! JSONata expressions, as tenants write them. The input: an expression.

use oauth_operator::oauth::expression::jsonata::Expression;

/// The maximum length that the CRD allows.
const MAX_LENGTH: usize = 4_096;

/// Parses an expression.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.is_empty() || text.chars().count() > MAX_LENGTH {
        return;
    }
    match Expression::parse(text) {
        Ok(expression) => assert_eq!(expression.text(), text),
        Err(error) => assert!(error.to_string().contains("at character"), "{error}"),
    }
}
