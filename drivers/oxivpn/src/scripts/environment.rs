//! A set of variables for a script (`openvpn: env_set.c`).

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Variables in the order in which they were first set. What is not allowed in names and values becomes `_`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// No variables.
    pub const fn new() -> Self {
        Self { variables: Vec::new() }
    }

    /// Sets `name`, or changes it.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        let name = clean_name(name);
        let mut value = clean_value(&Zeroizing::new(value.to_string()));
        match self.variables.iter_mut().find(|(present, _)| *present == name) {
            Some((_, present)) => core::mem::swap(present, &mut value),
            None => self.variables.push((name, core::mem::take(&mut value))),
        }
        value.zeroize();
    }

    /// Sets `name`, or `name_1`, `name_2` ... if it is taken (`openvpn: env_set.c`, `setenv_str_incr`).
    pub fn add(&mut self, name: &str, value: impl fmt::Display) {
        let name = clean_name(name);
        let free = core::iter::once(name.clone())
            .chain((1..1000).map(|count| format!("{name}_{count}")))
            .find(|candidate| self.get(candidate).is_none());
        if let Some(free) = free {
            self.set(&free, value);
        }
    }

    /// Takes `name` away.
    pub fn remove(&mut self, name: &str) {
        self.remove_where(|present| present == name);
    }

    /// Takes all variables away whose names begin with `prefix`.
    pub fn remove_all(&mut self, prefix: &str) {
        self.remove_where(|present| present.starts_with(prefix));
    }

    fn remove_where(&mut self, gone: impl Fn(&str) -> bool) {
        self.variables.retain_mut(|(name, value)| {
            let gone = gone(name);
            if gone {
                value.zeroize();
            }
            !gone
        });
    }

    /// Sets all variables of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (name, value) in other {
            self.set(name, value);
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.into_iter()
    }
}

impl<'a> IntoIterator for &'a Environment {
    type Item = (&'a str, &'a str);
    type IntoIter = core::iter::Map<
        core::slice::Iter<'a, (String, String)>,
        fn(&'a (String, String)) -> (&'a str, &'a str),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.variables.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| !is_secret(name);
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, if shown(name) { value } else { "[redacted]" })))
            .finish()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        for (name, value) in &mut self.variables {
            if is_secret(name) {
                value.zeroize();
            }
        }
    }
}

/// Whether a variable may hold a password; scripts get it with `script-security 3` only.
pub(super) fn is_secret(name: &str) -> bool {
    name.starts_with("password")
}

fn clean_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Control characters become `_`; this also is what OpenVPN makes of user names and passwords.
pub(super) fn clean_value(value: &str) -> String {
    value.chars().map(|c| if c.is_ascii_control() { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_cleaned() {
        let mut env = Environment::new();
        env.set("X509_0_a.b=c d", "one\ntwo\x7f\0 $(id) `x` ü");
        assert_eq!(env.iter().collect::<Vec<_>>(), [("X509_0_a_b_c_d", "one_two__ $(id) `x` ü")]);
    }

    #[test]
    fn a_name_has_one_value_and_keeps_its_place() {
        let mut env = Environment::new();
        env.set("a", 1);
        env.set("b", 2);
        env.set("a", 3);
        assert_eq!(env.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        env.remove("a");
        env.remove("nothing");
        assert_eq!(env.iter().collect::<Vec<_>>(), [("b", "2")]);
        let mut other = Environment::new();
        other.set("c", "");
        other.set("b", 4);
        env.extend(&other);
        assert_eq!(env.iter().collect::<Vec<_>>(), [("b", "4"), ("c", "")]);
    }

    #[test]
    fn further_values_are_numbered() {
        let mut env = Environment::new();
        for unit in ["one", "two", "three"] {
            env.add("X509_0_OU", unit);
        }
        let names: Vec<_> = env.iter().collect();
        assert_eq!(names, [("X509_0_OU", "one"), ("X509_0_OU_1", "two"), ("X509_0_OU_2", "three")]);
        env.remove_all("X509_");
        assert_eq!(env.iter().count(), 0);
    }

    #[test]
    fn passwords_are_not_printed() {
        let mut env = Environment::new();
        env.set("password", "hunter2");
        env.set("username", "ann");
        let text = format!("{env:?}");
        assert!(text.contains("ann") && !text.contains("hunter2"), "{text}");
    }
}
