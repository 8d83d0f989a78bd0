//! The expressions for more keys of the target (`target.data`). Pure.

#![deny(clippy::disallowed_methods)]

use crate::oauth::expression::jsonata::Expression;

/// The members of the input other than the response.
const KNOWN: [&str; 9] = [
    "access_token",
    "refresh_token",
    "token_type",
    "scope",
    "issued_at",
    "expires_at",
    "previous_access_token",
    "integration.name",
    "integration.namespace",
];
/// The beginning of the path of a value of the response.
pub const RESPONSE: &str = "response.";

/// The path within the response, if an expression is nothing else.
#[must_use]
pub fn response_path(text: &str) -> Option<&str> {
    text.strip_prefix(RESPONSE)
}

/// Whether an expression is the path of a member of the input that is known without a worker.
#[must_use]
pub fn is_known_path(expression: &Expression) -> bool {
    KNOWN.contains(&expression.text())
}

/// Why a path leads to nothing: its first name is not a member of the input.
#[must_use]
pub fn unknown_name(expression: &Expression) -> Option<&str> {
    let first = expression.names().next().filter(|_| expression.is_path())?;
    let is_known = first == "response" || KNOWN.iter().any(|path| path.split('.').next() == Some(first));
    (!is_known).then_some(first)
}

/// Whether the result may depend on the response, which is known only while a token is being obtained. Such a result is
/// kept until the next response, so a wrong `true` costs a token request after a change, and nothing else.
#[must_use]
pub fn needs_response(expression: &Expression) -> bool {
    let text = expression.text();
    if expression.is_path() {
        return text == "response" || response_path(text).is_some();
    }
    // `*`, `**`, `$`, `$$` and `%` reach all members.
    let reaches_all = || text.contains(['*', '%']) || text.contains("$$") || has_bare_dollar(text);
    ["response", "$headers", "$body", "$status", "$eval"].iter().any(|name| text.contains(name)) || reaches_all()
}

/// Whether an expression names the token before the current one.
#[must_use]
pub fn needs_previous(expression: &Expression) -> bool {
    expression.text().contains("previous_access_token")
}

/// Whether an expression names the refresh token, as it is stored or in the response.
#[must_use]
pub fn names_refresh_token(text: &str) -> bool {
    const NAME: &str = "refresh_token";
    let is_part = |next: char| next.is_ascii_alphanumeric() || next == '_';
    text.match_indices(NAME).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + NAME.len()..].chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Whether a text contains `$`, which is the input, other than as the beginning of a name.
fn has_bare_dollar(text: &str) -> bool {
    let follows = |at: usize| text[at + 1..].chars().next();
    text.match_indices('$').any(|(at, _)| !follows(at).is_some_and(|next| next.is_ascii_alphabetic() || next == '_'))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn expression(text: &str) -> Expression {
        Expression::unchecked(text).expect("an expression")
    }

    #[test]
    fn expressions_that_reach_the_response_need_it() {
        for text in ["response.a.b", "response", "$string($)", "$$.access_token", "*", "$headers.x", "a & response.b"] {
            assert!(needs_response(&expression(text)), "{text}");
        }
        for text in ["access_token", "'Bearer ' & access_token", "$base64encode(scope)", "$map([1], function($v) {$v})"]
        {
            assert!(!needs_response(&expression(text)), "{text}");
        }
    }

    #[test]
    fn the_name_of_the_refresh_token_is_found_as_a_word() {
        for text in ["refresh_token", "response.refresh_token", "access_token & refresh_token", "'x' & $.refresh_token"]
        {
            assert!(names_refresh_token(text), "{text}");
        }
        for text in ["access_token", "response.refresh_token_expires_in", "old_refresh_token"] {
            assert!(!names_refresh_token(text), "{text}");
        }
    }

    #[test]
    fn a_path_outside_of_the_input_is_named() {
        assert_eq!(unknown_name(&expression("instance_url")), Some("instance_url"));
        assert_eq!(unknown_name(&expression("data.token")), Some("data"));
        for text in ["response.data", "integration.name", "scope", "instance_url & ''"] {
            assert_eq!(unknown_name(&expression(text)), None, "{text}");
        }
    }
}
