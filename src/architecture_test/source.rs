//! What a file of Rust says to the rules: the names it uses, those it defines, and the modules it opens. Code that only
//! tests see is left out.
//!
//! What this is not: a parser, which `syn` is, nor a compiler. It knows nothing of types, nor of what a macro makes:
//! what is handed to a macro is searched for paths, word by word.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta, TraitItem, UseTree, Visibility};

/// A path as written, with `use` trees taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    pub line: usize,
    pub segments: Vec<String>,
    pub named: As,
}

/// How a path is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum As {
    /// In code. A name by itself is no module then.
    Used,
    /// In what a macro makes, wherever it is called.
    Made,
    /// By `use`.
    Imported,
    /// By `pub use`, which only shows in another place what is defined elsewhere.
    HandedOn,
}

/// A module, as far as one file spells it out.
#[derive(Default, Debug)]
pub struct Module {
    /// Every path in the code, single names included, in the order of their lines.
    pub paths: Vec<Path>,
    /// What it defines itself. (Names of functions' own are taken for the module's.)
    pub items: BTreeSet<String>,
    /// What it calls things from elsewhere.
    pub imports: BTreeMap<String, Vec<String>>,
    /// From where it takes all there is.
    pub globs: Vec<Vec<String>>,
    /// The modules in it.
    pub children: BTreeMap<String, Child>,
    /// The modules in other files that only tests see.
    pub test_modules: Vec<String>,
}

/// A module in a module.
#[derive(Debug)]
pub enum Child {
    /// Spelled out on the spot.
    Here(Module),
    /// In a file of its own.
    InFile,
}

/// The code of a file that is compiled into the product, and what it leaves to tests.
pub struct Source {
    /// What the product sees of it.
    pub module: Module,
    /// Whether all of it is test code.
    pub is_test: bool,
}

impl Source {
    /// # Panics
    /// If the text is no Rust: the compiler would refuse it as well.
    pub fn read(text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| {
            let line = error.span().start().line;
            panic!(
                "line {line} is no Rust ({error}): {:?}",
                text.lines().nth(line - 1)
            )
        });
        let mut reader = Reader::default();
        reader.visit_file(&file);
        Self {
            module: reader.module,
            is_test: file.attrs.iter().any(is_of_tests),
        }
    }

    /// Every path in the file, those of the modules in it included.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = self.module.all_paths();
        paths.sort_by_key(|path| path.line);
        paths
    }
}

impl Module {
    fn all_paths(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.paths.iter().collect();
        for child in self.children.values() {
            if let Child::Here(module) = child {
                paths.extend(module.all_paths());
            }
        }
        paths
    }
}

/// Reads the module that it is in.
#[derive(Default)]
struct Reader {
    module: Module,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes(item).iter().any(is_of_tests) {
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                self.module.test_modules.push(module.ident.to_string());
            }
            return;
        }
        match item {
            Item::Mod(module) => return self.open(module),
            Item::Macro(made) if made.ident.is_some() => {
                self.module.items.extend(name(item));
                let before = self.module.paths.len();
                self.search(made.mac.tokens.clone());
                let made = self.module.paths.iter_mut().skip(before);
                return made.for_each(|path| path.named = As::Made);
            }
            Item::Use(import) => {
                let named = match import.vis {
                    Visibility::Inherited => As::Imported,
                    _ => As::HandedOn,
                };
                return self.import(&import.tree, &[], named);
            }
            item => self.module.items.extend(name(item)),
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !attributes.iter().any(is_of_tests) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !attributes.iter().any(is_of_tests) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !local.attrs.iter().any(is_of_tests) {
            visit::visit_local(self, local);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !field.attrs.iter().any(is_of_tests) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !field.attrs.iter().any(is_of_tests) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !variant.attrs.iter().any(is_of_tests) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !arm.attrs.iter().any(is_of_tests) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.name(path.segments.iter().map(|segment| &segment.ident));
        visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        match &path.qself {
            Some(qself) => self.of_type(qself, &path.path),
            None => visit::visit_expr_path(self, path),
        }
    }

    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        match &path.qself {
            Some(qself) => self.of_type(qself, &path.path),
            None => visit::visit_type_path(self, path),
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.search(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        visit::visit_attribute(self, attribute);
        if let Meta::List(list) = &attribute.meta {
            self.search(list.tokens.clone());
        }
    }
}

impl Reader {
    /// A path of these names is in the code.
    fn name<'i>(&mut self, names: impl IntoIterator<Item = &'i Ident>) {
        let mut line = 0;
        let mut segment = |name: &Ident| {
            line = name.span().end().line;
            name.to_string()
        };
        let segments: Vec<String> = names.into_iter().map(&mut segment).collect();
        if !segments.is_empty() {
            self.module.paths.push(Path {
                line,
                segments,
                named: As::Used,
            });
        }
    }

    fn open(&mut self, module: &syn::ItemMod) {
        let child = match &module.content {
            None => Child::InFile,
            Some((_, items)) => {
                let mut reader = Self::default();
                items.iter().for_each(|item| reader.visit_item(item));
                Child::Here(reader.module)
            }
        };
        self.module.children.insert(module.ident.to_string(), child);
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], named: As) {
        let (last, called) = match tree {
            UseTree::Path(path) => {
                let prefix = [prefix, &[path.ident.to_string()]].concat();
                return self.import(&path.tree, &prefix, named);
            }
            UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.import(tree, prefix, named));
            }
            UseTree::Glob(glob) => {
                self.module.globs.push(prefix.to_vec());
                self.module.paths.push(Path {
                    line: glob.star_token.spans[0].end().line,
                    segments: prefix.to_vec(),
                    named,
                });
                return;
            }
            UseTree::Name(name) => (&name.ident, None),
            UseTree::Rename(rename) => (&rename.ident, Some(rename.rename.to_string())),
        };
        let mut segments = prefix.to_vec();
        if last != "self" || segments.is_empty() {
            segments.push(last.to_string());
        }
        let called = called.or_else(|| segments.last().cloned());
        self.module.paths.push(Path {
            line: last.span().end().line,
            segments: segments.clone(),
            named,
        });
        self.module
            .imports
            .extend(called.map(|called| (called, segments)));
    }

    /// `<T as a::Trait>::name` names T and `a::Trait`.
    fn of_type(&mut self, qself: &syn::QSelf, path: &syn::Path) {
        self.visit_qself(qself);
        let of_trait = path.segments.iter().take(qself.position);
        self.name(of_trait.map(|segment| &segment.ident));
        for segment in &path.segments {
            self.visit_path_arguments(&segment.arguments);
        }
    }

    /// Looks for paths in what nobody has parsed.
    fn search(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: Option<usize>, wanted: char| {
            let token = at.and_then(|at| tokens.get(at));
            matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
        };
        let mut at = 0;
        while at < tokens.len() {
            let before = |n: usize| at.checked_sub(n);
            // Neither a field or method (a range has two points), nor a lifetime, nor the rest of `<T>::name`.
            let goes_on = is(before(1), '.') && !is(before(2), '.')
                || is(before(1), '\'')
                || is(before(1), ':') && is(before(2), ':') && is(before(3), '>');
            match &tokens[at] {
                TokenTree::Group(group) => self.search(group.stream()),
                TokenTree::Ident(first) if !goes_on => {
                    let mut names = vec![first];
                    while is(Some(at + 1), ':')
                        && is(Some(at + 2), ':')
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        names.push(next);
                        at += 3;
                    }
                    self.name(names);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// What an item defines, if that has a name.
fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether what has this attribute is compiled for tests only: `#[cfg(test)]`, or `#[cfg(all(.., test))]`.
fn is_of_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<Meta>()
            .is_ok_and(|condition| needs_test(&condition))
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => {
            let all = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
            list.parse_args_with(all)
                .is_ok_and(|all| all.iter().any(needs_test))
        }
        _ => false,
    }
}
