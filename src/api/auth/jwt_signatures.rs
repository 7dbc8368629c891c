//! The signatures of tokens, HS256 and RS256, judged by `ring`, which TLS brings anyway.
//!
//! `jsonwebtoken` reads tokens and checks their claims, and leaves the arithmetic to whoever is installed here. The
//! implementations that it brings know all algorithms there are and need forty crates, one of them (`rsa`) with a
//! timing leak that is not mended. What it is not: a way to sign. This process hands out no tokens.
//!
//! Invariant: an algorithm goes with its own kind of key only. What everybody knows of an RSA key is no secret of
//! HS256.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

/// The shortest modulus that RS256 may be used with (RFC 7518, section 3.3).
const MODULUS_BYTES_MIN: usize = 256;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // For making a JWK out of a private key. There is none here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Lets tokens be judged here, from now on. Once is enough, and again does no harm.
pub(super) fn install() {
    let _already = PROVIDER.install_default();
}

/// Whether an RSA key is too short to be trusted, and would be refused with every token.
pub(super) fn is_too_short(key: &DecodingKey) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let zeros = n.iter().take_while(|byte| **byte == 0).count();
            n.len() - zeros < MODULUS_BYTES_MIN
        }
        DecodingKeyKind::SecretOrDer(_) => false,
    }
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    match (algorithm, key.family(), key.kind()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
            Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
        }
        (Algorithm::RS256, AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let (n, e) = (n.clone(), e.clone());
            Ok(Box::new(Rs256(RsaPublicKeyComponents { n, e })))
        }
        _ => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

struct Hs256(hmac::Key);

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

struct Rs256(RsaPublicKeyComponents<Vec<u8>>);

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = self
            .0
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature);
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}
