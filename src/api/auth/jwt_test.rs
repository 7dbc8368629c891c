//! Which JSON Web Tokens are accepted, and which are not.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::super::Right;
use super::super::auth_test::{in_seconds, jwt, required};
use super::*;

fn verify(settings: &AuthSettings, token: &str) -> Result<Caller, String> {
    let verifier = Verifier::new(settings).unwrap();
    verifier
        .verify(token)
        .map_err(|refused| refused.to_string())
}

/// An RSA key in PEM, made for this run.
fn rsa_key(directory: &Path) -> Vec<u8> {
    let file = directory.join("rsa.pem");
    let made = Command::new("openssl")
        .args(["genrsa", "-traditional", "-out"])
        .arg(&file)
        .arg("2048")
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    std::fs::read(file).unwrap()
}

/// Writes a JWKS with the public half of a key under this name.
fn write_jwks(file: &Path, key: &EncodingKey, kid: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::RS256).unwrap();
    jwk.common.key_id = Some(kid.into());
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "other" });
    std::fs::write(file, json!({ "keys": [jwk, ec] }).to_string()).unwrap();
    jwk
}

#[test]
fn claims_are_checked_where_they_are_asked_for() {
    let plain = required();
    let strict = AuthSettings {
        jwt_issuer: "https://issuer".into(),
        jwt_audience: "pairdb".into(),
        ..required()
    };
    let good = json!({ "tenant_id": "t", "roles": ["tenant-read"], "iss": "https://issuer", "aud": ["x", "pairdb"] });
    let with = |more: Value| {
        let mut claims = good.clone();
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        jwt(claims)
    };
    let caller = verify(&strict, &with(json!({}))).unwrap();
    assert_eq!(caller.right, Some(Right::Read));
    assert_eq!(caller.tenant.unwrap().as_str(), "t");
    for (claims, why) in [
        (
            json!({ "iss": "https://other" }),
            "the token is of another issuer",
        ),
        (
            json!({ "aud": "other" }),
            "the token is for another audience",
        ),
        (json!({ "exp": in_seconds(-31) }), "the token has expired"),
        (
            json!({ "nbf": in_seconds(40) }),
            "the token is not valid yet",
        ),
        (
            json!({ "tenant_id": "a:b" }),
            "the token's tenant_id is no tenant's name",
        ),
        (json!({ "exp": "soon" }), "the token is not valid"),
        (json!({ "nbf": "soon" }), "the token is not valid"),
        (json!({ "roles": "admin" }), "the token is not valid"),
        (json!({ "exp": null }), "the token is not valid"),
    ] {
        let outcome = verify(&strict, &with(claims.clone()));
        let told = outcome.unwrap_err();
        let lacks = "the token lacks exp, or iss or aud where they are asked for";
        assert!(
            told == why || (why == "the token is not valid" && told == lacks),
            "{claims}: {told}"
        );
    }
    let bare = jwt(json!({ "tenant_id": "t", "roles": ["tenant-read"] }));
    assert!(verify(&plain, &bare).is_ok());
    assert!(verify(&strict, &bare).is_err());
    // A token for somebody else's audience is not for us, whether or not we have a name.
    assert!(verify(&plain, &with(json!({}))).is_err());
    let leeway = jwt(json!({ "roles": ["admin"], "exp": in_seconds(-5) }));
    assert_eq!(verify(&plain, &leeway).unwrap(), Caller::ADMINISTRATOR);
}

#[test]
fn secrets_can_be_exchanged() {
    let token = jwt(json!({ "roles": ["admin"] }));
    let new = AuthSettings {
        jwt_secret: "another secret that is long enough as well".into(),
        ..required()
    };
    assert!(verify(&new, &token).is_err());
    let both = AuthSettings {
        jwt_secret_previous: required().jwt_secret,
        ..new
    };
    assert!(verify(&both, &token).is_ok());
    let none = AuthSettings {
        jwt_secret: Default::default(),
        ..required()
    };
    assert!(verify(&none, &token).is_err());
}

#[test]
fn a_verified_token_is_kept_in_mind_until_it_expires() {
    let settings = AuthSettings {
        jwt_leeway: std::time::Duration::ZERO,
        ..required()
    };
    let verifier = Verifier::new(&settings).unwrap();
    let token = jwt(json!({ "roles": ["admin"], "exp": in_seconds(60) }));
    for _ in 0..2 {
        assert_eq!(verifier.verify(&token), Ok(Caller::ADMINISTRATOR));
    }
    assert_eq!(verifier.verified.len(), 1);
    assert!(verifier.verify_at(&token, now() + 50.0).is_ok());
    assert_eq!(verifier.verify_at(&token, now() + 61.0), Err(EXPIRED));
}

#[test]
fn algorithms_are_not_mixed_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let pem = rsa_key(directory.path());
    let key = EncodingKey::from_rsa_pem(&pem).unwrap();
    let jwk = write_jwks(&file, &key, "one");
    let settings = AuthSettings {
        jwt_jwks_file: file.display().to_string(),
        ..required()
    };
    let claims = json!({ "roles": ["admin"], "exp": in_seconds(60) });
    let signed = |kid: Option<&str>, algorithm, key: &EncodingKey| {
        let header = Header {
            kid: kid.map(str::to_owned),
            ..Header::new(algorithm)
        };
        encode(&header, &claims, key).unwrap()
    };
    for kid in [None, Some("one")] {
        assert!(verify(&settings, &signed(kid, Algorithm::RS256, &key)).is_ok());
    }
    assert!(verify(&settings, &signed(Some("two"), Algorithm::RS256, &key)).is_err());
    assert!(verify(&settings, &signed(None, Algorithm::RS384, &key)).is_err());
    assert!(verify(&required(), &signed(None, Algorithm::RS256, &key)).is_err());

    // What everybody knows of the key is no secret to sign with.
    let AlgorithmParameters::RSA(public) = &jwk.algorithm else {
        panic!("an RSA key")
    };
    for known in [
        public.n.as_bytes(),
        &URL_SAFE_NO_PAD.decode(&public.n).unwrap(),
        &pem,
    ] {
        let forged = signed(
            Some("one"),
            Algorithm::HS256,
            &EncodingKey::from_secret(known),
        );
        assert!(verify(&settings, &forged).is_err());
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", ""] {
        let header = part(&json!({ "alg": algorithm, "typ": "JWT" }));
        assert!(verify(&settings, &format!("{header}.{}.", part(&claims))).is_err());
    }
    let good = signed(None, Algorithm::RS256, &key);
    let unsigned = &good[..=good.rfind('.').unwrap()];
    assert!(verify(&settings, unsigned).is_err());
    for garbage in ["", ".", "..", "a.b.c", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
        assert!(verify(&settings, garbage).is_err());
    }
}

#[test]
fn a_bad_jwks_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let settings = AuthSettings {
        jwt_jwks_file: file.display().to_string(),
        ..required()
    };
    let error = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Verifier::new(&settings).map(drop).unwrap_err()
    };
    assert!(error("{").contains("is no JWKS"));
    assert!(error("{\"keys\": []}").contains("has no RSA key for signatures"));
    assert!(
        Verifier::again(&settings).is_ok(),
        "the last key was taken out"
    );
    std::fs::remove_file(&file).unwrap();
    assert!(
        Verifier::new(&settings)
            .map(drop)
            .unwrap_err()
            .contains("jwks.json")
    );
}
