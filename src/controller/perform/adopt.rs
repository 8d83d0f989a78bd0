//! Takes over a Secret that something else has written, with its tokens.

use tracing::debug;

use crate::acquisition::attempt::IssuedToken;
use crate::acquisition::{adopted, data};
use crate::api::reason::Reason;
use crate::controller::perform::save::{Known, Persisted, is_replaced, persist};
use crate::controller::perform::work::Work;
use crate::controller::perform::write_error::{NotWritten, describe_api_error};
use crate::decision::observed::TargetState;
use crate::decision::outcome::{Outcome, Written};
use crate::oauth::error::RequestError;
use crate::target::content::TargetContent;

/// Writes the Secret with its own tokens and the state of the operator. If its expiry is unknown, its token is renewed
/// afterwards like that of any other target.
pub(crate) async fn adopt(work: &Work<'_>) -> Outcome {
    let Work { context, observed, spec, .. } = *work;
    let TargetState::Adoptable(adoptable) = &observed.target else { return Outcome::Nothing };
    let Some(content) = adopted::content(observed, spec, &adoptable.tokens) else { return Outcome::Nothing };
    let data = match data::of_adopted(&context.oauth_client, observed, spec, &content, &adoptable.tokens).await {
        Ok(data) => data,
        Err(error) => return Outcome::Failed(error.explained()),
    };
    let times = content.times;
    let issued = IssuedToken { content: TargetContent { data, ..content }, warning: None };
    // The refresh token moves to a Secret of its own only afterwards: until this write is accepted, something else may
    // replace it.
    let mut pending = work.to_pending(issued);
    if pending.template.refresh_token_secret.take().is_some() {
        pending.template.hash.clear();
    }
    context.states.record_rewrite(&observed.uid, observed.now);
    let known = Known { target: Some(&adoptable.snapshot), refresh_token: None };
    match persist(context, &observed.uid, known, &pending, false).await {
        Ok(Persisted::Written) => Outcome::Written(Written { times, newly_issued: false, warning: None }),
        Ok(Persisted::Superseded) => Outcome::Nothing,
        // Something else has just written or deleted it: it is read again.
        Err(NotWritten { error, .. }) if error.status().is_some_and(is_replaced) => {
            let (namespace, name) = (&work.namespace, &work.name);
            debug!(namespace, name, "the Secret has changed while it was taken over");
            Outcome::Nothing
        }
        Err(NotWritten { secret: name, error, .. }) => {
            let tokens = pending.secret_values();
            let problem = describe_api_error(&error, &tokens);
            let message = format!(
                "Secret {name} could not be written ({problem}): nothing was taken over, and no token is requested until it can be written"
            );
            Outcome::Failed(RequestError::new(Reason::TargetWriteFailed, message))
        }
    }
}
