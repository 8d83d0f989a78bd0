//! The expressions of one integration.

use std::collections::BTreeMap;

use crate::oauth::expression::jsonata::Expression;

/// The location of the values in the response.
#[derive(Clone, Debug)]
pub struct ResponseMapping {
    /// The access token.
    pub access_token: Expression,
    /// The refresh token.
    pub refresh_token: Expression,
    /// The lifetime of the access token in seconds.
    pub expires_in: Expression,
    /// The expiry of the access token.
    pub expires_at: Option<Expression>,
    /// Whether the response is a success.
    pub success: Option<Expression>,
    /// Extra values, by their key in the target.
    pub extra: BTreeMap<String, Expression>,
}

impl ResponseMapping {
    /// All expressions.
    pub fn all(&self) -> impl Iterator<Item = &Expression> {
        let Self { access_token, refresh_token, expires_in, expires_at, success, extra } = self;
        [access_token, refresh_token, expires_in].into_iter().chain(expires_at).chain(success).chain(extra.values())
    }

    /// All expressions, by their field in `spec.response`.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, &Expression)> {
        let Self { access_token, refresh_token, expires_in, expires_at, success, extra } = self;
        let always = [("accessToken", access_token), ("refreshToken", refresh_token), ("expiresIn", expires_in)];
        let sometimes = [("expiresAt", expires_at), ("success", success)];
        always
            .into_iter()
            .chain(sometimes.into_iter().filter_map(|(field, expression)| Some((field, expression.as_ref()?))))
            .map(|(field, expression)| (field.to_owned(), expression))
            .chain(extra.iter().map(|(key, expression)| (format!("extra.{key}"), expression)))
            .collect()
    }

    /// Whether one of them may use a variable such as `$headers`.
    #[must_use]
    pub fn use_bindings(&self) -> bool {
        self.all().any(|expression| expression.text().contains('$'))
    }

    /// Whether the expressions for the lifetime are paths.
    #[must_use]
    pub fn times_are_paths(&self) -> bool {
        [&self.expires_in].into_iter().chain(&self.expires_at).all(Expression::is_path)
    }

    /// Whether all of them are paths.
    #[must_use]
    pub fn are_simple_paths(&self) -> bool {
        self.all().all(Expression::is_path)
    }
}
