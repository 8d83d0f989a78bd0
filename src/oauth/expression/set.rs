//! The expressions of one integration.

use std::collections::BTreeMap;

use crate::oauth::expression::data;
use crate::oauth::expression::jsonata::Expression;

/// The beginning of the field of an expression for the target.
pub const DATA_FIELD: &str = "target.data.";

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
    /// Paths in the response whose values are stored as they are, by their key in the target.
    pub response_data: BTreeMap<String, Expression>,
    /// Expressions over the tokens, and possibly over the response, by their key in the target. They are evaluated after
    /// the response was read.
    pub computed_data: BTreeMap<String, Expression>,
}

impl ResponseMapping {
    /// All expressions that may be evaluated on the response itself; `error` is only looked up.
    pub fn all(&self) -> impl Iterator<Item = &Expression> {
        let Self { access_token, refresh_token, response_data, .. } = self;
        [access_token, refresh_token].into_iter().chain(self.public()).chain(response_data.values())
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

    /// All expressions that may be evaluated on the response itself, by their field in `spec`.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, &Expression)> {
        let Self { access_token, refresh_token, expires_in, response_data, .. } = self;
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
            .map(|(field, expression)| (format!("response.{field}"), expression))
            .chain(response_data.iter().map(|(key, expression)| (data_field(key), expression)))
            .collect()
    }

    /// Whether one of them may use a variable such as `$headers`.
    #[must_use]
    pub fn use_bindings(&self) -> bool {
        self.all().chain(self.computed_data.values()).any(|expression| expression.text().contains('$'))
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

    /// Whether all expressions on the response itself are paths.
    #[must_use]
    pub fn are_simple_paths(&self) -> bool {
        self.all().all(Expression::is_path)
    }

    /// The expressions for the target that a worker evaluates.
    pub fn evaluated_data(&self) -> impl Iterator<Item = (&String, &Expression)> {
        self.computed_data.iter().filter(|(_, expression)| !data::is_known_path(expression))
    }
}

/// The field of an expression for the target.
#[must_use]
pub fn data_field(key: &str) -> String {
    format!("{DATA_FIELD}{key}")
}
