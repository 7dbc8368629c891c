//! Reads Rust well enough to say which paths its code names: no comments, no strings, no test code.
//!
//! What this is not: a parser. It knows tokens, `use` trees and `#[cfg(test)]`, and nothing of what a path resolves to.

use std::ops::Range;

/// The code of a file that is compiled into the product, and what it leaves to tests.
pub struct Source {
    code: Vec<char>,
    /// The names of the modules in other files that only tests see.
    pub test_modules: Vec<String>,
    /// Whether all of it is test code.
    pub is_test: bool,
}

/// A path as written, with `use` trees taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    pub line: usize,
    pub segments: Vec<String>,
}

impl Source {
    pub fn read(text: &str) -> Self {
        let mut code = without_comments_and_strings(text);
        let is_test = find(&code, "#![cfg(test)]", 0).is_some();
        let mut test_modules = Vec::new();
        for attribute in ["#[cfg(test)]", "#[cfg(all(test,"] {
            let mut from = 0;
            while let Some(start) = find(&code, attribute, from) {
                let item = item_at(&code, start);
                let words: String = code[item.clone()].iter().collect();
                if let Some(module) = words
                    .trim()
                    .strip_suffix(';')
                    .and_then(|words| words.split("mod ").nth(1))
                {
                    test_modules.push(module.trim().to_owned());
                }
                blank(&mut code, start..item.end);
                from = item.end;
            }
        }
        Self {
            code,
            test_modules,
            is_test,
        }
    }

    /// Every path in the code, single names included.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        let (mut at, mut line) = (0, 1);
        while at < self.code.len() {
            if is_name(self.code[at]) && self.is_rooted(at) {
                let end = self.path(at, Vec::new(), line, &mut paths);
                line += self.code[at..end].iter().filter(|c| **c == '\n').count();
                at = end;
            } else {
                let skipped = if is_name(self.code[at]) {
                    self.name(at).len()
                } else {
                    1
                };
                line += usize::from(self.code[at] == '\n');
                at += skipped;
            }
        }
        paths
    }

    /// Neither a field or method, nor the rest of a path like `<T>::name`.
    fn is_rooted(&self, at: usize) -> bool {
        let before = |n: usize| at.checked_sub(n).map_or(' ', |i| self.code[i]);
        match before(1) {
            '.' => before(2) == '.', // a range
            ':' if before(2) == ':' => !is_name(before(3)) && before(3) != '>',
            _ => true,
        }
    }

    /// Takes apart the path or `use` tree at `at`; returns where it ends.
    fn path(
        &self,
        at: usize,
        mut segments: Vec<String>,
        line: usize,
        paths: &mut Vec<Path>,
    ) -> usize {
        let (mut at, mut line) = (at, line);
        loop {
            let name = self.name(at);
            at = name.end;
            segments.push(self.code[name].iter().collect());
            let next = self.skip_space(at);
            if !self.starts_with(next, "::") {
                paths.push(Path { line, segments });
                return at;
            }
            let after = self.skip_space(next + 2);
            line += self.code[at..after].iter().filter(|c| **c == '\n').count();
            match self.code.get(after) {
                Some(c) if is_name(*c) => at = after,
                Some('{') => return self.tree(after, &segments, line, paths),
                _ => {
                    paths.push(Path { line, segments }); // a glob, or a call's type arguments
                    return after;
                }
            }
        }
    }

    fn tree(
        &self,
        open: usize,
        prefix: &[String],
        mut line: usize,
        paths: &mut Vec<Path>,
    ) -> usize {
        let mut at = open + 1;
        while at < self.code.len() {
            match self.code[at] {
                '}' => return at + 1,
                c if is_name(c) => {
                    let end = self.path(at, prefix.to_vec(), line, paths);
                    line += self.code[at..end].iter().filter(|c| **c == '\n').count();
                    at = self.skip_rename(end);
                }
                c => {
                    line += usize::from(c == '\n');
                    at += 1;
                }
            }
        }
        at
    }

    fn skip_rename(&self, at: usize) -> usize {
        let start = self.skip_space(at);
        let word = self.name(start);
        if self.code[word.clone()] == ['a', 's'] {
            self.name(self.skip_space(word.end)).end
        } else {
            at
        }
    }

    fn name(&self, start: usize) -> Range<usize> {
        let length = self.code[start..]
            .iter()
            .take_while(|c| is_name(**c))
            .count();
        start..start + length
    }

    fn skip_space(&self, at: usize) -> usize {
        at + self.code[at..]
            .iter()
            .take_while(|c| c.is_whitespace())
            .count()
    }

    fn starts_with(&self, at: usize, word: &str) -> bool {
        word.chars()
            .enumerate()
            .all(|(i, c)| self.code.get(at + i) == Some(&c))
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(code: &[char], word: &str, from: usize) -> Option<usize> {
    let word: Vec<char> = word.chars().collect();
    code[from..]
        .windows(word.len())
        .position(|window| *window == word[..])
        .map(|at| from + at)
}

/// Blanks out, so that line numbers stay.
fn blank(code: &mut [char], range: Range<usize>) {
    code[range]
        .iter_mut()
        .filter(|c| **c != '\n')
        .for_each(|c| *c = ' ');
}

/// The item after the attributes that start at `start`, to its last brace or semicolon.
fn item_at(code: &[char], start: usize) -> Range<usize> {
    let mut begin = start;
    while code.get(begin) == Some(&'#') {
        begin = closing(code, begin + 1) + 1;
        begin += code[begin..]
            .iter()
            .take_while(|c| c.is_whitespace())
            .count();
    }
    let mut at = begin;
    while at < code.len() {
        match code[at] {
            ';' => return begin..at + 1,
            '{' => return begin..closing(code, at) + 1,
            '(' | '[' => at = closing(code, at),
            _ => {}
        }
        at += 1;
    }
    begin..at
}

/// Where the bracket at `open` is closed.
fn closing(code: &[char], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.iter().enumerate().skip(open) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len() - 1
}

fn without_comments_and_strings(text: &str) -> Vec<char> {
    let mut code: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < code.len() {
        let end = skipped(&code, at);
        if end > at {
            blank(&mut code, at..end.min(text.len()));
            at = end;
        } else {
            at += 1;
        }
    }
    code
}

/// Where the comment, string or character that starts at `at` ends; `at` if none does.
fn skipped(code: &[char], at: usize) -> usize {
    let peek = |n: usize| code.get(at + n).copied().unwrap_or(' ');
    let until = |word: &str, from: usize| {
        find(code, word, from.min(code.len())).map_or(code.len(), |i| i + word.len())
    };
    match (peek(0), peek(1)) {
        ('/', '/') => until("\n", at) - 1,
        ('/', '*') => block_comment(code, at),
        ('"', _) => string(code, at + 1, '"'),
        ('r', '"' | '#')
            if at == 0 || !is_name(code[at - 1]) || matches!(code[at - 1], 'b' | 'c') =>
        {
            let hashes = code[at + 1..].iter().take_while(|c| **c == '#').count();
            if peek(1 + hashes) != '"' {
                return at; // a raw name
            }
            until(&format!("\"{}", "#".repeat(hashes)), at + 2 + hashes)
        }
        ('\'', '\\') => string(code, at + 1, '\''),
        ('\'', _) if peek(2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment(code: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at + 1 < code.len() {
        match (code[at], code[at + 1]) {
            ('/', '*') => (at, depth) = (at + 2, depth + 1),
            ('*', '/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

fn string(code: &[char], mut at: usize, quote: char) -> usize {
    while at < code.len() {
        match code[at] {
            '\\' => at += 1,
            c if c == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    code.len()
}
