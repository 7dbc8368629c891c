//! Who asks, and whether that is enough for what is asked.

use super::super::right::{ADMIN, Right};
use super::Refused;
use crate::ports::{TenantId, TenantRole};

/// The greatest right that these roles give; roles of others mean nothing here.
pub(super) fn greatest_right<'r>(roles: impl Iterator<Item = &'r str>) -> Option<Right> {
    let right = |role: &str| match role {
        ADMIN => Some(Right::Admin),
        role => role.parse::<TenantRole>().ok().map(Right::from),
    };
    roles.filter_map(right).max()
}

/// Whoever holds a valid token. Each right includes those below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// The tenant that the token names and is good for; only an administrator's may name none, and is good for all.
    pub(super) tenant: Option<TenantId>,
    /// `None`: the token gives no role that means anything here.
    pub(super) right: Option<Right>,
}

impl Caller {
    /// Whoever has the administrator's key.
    pub(super) const ADMINISTRATOR: Self = Self {
        tenant: None,
        right: Some(Right::Admin),
    };

    /// Whether it may do what needs `right` to anything.
    pub(super) fn has(&self, right: Right) -> Result<(), Refused> {
        match self.right < Some(right) {
            false => Ok(()),
            true => {
                let needed = right.role();
                let why = format!("the token lacks the role {needed}");
                Err(Refused::Forbidden(why))
            }
        }
    }

    /// Whether it may do what needs `right`, to this tenant if it is about one.
    pub(super) fn may(&self, right: Right, tenant: Option<&str>) -> Result<(), Refused> {
        self.has(right)?;
        match (&self.tenant, tenant) {
            (Some(own), asked) if asked != Some(own.as_str()) => Err(Refused::Forbidden(format!(
                "the token is for tenant '{own}' only"
            ))),
            (None, _) if self.right < Some(Right::Admin) => Err(Refused::Forbidden(
                "the token names no tenant (claim tenant_id)".into(),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(tenant: Option<&str>, right: Option<Right>) -> Caller {
        let tenant = tenant.map(|name| TenantId::new(name).unwrap());
        Caller { tenant, right }
    }

    #[test]
    fn a_right_includes_those_below_and_one_tenant_only() {
        use Right::{Admin, Read, Write};
        for (own, has, needs, asked, allowed) in [
            (Some("a"), Some(Read), Read, Some("a"), true),
            (Some("a"), Some(Read), Write, Some("a"), false),
            (Some("a"), Some(Read), Read, Some("b"), false),
            (Some("a"), Some(Read), Read, Some(""), false),
            (Some("a"), Some(Write), Read, Some("a"), true),
            (Some("a"), Some(Write), Write, Some("a"), true),
            (Some("a"), Some(Write), Write, Some("A"), false),
            (Some("a"), Some(Write), Admin, None, false),
            (Some("a"), Some(Admin), Admin, None, false),
            (Some("a"), Some(Admin), Admin, Some("a"), true),
            (Some("a"), Some(Admin), Write, Some("a"), true),
            (Some("a"), Some(Admin), Admin, Some("b"), false),
            (None, Some(Admin), Admin, None, true),
            (None, Some(Admin), Read, Some("b"), true),
            (None, Some(Write), Read, Some("b"), false),
            (Some("a"), None, Read, Some("a"), false),
        ] {
            let outcome = caller(own, has).may(needs, asked);
            assert_eq!(
                outcome.is_ok(),
                allowed,
                "{own:?} {has:?} {needs:?} {asked:?}"
            );
        }
    }

    #[test]
    fn the_greatest_role_counts_and_unknown_ones_do_not() {
        let greatest = |roles: &[&'static str]| greatest_right(roles.iter().copied());
        assert_eq!(
            greatest(&["tenant-write", "tenant-read", "chef"]),
            Some(Right::Write)
        );
        assert_eq!(greatest(&["admin", "tenant-read"]), Some(Right::Admin));
        assert_eq!(greatest(&["Admin", ""]), None);
    }
}
