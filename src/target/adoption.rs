//! Takes over a Secret that something else has written, after its owner has put the annotation [`ADOPT_BY`] on it: what
//! prevents that, and the tokens in it. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};

use crate::oauth::lifetime;
use crate::target::annotations::{ADOPT_BY, MANAGED_BY, REFRESH_TOKEN_SECRET, has_managed_by_label};
use crate::target::snapshot::TargetSnapshot;
use crate::target::template::SecretTemplate;

/// The maximum length of a type, a kind or a name in a message.
const MAX_SHOWN: usize = 128;

/// A Secret that is taken over.
#[derive(Clone, Debug)]
pub struct Adoptable {
    /// Its state.
    pub snapshot: TargetSnapshot,
    /// What it contains.
    pub tokens: AdoptedTokens,
}

/// The values of a Secret that is taken over, from the keys of `spec.target`.
#[derive(Clone, Debug, Default)]
pub struct AdoptedTokens {
    /// The access token.
    pub access_token: Option<SecretString>,
    /// The refresh token.
    pub refresh_token: Option<SecretString>,
    /// The type of the access token.
    pub token_type: Option<String>,
    /// The scope of the access token.
    pub scope: Option<String>,
    /// The private key that the tokens are bound to.
    pub dpop_key: Option<SecretString>,
    /// When the access token expires: the value under `target.keys.expiresAt` or `exp` of a JWT, the earlier one if both
    /// are known.
    pub expires_at: Option<Timestamp>,
    /// The values under the keys of `target.data`.
    pub data: BTreeMap<String, SecretString>,
}

impl Adoptable {
    /// The Secret, if nothing prevents that the integration with this uid takes it over.
    ///
    /// # Errors
    ///
    /// A message that says what to change.
    pub fn of(secret: &Secret, uid: &str, template: &SecretTemplate) -> Result<Self, String> {
        match obstacle(secret, uid, template) {
            None => Ok(Self { snapshot: TargetSnapshot::of(secret), tokens: AdoptedTokens::of(secret, template) }),
            Some(why) => Err(format!(
                "Secret {} cannot be taken over, although its annotation {ADOPT_BY} names this integration: {why}",
                template.secret_name
            )),
        }
    }
}

/// What prevents it, and how to change that.
fn obstacle(secret: &Secret, uid: &str, template: &SecretTemplate) -> Option<String> {
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    let foreign = secret.owner_references().iter().find(|owner| owner.uid != uid);
    if let Some(owner) = foreign {
        let (kind, name) = (shown(&owner.kind), shown(&owner.name));
        Some(format!(
            "it belongs to {kind} {name} (owner reference), which may write or delete it: delete {kind} {name} without it (kubectl delete --cascade=orphan), or remove the owner reference after whatever sets it has been stopped"
        ))
    } else if has_managed_by_label(secret) {
        Some(format!(
            "it has the label {MANAGED_BY} of this operator and is not the target of this integration: remove that label from the Secret"
        ))
    } else if let Some(elsewhere) = TargetSnapshot::of(secret).refresh_token_elsewhere() {
        Some(format!(
            "it was the target of an integration whose refresh token is in Secret {}: put that refresh token into this Secret, and remove the annotation {REFRESH_TOKEN_SECRET} from it",
            shown(elsewhere)
        ))
    } else if secret.immutable == Some(true) {
        Some(
            "it is immutable: delete it, and create it again with the same data, without immutable: true, and with this annotation"
                .to_owned(),
        )
    } else if type_ != template.type_ {
        Some(format!(
            "its type is {}, and the type of a Secret cannot be changed: create the integration again with spec.target.type {}, or the Secret with the type {}, the same data and this annotation",
            shown(type_),
            shown(type_),
            template.type_
        ))
    } else {
        None
    }
}

/// A text of the Secret as it is shown in a message.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(MAX_SHOWN).collect()
}

impl AdoptedTokens {
    fn of(secret: &Secret, template: &SecretTemplate) -> Self {
        let keys = &template.keys;
        let value = |key: &str| {
            let bytes = &secret.data.as_ref()?.get(key)?.0;
            // A line break at the end is not part of a token: it comes from `echo`.
            std::str::from_utf8(bytes).ok().map(str::trim_end).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
        };
        let unchanged = |key: &String| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
        let optional = |key: &Option<String>| key.as_deref().and_then(value);
        let access_token = value(&keys.access_token).map(SecretString::from);
        let by_key = optional(&keys.expires_at).and_then(|text| text.parse::<Timestamp>().ok());
        let by_jwt = access_token.as_ref().and_then(|token| lifetime::jwt_exp(token.expose_secret()));
        let data = template.data.keys().filter_map(|key| Some((key.clone(), unchanged(key)?.into())));
        Self {
            expires_at: [by_key, by_jwt].into_iter().flatten().min(),
            access_token,
            refresh_token: value(&keys.refresh_token).map(SecretString::from),
            token_type: optional(&keys.token_type),
            scope: optional(&keys.scope),
            dpop_key: keys.dpop_key.as_ref().and_then(unchanged).map(SecretString::from),
            data: data.collect(),
        }
    }
}
