//! The places of a source file that mutants are about: how far an operator's expression reaches, where a function's
//! body begins.
//!
//! `cargo mutants` says where a mutant begins; what has to be put behind a switch is more than that. A place is found
//! by the offset at which its mutants begin.

use std::collections::BTreeMap;
use std::ops::Range;

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Pat, ReturnType, Signature, Type, UnOp};

/// Bytes of a source file.
pub type Bytes = Range<usize>;

/// Something that a mutant changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// `left op right`.
    Binary {
        /// All of it.
        whole: Bytes,
        /// What stands before the operator.
        left: Bytes,
        /// What stands after it.
        right: Bytes,
        /// Whether it joins conditions of which one is a `let`, which may stand in no parentheses.
        joins_lets: bool,
    },
    /// `op operand`.
    Unary {
        /// All of it.
        whole: Bytes,
        /// What stands after the operator.
        operand: Bytes,
    },
    /// An arm of a `match` without a condition.
    Arm {
        /// Where its pattern ends.
        pattern_end: usize,
        /// Whether no other arm takes what it leaves.
        is_needed: bool,
    },
    /// The condition of an arm.
    Guard(Bytes),
    /// A field of a struct that has a default.
    Field {
        /// The whole struct.
        whole: Bytes,
        /// What is left without the field.
        without: Vec<Bytes>,
    },
    /// What a function does.
    Body(Function),
}

/// A function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name, without where it is.
    pub name: String,
    /// Everything between its braces.
    pub body: Bytes,
    /// The word `const` before it, if there is one.
    pub constant: Option<Bytes>,
    /// Whether it returns `impl Trait`, so that it can't return something of another type early.
    pub is_opaque: bool,
}

/// All places of a file.
#[derive(Clone, Default, Debug)]
pub struct Places {
    /// By the offset at which their mutants begin. A guard and an expression in it may begin at the same.
    at: BTreeMap<usize, Vec<Place>>,
    /// What only counts while a planted bug is put back.
    planted: Vec<Bytes>,
}

impl Places {
    /// Reads a file.
    ///
    /// # Errors
    /// Says why it is no Rust.
    pub fn read(source: &str) -> Result<Self, String> {
        let file = syn::parse_file(source).map_err(|error| error.to_string())?;
        let mut places = Self::default();
        places.visit_file(&file);
        Ok(places)
    }

    /// The places whose mutants begin at `offset`.
    pub fn at(&self, offset: usize) -> impl Iterator<Item = &Place> {
        self.at.get(&offset).into_iter().flatten()
    }

    /// The innermost function that has `offset` in it.
    #[must_use]
    pub fn function_of(&self, offset: usize) -> Option<&Function> {
        self.at
            .values()
            .flatten()
            .filter_map(|place| match place {
                Place::Body(function) if function.body.contains(&offset) => Some(function),
                _ => None,
            })
            .min_by_key(|function| function.body.len())
    }

    /// Whether `offset` is in what only counts while a planted bug is put back, which it is not.
    #[must_use]
    pub fn is_planted(&self, offset: usize) -> bool {
        self.planted.iter().any(|part| part.contains(&offset))
    }

    fn add(&mut self, begins: Span, place: Place) {
        let start = begins.byte_range().start;
        self.at.entry(start).or_default().push(place);
    }

    fn add_function(&mut self, signature: &Signature, block: &syn::Block) {
        let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) else {
            return;
        };
        let body = first.span().byte_range().start..last.span().byte_range().end;
        let constant = signature
            .constness
            .as_ref()
            .map(|word| word.span.byte_range());
        let is_opaque = match &signature.output {
            ReturnType::Default => false,
            ReturnType::Type(_, returned) => has_opaque(returned),
        };
        let name = signature.ident.to_string();
        let function = Function {
            name,
            body,
            constant,
            is_opaque,
        };
        self.add(first.span(), Place::Body(function));
    }
}

impl<'ast> Visit<'ast> for Places {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add_function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add_function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add_function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if matches!(binary.op, BinOp::And(_)) {
            for (switch, other) in [(&binary.left, &binary.right), (&binary.right, &binary.left)] {
                if is_switch(switch) {
                    self.planted.push(other.span().byte_range());
                }
            }
        }
        let joins = matches!(binary.op, BinOp::And(_) | BinOp::Or(_));
        let place = Place::Binary {
            whole: binary.span().byte_range(),
            left: binary.left.span().byte_range(),
            right: binary.right.span().byte_range(),
            joins_lets: joins && (has_let(&binary.left) || has_let(&binary.right)),
        };
        self.add(binary.op.span(), place);
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        if matches!(unary.op, UnOp::Not(_) | UnOp::Neg(_)) {
            let place = Place::Unary {
                whole: unary.span().byte_range(),
                operand: unary.expr.span().byte_range(),
            };
            self.add(unary.op.span(), place);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_if(&mut self, conditional: &'ast syn::ExprIf) {
        if needs_switch(&conditional.cond) {
            let part = conditional.then_branch.span().byte_range();
            self.planted.push(part);
        }
        visit::visit_expr_if(self, conditional);
    }

    fn visit_expr_match(&mut self, choice: &'ast syn::ExprMatch) {
        let is_default = |arm: &syn::Arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none();
        let is_needed = !choice.arms.iter().any(is_default);
        for arm in &choice.arms {
            match &arm.guard {
                None => {
                    let pattern_end = arm.pat.span().byte_range().end;
                    let place = Place::Arm {
                        pattern_end,
                        is_needed,
                    };
                    self.add(arm.span(), place);
                }
                Some((_, guard)) => {
                    self.add(guard.span(), Place::Guard(guard.span().byte_range()));
                }
            }
        }
        if is_switch(&choice.expr) {
            let is_on = |arm: &&syn::Arm| arm.pat.to_token_stream().to_string() == "true";
            let arms = choice.arms.iter().filter(is_on);
            self.planted.extend(arms.map(|arm| arm.span().byte_range()));
        }
        visit::visit_expr_match(self, choice);
    }

    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        if literal.rest.is_some() {
            let whole = literal.span().byte_range();
            for pair in literal.fields.pairs() {
                let field = pair.value().span().byte_range();
                let end = pair
                    .punct()
                    .map_or(field.end, |comma| comma.span().byte_range().end);
                let without = vec![whole.start..field.start, end..whole.end];
                let whole = whole.clone();
                self.add(pair.value().span(), Place::Field { whole, without });
            }
        }
        visit::visit_expr_struct(self, literal);
    }
}

/// Is it `mutant::on(…)`?
fn is_switch(condition: &Expr) -> bool {
    let Expr::Call(call) = condition else {
        return false;
    };
    let path = call.func.to_token_stream().to_string();
    path.ends_with("mutant :: on")
}

/// Does it hold only while a planted bug is put back?
fn needs_switch(condition: &Expr) -> bool {
    match condition {
        Expr::Binary(binary) => {
            matches!(binary.op, BinOp::And(_))
                && (needs_switch(&binary.left) || needs_switch(&binary.right))
        }
        _ => is_switch(condition),
    }
}

/// Does the type name `impl Trait` anywhere?
fn has_opaque(returned: &Type) -> bool {
    struct Opaque(bool);
    impl<'ast> Visit<'ast> for Opaque {
        fn visit_type_impl_trait(&mut self, _: &'ast syn::TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut opaque = Opaque(false);
    opaque.visit_type(returned);
    opaque.0
}

/// Is it a `let`, or several conditions of which one is a `let`?
fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_only_with_a_planted_bug_is_told() {
        let source = "fn f() { let a = x > 1 && mutant::on(M); \
                      if y > 1 && mutant::on(M) { b > 1 } \
                      let c = match mutant::on(M) { true => z > 1, false => v > 1 }; \
                      if !mutant::on(M) { w > 1 } u > 1 || mutant::on(M) }";
        let places = Places::read(source).expect("Rust");
        let is_planted = |text: &str| places.is_planted(source.find(text).expect("it is there"));
        for text in ["x > 1", "y > 1", "b > 1", "z > 1"] {
            assert!(is_planted(text), "{text}");
        }
        for text in ["v > 1", "w > 1", "u > 1", "&& mutant"] {
            assert!(!is_planted(text), "{text}");
        }
    }
}
