//! The refresh token in a Secret of its own.

use k8s_openapi::api::core::v1::Secret;
use oauth_operator::target::content::TargetContent;
use oauth_operator::target::read::read_content;

use oauth_operator::decision::observed::Conflict;

use super::*;

const NAME: &str = "it-refresh-token";

/// The snapshot of a Secret for the refresh token, whose token was received at this time.
fn holder(name: &str, received: i64) -> TargetSnapshot {
    let target = healthy().snapshot().expect("a target").clone();
    let times = target.times.map(|times| lifetime::TokenTimes { issued_at: at(received), ..times });
    TargetSnapshot { name: name.to_owned(), refresh_token_secret: Some(name.to_owned()), times, ..target }
}

fn apart() -> Observed {
    let mut changed = serde_json::to_value(spec("order")).expect("a spec");
    changed["target"] = json!({"refreshTokenSecretName": NAME});
    let spec: OAuthIntegrationSpec = serde_json::from_value(changed).expect("a spec");
    let spec = Arc::new(ValidatedSpec::parse("it", &spec).expect("a valid spec"));
    let observed = with_facts(healthy(), |snapshot| {
        snapshot.provenance.spec_hash.clone_from(&spec.spec_hash);
        snapshot.template_hash.clone_from(&spec.template.hash);
        snapshot.refresh_token_secret = Some(NAME.to_owned());
    });
    Observed { spec: Ok(spec), refresh_token_target: TargetState::Owned(Arc::new(holder(NAME, 0))), ..observed }
}

#[test]
fn the_secret_for_the_refresh_token_is_part_of_the_decision() {
    let wait = Plan::Wait {
        reason: Reason::TokenValid,
        until: healthy().snapshot().and_then(|it| it.times).map(|times| times.renew_at),
    };
    let drifted = Plan::Renew { reason: Reason::TargetDrifted };
    let with = |state: TargetState| Observed { refresh_token_target: state, ..apart() };
    let owned = |change: fn(&mut TargetSnapshot)| {
        let mut snapshot = holder(NAME, 0);
        change(&mut snapshot);
        TargetState::Owned(Arc::new(snapshot))
    };
    let cases = [
        ("nothing has changed", apart(), wait.clone()),
        ("it was deleted", with(TargetState::Absent), drifted.clone()),
        ("it was changed", with(owned(|snapshot| snapshot.integrity = Integrity::Changed)), drifted.clone()),
        ("its annotations were removed", with(owned(|snapshot| snapshot.times = None)), drifted),
        (
            "it is still under its former name",
            Observed {
                previous_targets: vec![Arc::new(holder("former", 0))],
                refresh_token_target: TargetState::Absent,
                ..with_facts(apart(), |target| {
                    target.refresh_token_secret = Some("former".to_owned());
                    target.template_hash = "before".to_owned();
                })
            },
            Plan::Rewrite { reason: Reason::SpecChanged },
        ),
        (
            "one is left over from before a crash",
            Observed { previous_targets: vec![Arc::new(holder("former", 0))], ..apart() },
            Plan::Rewrite { reason: Reason::TargetDrifted },
        ),
        (
            "one that is not its own is ignored",
            Observed {
                previous_targets: vec![Arc::new(TargetSnapshot { owner: None, ..holder("forged", 0) })],
                ..apart()
            },
            wait.clone(),
        ),
        (
            "there is no refresh token",
            Observed {
                refresh_token_target: TargetState::Absent,
                ..with_facts(apart(), |target| target.refresh_token_secret = None)
            },
            wait,
        ),
    ];
    for (case, observed, expected) in cases {
        assert_eq!(plan(&observed), expected, "{case}");
    }
    let conflict = plan(&with(TargetState::NotOwned(Conflict::Foreign)));
    let Plan::Stall { reason: Reason::TargetConflict, message } = conflict else { panic!("{conflict:?}") };
    assert!(
        message.contains("Secret it-refresh-token exists") && message.contains("spec.target.refreshTokenSecretName")
    );
}

#[test]
fn every_secret_that_may_hold_the_refresh_token_is_read_after_the_target() {
    let renew = Plan::Renew { reason: Reason::RenewalDue };
    let read = Observed {
        target_was_read: true,
        credentials: CredentialsState::Resolved(credentials("first"), "1".to_owned()),
        ..apart()
    };
    let next = missing_reads(&read, &renew).expect("another read");
    assert_eq!(next, Reads { refresh_tokens: true, ..Reads::default() });
    let first = missing_reads(&Observed { target_was_read: false, ..read.clone() }, &renew).expect("a read");
    assert_eq!(first, Reads { target: true, ..Reads::default() });
    let done = Observed { refresh_tokens_were_read: true, ..read.clone() };
    assert_eq!(missing_reads(&done, &renew), None);
    // A grant that does not send the refresh token must not remove it by a rewrite.
    let rewrite = Plan::Rewrite { reason: Reason::SpecChanged };
    assert_eq!(missing_reads(&read, &rewrite), Some(Reads { refresh_tokens: true, ..Reads::default() }));
    let moved = Observed { previous_targets: vec![Arc::new(holder("former", 0))], ..read };
    assert_eq!(moved.refresh_token_secrets(), ["former", NAME], "the one of the spec is the last");
    assert_eq!(moved.latest_previous_target(), None, "it is not a target");
}

/// A Secret with these tokens, as the operator writes it.
fn stored(refresh_token: Option<&str>, access_token: Option<&str>, issued: i64) -> Secret {
    let value = |text: &str| json!(base64(text));
    let mut data = serde_json::Map::new();
    data.extend(refresh_token.map(|token| ("refresh_token".to_owned(), value(token))));
    data.extend(access_token.map(|token| ("access_token".to_owned(), value(token))));
    let secret = json!({
        "metadata": {"name": NAME, "annotations": {
            "oauth.evolutionx.io/keys": r#"{"accessToken": "access_token", "refreshToken": "refresh_token"}"#,
            "oauth.evolutionx.io/issued-at": at(issued).to_string(),
            "oauth.evolutionx.io/expires-at": at(3600).to_string(),
            "oauth.evolutionx.io/renew-at": at(3000).to_string(),
        }},
        "data": data,
    });
    serde_json::from_value(secret).expect("a Secret")
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn the_latest_refresh_token_is_the_one_that_is_sent() {
    let keys = spec("order").target.keys;
    let cases = [
        ("only apart", None, &[("only", 0)][..], "only"),
        ("a crash after the first write of a move", Some(("same", 10)), &[("copy", 10)], "copy"),
        ("a crash in a renewal that also moves it", Some(("old", 10)), &[("new", 20)], "new"),
        ("a Secret that was not deleted", Some(("new", 20)), &[("old", 10)], "new"),
        ("two of them", None, &[("old", 10), ("new", 20)], "new"),
        ("two of them, in the other order", None, &[("new", 20), ("old", 10)], "new"),
    ];
    for (case, in_target, others, expected) in cases {
        let target = stored(in_target.map(|(token, _)| token), Some("access"), in_target.map_or(5, |(_, at)| at));
        let content = read_content(&target).expect("content");
        let mut tokens = StoredTokens {
            refresh_token: content.refresh_token.clone(),
            content: Some(Arc::new(content)),
            ..StoredTokens::default()
        };
        for (token, received) in others {
            let snapshot = Arc::new(holder(NAME, *received));
            tokens.add_refresh_token(&snapshot, &stored(Some(token), None, *received), &keys);
        }
        let sent = tokens.refresh_token.as_ref().expect("a refresh token").expose_secret();
        let TargetContent { access_token, refresh_token, .. } = tokens.content.as_deref().expect("content");
        assert_eq!(sent, expected, "{case}");
        assert_eq!(refresh_token.as_ref().map(ExposeSecret::expose_secret), Some(expected), "{case}: to be written");
        assert_eq!(access_token.as_ref().map(ExposeSecret::expose_secret), Some("access"), "{case}");
    }
}

#[test]
fn an_initial_token_that_was_replaced_is_not_sent_after_its_successor_is_lost() {
    let lost = |has_rotated: bool| {
        let observed = with_facts(apart(), |target| target.has_rotated = has_rotated);
        let mut observed = Observed {
            refresh_token_target: TargetState::Absent,
            refresh_tokens_were_read: true,
            target_was_read: true,
            credentials: CredentialsState::Resolved(credentials("first"), "1".to_owned()),
            ..observed
        };
        observed.stored.initial_refresh_token_hash = Some(fingerprint::salted(&["first"]));
        observed
    };
    assert!(lost(false).refresh_token().is_some(), "the server has not replaced it");
    let rotated = lost(true);
    assert!(rotated.refresh_token().is_none());
    let message = rotated.missing_refresh_token().expect("a message");
    assert!(message.starts_with("Secret it-refresh-token no longer has the refresh token"), "{message}");
}
