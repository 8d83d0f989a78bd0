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
    /// The lifetime of the refresh token in seconds.
    pub refresh_token_expires_in: Option<Expression>,
    /// The expiry of the refresh token.
    pub refresh_token_expires_at: Option<Expression>,
    /// Whether the response is a success.
    pub success: Option<Expression>,
    /// Whether a rejection means that the refresh token is no longer valid.
    pub invalid_grant: Option<Expression>,
    /// The server's own message about an error: a path.
    pub error: Option<Expression>,
    /// Extra values, by their key in the target.
    pub extra: BTreeMap<String, Expression>,
}

impl ResponseMapping {
    /// All expressions that may be evaluated; `error` is only looked up.
    pub fn all(&self) -> impl Iterator<Item = &Expression> {
        let Self { access_token, refresh_token, extra, .. } = self;
        [access_token, refresh_token].into_iter().chain(self.public()).chain(extra.values())
    }

    /// The expressions for public values, which see the response without possible secrets.
    pub fn public(&self) -> impl Iterator<Item = &Expression> {
        std::iter::once(&self.expires_in)
            .chain(&self.expires_at)
            .chain(&self.refresh_token_expires_in)
            .chain(&self.refresh_token_expires_at)
            .chain(&self.success)
            .chain(&self.invalid_grant)
    }

    /// The expressions that are needed for a response that is not a success.
    pub fn of_failure(&self) -> impl Iterator<Item = &Expression> {
        self.success.iter().chain(&self.invalid_grant)
    }

    /// All expressions, by their field in `spec.response`.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, &Expression)> {
        let Self { access_token, refresh_token, expires_in, extra, .. } = self;
        let always = [("accessToken", access_token), ("refreshToken", refresh_token), ("expiresIn", expires_in)];
        let sometimes = [
            ("expiresAt", &self.expires_at),
            ("refreshTokenExpiresIn", &self.refresh_token_expires_in),
            ("refreshTokenExpiresAt", &self.refresh_token_expires_at),
            ("success", &self.success),
            ("invalidGrant", &self.invalid_grant),
            ("error", &self.error),
        ];
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

    /// Whether the expressions for the lifetime of the access token are paths.
    #[must_use]
    pub fn times_are_paths(&self) -> bool {
        [&self.expires_in].into_iter().chain(&self.expires_at).all(Expression::is_path)
    }

    /// Whether the expressions for the lifetime of the refresh token are paths.
    #[must_use]
    pub fn refresh_token_times_are_paths(&self) -> bool {
        self.refresh_token_expires_in.iter().chain(&self.refresh_token_expires_at).all(Expression::is_path)
    }

    /// Whether all of them are paths.
    #[must_use]
    pub fn are_simple_paths(&self) -> bool {
        self.all().all(Expression::is_path)
    }
}
