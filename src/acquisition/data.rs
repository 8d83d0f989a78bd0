//! Evaluates the expressions for more keys of the target (`target.data`), in the sandbox if they are more than paths.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::api::reason::Reason;
use crate::decision::observed::Observed;
use crate::oauth::client::Client;
use crate::oauth::error::{Advice, RequestError, RotatedRefreshToken};
use crate::oauth::expression::data;
use crate::oauth::expression::error::ExpressionError;
use crate::oauth::expression::protocol::{EvaluationRequest, Task};
use crate::oauth::expression::value::Value;
use crate::oauth::response::extract::MAX_VALUES;
use crate::oauth::response::raw::HttpResponse;
use crate::spec::validated::ValidatedSpec;
use crate::target::adoption::AdoptedTokens;
use crate::target::content::{DataValue, TargetContent};
use crate::target::template::{DataExpression, SecretTemplate};
use crate::target::types;

/// Adds the values of the expressions that are more than a path of the response, if there is one.
///
/// # Errors
///
/// A [`RequestError`] without secrets, with the refresh token of the response if there is a new one.
pub(crate) async fn add_to(
    client: &Client,
    observed: &Observed,
    spec: &ValidatedSpec,
    content: &mut TargetContent,
    response: Option<&HttpResponse>,
) -> Result<(), RequestError> {
    let wanted: Vec<_> = spec.template.data.iter().filter(|(key, _)| !content.data.contains_key(*key)).collect();
    let computed = evaluate(client, observed, &wanted, content, response).await;
    let kept = || content.refresh_token.clone().filter(|token| is_new(observed, token)).map(RotatedRefreshToken);
    let mut computed = computed.map_err(|error| RequestError { refresh_token: kept(), ..error.explained() })?;
    for (key, DataExpression { expression, fingerprint }) in wanted {
        let mut value = computed.remove(key);
        // A response to a refresh does not necessarily repeat what the first one contained.
        if value.is_none() && data::needs_response(expression) && spec.token_request.grant.is_refresh() {
            value = observed.stored.data(key, fingerprint).and_then(|data| data.value.clone());
        }
        content.data.insert(key.clone(), DataValue { fingerprint: fingerprint.clone(), value });
    }
    check(client, &spec.template, content).map_err(|error| RequestError { refresh_token: kept(), ..error.explained() })
}

/// The data of a stored token for the current spec: what is stored for the same expressions, and the values of new
/// expressions that do not need the response.
///
/// # Errors
///
/// Why they could not be evaluated.
pub(crate) async fn of_stored(
    client: &Client,
    observed: &Observed,
    spec: &ValidatedSpec,
    content: &TargetContent,
) -> Result<BTreeMap<String, DataValue>, DataError> {
    let has_lost_previous =
        content.previous.is_none() && observed.stored.content.as_ref().is_some_and(|stored| stored.previous.is_some());
    let known = |key: &String, data: &DataExpression| {
        let is_outdated =
            has_lost_previous && data::needs_previous(&data.expression) && !data::needs_response(&data.expression);
        observed.stored.data(key, &data.fingerprint).filter(|_| !is_outdated).cloned()
    };
    let (kept, wanted): (Vec<_>, Vec<_>) =
        spec.template.data.iter().partition(|(key, data)| known(key, data).is_some());
    let mut computed = evaluate(client, observed, &wanted, content, None).await?;
    let kept = kept.into_iter().filter_map(|(key, data)| Some((key.clone(), known(key, data)?)));
    let computed = wanted.into_iter().map(|(key, data)| {
        (key.clone(), DataValue { fingerprint: data.fingerprint.clone(), value: computed.remove(key) })
    });
    let data = kept.chain(computed).collect();
    let content = TargetContent { data, ..content.clone() };
    check(client, &spec.template, &content)?;
    Ok(content.data)
}

/// The data of a Secret that is taken over with a token for which `content` was built. A value that exists stays until it
/// can be computed: it may be all that workloads read. What needs a response is computed from the next one, which is
/// requested at once if there is no value yet.
///
/// # Errors
///
/// If the expressions were not evaluated.
pub(crate) async fn of_adopted(
    client: &Client,
    observed: &Observed,
    spec: &ValidatedSpec,
    content: &TargetContent,
    adopted: &AdoptedTokens,
) -> Result<BTreeMap<String, DataValue>, DataError> {
    let value = |key: &String, fingerprint: &str| {
        let (fingerprint, value) = (fingerprint.to_owned(), adopted.data.get(key).cloned());
        (key.clone(), DataValue { fingerprint, value })
    };
    let all = spec.template.data.iter();
    // If the token is renewed now, all of them are computed then, and not before.
    if content.times.renew_at <= observed.now {
        return Ok(all.map(|(key, data)| value(key, &data.fingerprint)).collect());
    }
    let kept: BTreeMap<String, DataValue> = all
        .filter(|(key, _)| adopted.data.contains_key(*key))
        .map(|(key, data)| {
            value(key, if data::needs_response(&data.expression) { &data.fingerprint } else { NOT_COMPUTED })
        })
        .collect();
    let computable = |(_, data): &(&String, &DataExpression)| !data::needs_response(&data.expression);
    let wanted: Vec<_> = spec.template.data.iter().filter(computable).collect();
    let mut computed = match evaluate(client, observed, &wanted, content, None).await {
        Ok(computed) => computed,
        Err(DataError::Unusable) => return Ok(kept),
        Err(error) => return Err(error),
    };
    let mut all = kept.clone();
    all.extend(wanted.into_iter().map(|(key, data)| {
        (key.clone(), DataValue { fingerprint: data.fingerprint.clone(), value: computed.remove(key) })
    }));
    let content = TargetContent { data: all, ..content.clone() };
    Ok(if check(client, &spec.template, &content).is_ok() { content.data } else { kept })
}

/// The fingerprint of a value for which there is still an expression to evaluate.
const NOT_COMPUTED: &str = "";

/// Why the data could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataError {
    /// The workers had no time, or could not be started: this says nothing about the values.
    NotEvaluated(ExpressionError),
    /// An expression yields the refresh token, which is kept out of the target.
    RefreshToken,
    /// An expression has no usable result. Which one, and why, could be used to reveal a token to users who are not
    /// allowed to read it.
    Unusable,
}

impl DataError {
    /// The error of an attempt.
    pub(crate) fn explained(self) -> RequestError {
        match self {
            Self::NotEvaluated(error) => RequestError::new(
                Reason::InvalidResponse,
                format!("the expressions of spec.target.data were not evaluated: {error}"),
            ),
            Self::RefreshToken => RequestError::new(
                Reason::InvalidResponse,
                "an expression of spec.target.data yields the refresh token, which spec.target.refreshTokenSecretName keeps out of the target: remove one of the two",
            ),
            Self::Unusable => RequestError::new(
                Reason::InvalidResponse,
                "an expression of spec.target.data does not yield a usable value for this token",
            )
            .with_advice(Advice::ExplainExpressions),
        }
    }
}

/// The input of the expressions, other than the response.
#[derive(Serialize)]
struct Input<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    issued_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_access_token: Option<&'a str>,
    integration: Integration<'a>,
}

#[derive(Serialize)]
struct Integration<'a> {
    name: &'a str,
    namespace: &'a str,
}

impl<'a> Input<'a> {
    fn new(observed: &'a Observed, content: &'a TargetContent) -> Self {
        let is_apart = observed.template().is_some_and(|template| template.refresh_token_secret.is_some());
        let text = |secret: &'a Option<SecretString>| secret.as_ref().map(ExposeSecret::expose_secret);
        Self {
            access_token: text(&content.access_token),
            // If it is apart, the target must not contain it.
            refresh_token: text(&content.refresh_token).filter(|_| !is_apart),
            token_type: content.token_type.as_deref(),
            scope: content.scope.as_deref(),
            issued_at: content.times.issued_at.to_string(),
            expires_at: content.times.expires_at.to_string(),
            previous_access_token: content.previous.as_ref().map(|previous| previous.token.expose_secret()),
            integration: Integration { name: &observed.name, namespace: &observed.namespace },
        }
    }

    fn get(&self, path: &str) -> Option<&str> {
        match path {
            "access_token" => self.access_token,
            "refresh_token" => self.refresh_token,
            "token_type" => self.token_type,
            "scope" => self.scope,
            "issued_at" => Some(&self.issued_at),
            "expires_at" => Some(&self.expires_at),
            "previous_access_token" => self.previous_access_token,
            "integration.name" => Some(self.integration.name),
            "integration.namespace" => Some(self.integration.namespace),
            _ => None,
        }
    }

    fn json(&self) -> Result<String, DataError> {
        serde_json::to_string(self).map_err(|_| DataError::Unusable)
    }
}

/// The values of expressions, by key; those without a value are missing.
async fn evaluate(
    client: &Client,
    observed: &Observed,
    wanted: &[(&String, &DataExpression)],
    content: &TargetContent,
    response: Option<&HttpResponse>,
) -> Result<BTreeMap<String, SecretString>, DataError> {
    let input = Input::new(observed, content);
    let (known, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, data)| data::is_known_path(&data.expression));
    let mut values = BTreeMap::new();
    for (key, data) in known {
        let text = input.get(data.expression.text());
        client.observe_data(key, &data.expression, || {
            Ok(text.map_or(Value::Nothing, |text| Value::Text(text.to_owned())))
        });
        values.extend(text.map(|text| ((*key).clone(), SecretString::from(text))));
    }
    if others.is_empty() {
        return Ok(values);
    }
    let body = response.map(|response| std::str::from_utf8(&response.body).unwrap_or_default());
    let job = EvaluationRequest {
        task: Task::Evaluate,
        expressions: others.iter().map(|(_, data)| data.expression.text().to_owned()).collect(),
        public: 0,
        status: response.map_or(0, |response| response.status),
        headers: response.map(|response| response.headers.clone()).unwrap_or_default(),
        body: body.unwrap_or_default().to_owned(),
        input: Some(input.json()?),
    };
    let results = client.sandbox().evaluate(&observed.namespace, &job).await;
    let results = results.unwrap_or_else(|error| vec![Err(error); others.len()]);
    // All of them, also those after a failure, for whoever wants to see which ones fail.
    for ((key, data), result) in others.iter().zip(&results) {
        client.observe_data(key, &data.expression, || result.clone());
    }
    for ((key, _), result) in others.into_iter().zip(results) {
        let text = result.map_err(of_evaluation)?.text().map_err(|_| DataError::Unusable)?;
        values.extend(text.map(|text| ((*key).clone(), text)));
    }
    Ok(values)
}

fn of_evaluation(error: ExpressionError) -> DataError {
    if error.is_not_evaluated() { DataError::NotEvaluated(error) } else { DataError::Unusable }
}

/// Checks that the API server will accept the Secret, which may be the only copy of a refresh token, and that the target
/// does not get a refresh token that is kept out of it.
fn check(client: &Client, template: &SecretTemplate, content: &TargetContent) -> Result<(), DataError> {
    let value = |key: &str| content.data.get(key)?.value.as_ref().map(ExposeSecret::expose_secret);
    let is_object = |text: &str| text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    // For whoever wants to see which expression it is.
    let unusable = |key: &str, why: ExpressionError| {
        if let Some(data) = template.data.get(key) {
            client.observe_data(key, &data.expression, || Err(why));
        }
        DataError::Unusable
    };
    let values = || content.data.iter().filter_map(|(key, data)| Some((key, data.value.as_ref()?.expose_secret())));
    let refresh_token = content.refresh_token.as_ref().filter(|_| template.refresh_token_secret.is_some());
    if let Some(token) = refresh_token.map(ExposeSecret::expose_secret)
        && values().any(|(_, value)| value.contains(token))
    {
        return Err(DataError::RefreshToken);
    }
    if values().map(|(_, value)| value.len()).sum::<usize>() > MAX_VALUES {
        let largest = values().max_by_key(|(_, value)| value.len()).map_or("", |(key, _)| key);
        return Err(unusable(largest, ExpressionError::ValuesTooLarge));
    }
    if let Some(key) = types::json_key(&template.type_)
        && value(key).is_some_and(|text| !is_object(text))
    {
        return Err(unusable(key, ExpressionError::NotAnObject));
    }
    let is_missing = |key: &&str| template.data.contains_key(*key) && value(key).is_none();
    match types::keys_with_a_value(&template.type_).find(is_missing) {
        Some(key) if content.access_token.is_some() => Err(unusable(key, ExpressionError::Required)),
        _ => Ok(()),
    }
}

/// Whether a refresh token is not the stored one.
fn is_new(observed: &Observed, token: &SecretString) -> bool {
    let stored = observed.stored.refresh_token.as_ref();
    stored.is_none_or(|stored| stored.expose_secret() != token.expose_secret())
}
