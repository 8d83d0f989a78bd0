//! The request body that an expression of the spec builds (`request.body`).
//!
//! The author of a spec is not necessarily allowed to read the credentials, but can see whether a request succeeds. An
//! expression that compares or cuts a secret would reveal it, one request after the other. It therefore never sees
//! one: while it is evaluated, each text is a placeholder, and the texts are inserted into its result. This includes
//! texts of the spec: if only secrets were replaced, a text that equals a secret would show it.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::api::grant::GrantType;
use crate::api::reason::Reason;
use crate::api::request::Format;
use crate::oauth::body;
use crate::oauth::body::{JsonTypes, Parameter};
use crate::oauth::error::{Advice, RequestError};
use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::protocol::{EvaluationRequest, EvaluationResult, Task};
use crate::oauth::expression::value::Value;

/// The maximum number of texts that are placed. A limit of the size would reveal how long they are; without them, the result
/// has at most [`MAX_VALUES`](crate::oauth::expression::worker::MAX_VALUES).
const MAX_PLACED: usize = 16;
/// The number of characters of the random part of placeholders, by which a changed one is recognized.
const RECOGNIZED: usize = 8;
/// The number of digits of the index in a placeholder.
const INDEX_DIGITS: usize = 4;

/// A body, and the texts that were placed in it.
#[derive(Debug)]
pub struct CustomBody {
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// The texts, for redaction.
    pub placed: Vec<SecretString>,
}

/// The secrets of one request, and their placeholders.
#[derive(Debug)]
pub struct Placeholders {
    /// Random, so that neither the spec nor a secret can contain it.
    random: String,
    secrets: Vec<SecretString>,
}

impl Placeholders {
    /// Without secrets so far; `random` must be different for each request.
    #[must_use]
    pub const fn new(random: String) -> Self {
        Self { random, secrets: Vec::new() }
    }

    /// The evaluation of an expression on the parameters of a request and on the credentials. Only the grant, and
    /// parameters of the spec that are JSON, are visible to the expression.
    #[must_use]
    pub fn evaluation(
        &mut self,
        expression: &str,
        parameters: &[Parameter],
        types: JsonTypes<'_>,
        credentials: &BTreeMap<String, SecretString>,
        grant: GrantType,
    ) -> EvaluationRequest {
        let parameters: Vec<Parameter> = parameters
            .iter()
            .map(|(name, value)| {
                let is_json = types.json.contains(&name.as_str());
                (name.clone(), if is_json { value.clone() } else { self.placeholder(value).into() })
            })
            .collect();
        let members = body::encode(Format::Json, &parameters, types);
        let credentials: BTreeMap<&str, String> =
            credentials.iter().map(|(key, value)| (key.as_str(), self.placeholder(value))).collect();
        EvaluationRequest {
            task: Task::Build,
            expressions: vec![expression.to_owned()],
            public: 0,
            status: 0,
            headers: vec![
                ("credentials".to_owned(), serde_json::json!(credentials).to_string()),
                ("grant".to_owned(), serde_json::json!(grant.as_str()).to_string()),
            ],
            body: String::from_utf8_lossy(&members).into_owned(),
            input: None,
        }
    }

    fn placeholder(&mut self, secret: &SecretString) -> String {
        let index = self.secrets.len();
        self.secrets.push(secret.clone());
        format!("{}{index:0INDEX_DIGITS$}", self.prefix())
    }

    fn prefix(&self) -> String {
        format!("secret-{}-", self.random)
    }

    /// The body, from the result of the evaluation.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] without secrets if the result cannot be sent.
    pub fn body(&self, results: Result<Vec<EvaluationResult>, ExpressionError>) -> Result<CustomBody, RequestError> {
        let value = results.and_then(|results| results.into_iter().next().unwrap_or(Ok(Value::Nothing)));
        match value.map_err(|error| evaluation_failed(&error))? {
            Value::Text(text) => self.insert(&text, |secret| Zeroizing::new(secret.to_owned())),
            Value::Object(_, json) | Value::List(_, json) => self.insert(&json, escaped),
            Value::Nothing | Value::Null => Err(unusable("has no result")),
            Value::Bool(_) | Value::Number(_) | Value::Other => {
                Err(unusable("results in neither an object nor a list nor a text"))
            }
        }
    }

    /// Inserts the secrets, encoded, in place of the placeholders.
    fn insert(&self, text: &str, encode: fn(&str) -> Zeroizing<String>) -> Result<CustomBody, RequestError> {
        let prefix = self.prefix();
        let mut parts = text.split(prefix.as_str());
        let first = parts.next().unwrap_or_default();
        let (mut pieces, mut placed) = (vec![(Zeroizing::default(), first)], Vec::new());
        for part in parts {
            let (digits, rest) = part.split_at_checked(INDEX_DIGITS).ok_or_else(changed)?;
            let secret = digits.parse::<usize>().ok().and_then(|index| self.secrets.get(index)).ok_or_else(changed)?;
            placed.push(secret.clone());
            if placed.len() > MAX_PLACED {
                return Err(unusable(&format!("places more than {MAX_PLACED} texts")));
            }
            pieces.push((encode(secret.expose_secret()), rest));
        }
        let recognized = &self.random[..RECOGNIZED.min(self.random.len())];
        if pieces.iter().any(|(_, plain)| plain.to_ascii_lowercase().contains(recognized)) {
            return Err(changed());
        }
        // Allocated at full size, because a reallocation would leave a copy in memory.
        let size = pieces.iter().map(|(secret, plain)| secret.len() + plain.len()).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(size));
        for (secret, plain) in &pieces {
            body.extend_from_slice(secret.as_bytes());
            body.extend_from_slice(plain.as_bytes());
        }
        Ok(CustomBody { body, placed })
    }
}

/// A secret as it is written between the quotes of JSON.
fn escaped(secret: &str) -> Zeroizing<String> {
    let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Zeroizing::new(inner.unwrap_or_default().to_owned())
}

fn unusable(problem: &str) -> RequestError {
    RequestError::new(Reason::InvalidSpec, format!("the expression for the body of the request {problem}"))
        .with_advice(Advice::CheckBody)
}

fn changed() -> RequestError {
    unusable("changes a text of $members or $credentials, which it can only place as a whole")
}

fn evaluation_failed(error: &ExpressionError) -> RequestError {
    // A slow machine, or one without memory, is no mistake of the spec. A loop costs two seconds every five minutes.
    let is_limit = matches!(error, ExpressionError::TimedOut(_) | ExpressionError::OutOfMemory(_));
    if error.is_not_evaluated() || is_limit {
        let message = format!("the expression for the body of the request results in {error}");
        return RequestError::new(Reason::RequestNotBuilt, message);
    }
    unusable(&format!("results in {error}"))
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    const RANDOM: &str = "00112233445566778899aabbccddeeff";

    fn placeholders() -> (Placeholders, EvaluationRequest) {
        let mut placeholders = Placeholders::new(RANDOM.to_owned());
        let parameters = [
            ("limits".to_owned(), SecretString::from("{\"days\": 7}")),
            ("grant_type".to_owned(), "password".into()),
            ("password".to_owned(), SecretString::from("a \"quoted\" ü\n")),
        ];
        let credentials = BTreeMap::from([("api_key".to_owned(), SecretString::from("key-1"))]);
        let types = JsonTypes { lists: &[], json: &["limits"] };
        let job = placeholders.evaluation("$members", &parameters, types, &credentials, GrantType::Password);
        (placeholders, job)
    }

    fn body(result: Value) -> Result<String, String> {
        let body = placeholders().0.body(Ok(vec![Ok(result)]));
        body.map(|built| String::from_utf8(built.body.to_vec()).expect("UTF-8")).map_err(|error| error.message)
    }

    #[test]
    fn an_expression_sees_no_text() {
        let (_, job) = placeholders();
        let members: Json = serde_json::from_str(&job.body).expect("JSON");
        let placeholder = |index| format!("secret-{RANDOM}-000{index}");
        let expected = json!({"limits": {"days": 7}, "grant_type": placeholder(0), "password": placeholder(1)});
        assert_eq!(members, expected);
        let variables = [("credentials", json!({"api_key": placeholder(2)})), ("grant", json!("password"))];
        assert_eq!(job.headers, variables.map(|(name, value)| (name.to_owned(), value.to_string())));
    }

    #[test]
    fn secrets_are_inserted_into_the_result() {
        let nested = json!({"auth": [{"password": format!("secret-{RANDOM}-0001")}, {"key": format!("x-secret-{RANDOM}-0002")}]});
        let sent: Json =
            serde_json::from_str(&body(Value::Object(1, nested.to_string())).expect("a body")).expect("JSON");
        assert_eq!(sent, json!({"auth": [{"password": "a \"quoted\" ü\n"}, {"key": "x-key-1"}]}));
        let text = format!("apikey=secret-{RANDOM}-0002;secret-{RANDOM}-0002");
        assert_eq!(body(Value::Text(text)), Ok("apikey=key-1;key-1".to_owned()));
    }

    #[test]
    fn a_result_that_cannot_be_sent_is_an_error() {
        let upper = format!("SECRET-{}-0001", RANDOM.to_uppercase());
        let many = format!("secret-{RANDOM}-0001").repeat(20_000);
        for (result, expected) in [
            (Value::Nothing, "has no result"),
            (Value::Null, "has no result"),
            (Value::Number(1.0), "neither an object"),
            (Value::Other, "neither an object"),
            (Value::Text(format!("secret-{RANDOM}-0009")), "changes a text"),
            (Value::Text(format!("secret-{RANDOM}-00ü")), "changes a text"),
            (Value::Text(format!("secret-{RANDOM}-")), "changes a text"),
            (Value::Text(upper), "changes a text"),
            (Value::Text(RANDOM[..20].to_owned()), "changes a text"),
            (Value::Text(many), "more than 16 texts"),
        ] {
            let error = body(result.clone()).expect_err("an error");
            assert!(error.contains(expected), "{result:?}: {error}");
        }
    }

    #[test]
    fn an_expression_that_was_not_evaluated_is_retried() {
        let reason = |error| placeholders().0.body(Err(error)).expect_err("an error").reason;
        assert_eq!(reason(ExpressionError::QueueTimedOut), Reason::RequestNotBuilt);
        assert_eq!(reason(ExpressionError::OutOfMemory(24)), Reason::RequestNotBuilt);
        assert_eq!(reason(ExpressionError::Failed(None)), Reason::InvalidSpec);
    }
}
