//! The name of a record, as bytes in the order in which records are kept.

use bytes::{BufMut, Bytes, BytesMut};

use super::tenant::TenantId;
use crate::mutant::{self, Mutant};
use crate::placement::PartitionId;

/// The name of a record everywhere behind the coordinator's front: partition, tenant and key in one byte string, in
/// an order that keeps a partition's records together.
///
/// Layout: partition (2 bytes, big endian), length of the tenant's name (1 byte), the name, the key. The tenant's name
/// is a [`TenantId`], the key has 1 to [`RecordKey::KEY_BYTES_MAX`] bytes; whatever holds one may rely on that, as
/// storage engines do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordKey(Bytes);

/// Why bytes are not a record's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0} bytes are not a record key: partition, tenant or key is missing, malformed or too long"
)]
pub struct RecordKeyError(pub(super) usize);

impl RecordKey {
    /// The longest client's key, in bytes.
    pub const KEY_BYTES_MAX: usize = 1024;

    /// Encodes the name. A key of no bytes, or of more than [`RecordKey::KEY_BYTES_MAX`], is refused by whoever
    /// receives it.
    #[must_use]
    pub fn new(partition: PartitionId, tenant: &TenantId, key: &str) -> Self {
        let tenant = tenant.as_str().as_bytes();
        let mut bytes = BytesMut::with_capacity(3 + tenant.len() + key.len());
        bytes.put_u16(partition.0);
        let len = match mutant::on(Mutant::RecordKeyMixedUp) {
            true => 1,
            false => tenant.len(),
        };
        bytes.put_u8(len as u8); // a TenantId has at most 255 bytes
        bytes.put_slice(tenant);
        bytes.put_slice(key.as_bytes());
        Self(bytes.freeze())
    }

    /// Takes bytes that came from outside.
    ///
    /// # Errors
    /// When they are not what [`RecordKey::new`] makes.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, RecordKeyError> {
        let malformed = RecordKeyError(bytes.len());
        let tenant_len = usize::from(*bytes.get(2).ok_or(malformed)?);
        let tenant = bytes.get(3..3 + tenant_len).ok_or(malformed)?;
        let key = bytes.get(3 + tenant_len..).ok_or(malformed)?;
        let well_formed = (1..=Self::KEY_BYTES_MAX).contains(&key.len())
            && is_tenant(tenant)
            && str::from_utf8(key).is_ok();
        if well_formed {
            Ok(Self(bytes))
        } else {
            Err(malformed)
        }
    }

    /// The encoded name.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        PartitionId(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// The tenant's name.
    #[must_use]
    pub fn tenant(&self) -> &str {
        str::from_utf8(&self.0[3..3 + usize::from(self.0[2])]).unwrap_or_default()
    }

    /// The client's key.
    #[must_use]
    pub fn key(&self) -> &str {
        str::from_utf8(&self.0[3 + usize::from(self.0[2])..]).unwrap_or_default()
    }
}

/// Whether these bytes are a tenant's name.
pub(super) fn is_tenant(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(|name| TenantId::check(name).is_ok())
}
