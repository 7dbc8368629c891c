//! Which JSON Web Tokens are accepted, and which are not.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::super::Right;
use super::super::auth_test::{in_seconds, jwt, required, signed_with, unsigned};
use super::*;

fn verify(settings: &AuthSettings, token: &str) -> Result<Caller, String> {
    let verifier = Verifier::new(settings).unwrap();
    verifier
        .verify(token)
        .map_err(|refused| refused.to_string())
}

/// An RSA key, made for this run.
struct RsaKey {
    pem: Vec<u8>,
    pair: RsaKeyPair,
}

impl RsaKey {
    fn new(directory: &Path) -> Self {
        let file = directory.join("rsa.pem");
        let made = Command::new("openssl")
            .args(["genrsa", "-traditional", "-out"])
            .arg(&file)
            .arg("2048")
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
        let pem = std::fs::read(file).unwrap();
        let der = PrivatePkcs1KeyDer::from_pem_slice(&pem).unwrap();
        let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).unwrap();
        Self { pem, pair }
    }

    /// A JWT that is signed with it by RSASSA-PKCS1-v1_5, whatever its header says.
    fn signed(&self, header: &Value, claims: &Value, encoding: &'static dyn RsaEncoding) -> String {
        let message = unsigned(header, claims);
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                encoding,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The modulus of its public half.
    fn modulus(&self) -> Vec<u8> {
        let components: RsaPublicKeyComponents<Vec<u8>> = self.pair.public().into();
        components.n
    }
}

/// A JWKS with an RSA key of this modulus, and one of another kind.
fn jwks(modulus: &[u8], kid: &str) -> String {
    let n = URL_SAFE_NO_PAD.encode(modulus);
    let rsa = json!({ "kty": "RSA", "n": n, "e": "AQAB", "kid": kid, "alg": "RS256" });
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "other" });
    json!({ "keys": [rsa, ec] }).to_string()
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
    let key = RsaKey::new(directory.path());
    std::fs::write(&file, jwks(&key.modulus(), "one")).unwrap();
    let settings = AuthSettings {
        jwt_jwks_file: file.display().to_string(),
        ..required()
    };
    let claims = json!({ "roles": ["admin"], "exp": in_seconds(60) });
    let header = |kid: Option<&str>, algorithm: &str| match kid {
        None => json!({ "typ": "JWT", "alg": algorithm }),
        Some(kid) => json!({ "typ": "JWT", "alg": algorithm, "kid": kid }),
    };
    let rs256 = |kid| key.signed(&header(kid, "RS256"), &claims, &RSA_PKCS1_SHA256);
    for kid in [None, Some("one")] {
        assert!(verify(&settings, &rs256(kid)).is_ok());
    }
    assert!(verify(&settings, &rs256(Some("two"))).is_err());
    let rs384 = key.signed(&header(None, "RS384"), &claims, &RSA_PKCS1_SHA384);
    assert!(verify(&settings, &rs384).is_err());
    assert!(verify(&required(), &rs256(None)).is_err());

    // What everybody knows of the key is no secret to sign with.
    let modulus = key.modulus();
    let shown = URL_SAFE_NO_PAD.encode(&modulus);
    for known in [shown.as_bytes(), &modulus, &key.pem] {
        let forged = signed_with(known, &header(Some("one"), "HS256"), &claims);
        assert!(verify(&settings, &forged).is_err());
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", ""] {
        let header = part(&json!({ "alg": algorithm, "typ": "JWT" }));
        assert!(verify(&settings, &format!("{header}.{}.", part(&claims))).is_err());
    }
    let good = rs256(None);
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
    assert!(error(&jwks(&[0xff; 128], "short")).contains("less than 2048 bits"));
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
