//! What Redis keeps under a key, read with suspicion: whoever reaches the server can have written it.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::ports::{Claim, ClaimOutcome, IdempotencyScope};
use crate::version::{Stamp, WriteId};

/// The key of a scope: as short as any, and none of its bytes are a client's, so nobody decides in which part of a
/// cluster it lies.
pub(super) fn key(namespace: &str, scope: &IdempotencyScope) -> String {
    let record = scope.record.as_bytes();
    let digest = Sha256::new()
        .chain_update((record.len() as u64).to_be_bytes())
        .chain_update(record)
        .chain_update(&scope.idempotency_key)
        .finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{namespace}:idempotency:{{{hex}}}")
}

/// The write's id and stamp, as one field.
pub(super) fn write(claim: &Claim) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&claim.write_id.0.to_be_bytes());
    bytes[16..].copy_from_slice(&claim.stamp.0.to_be_bytes());
    bytes
}

/// What `claim.lua` answers, or why it makes no sense.
pub(super) fn outcome(fields: Vec<Bytes>) -> Result<ClaimOutcome, String> {
    let mut fields = fields.into_iter();
    let name = fields.next().unwrap_or_default();
    let mut field = |what| fields.next().ok_or_else(|| format!("no {what}"));
    match &name[..] {
        b"claimed" => Ok(ClaimOutcome::Claimed),
        b"answered" => Ok(ClaimOutcome::Answered {
            fingerprint: exactly("fingerprint", &field("fingerprint")?)?,
            answer: field("answer")?,
        }),
        b"pending" => claim(&field("fingerprint")?, &field("write")?, &field("holder")?)
            .map(ClaimOutcome::Pending),
        b"taken over" => claim(&field("fingerprint")?, &field("write")?, &field("holder")?)
            .map(ClaimOutcome::TakenOver),
        _ => Err(format!("an unknown outcome of {} bytes", name.len())),
    }
}

fn claim(fingerprint: &[u8], write: &[u8], holder: &[u8]) -> Result<Claim, String> {
    let write: [u8; 24] = exactly("write", write)?;
    let (write_id, stamp) = write.split_at(16);
    Ok(Claim {
        fingerprint: exactly("fingerprint", fingerprint)?,
        write_id: WriteId(u128::from_be_bytes(exactly("write", write_id)?)),
        stamp: Stamp(u64::from_be_bytes(exactly("write", stamp)?)),
        holder: u64::from_be_bytes(exactly("holder", holder)?),
    })
}

fn exactly<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], String> {
    bytes
        .try_into()
        .map_err(|_| format!("a {what} of {} bytes instead of {N}", bytes.len()))
}
