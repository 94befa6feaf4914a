//! The account that runs the program.

/// Returns the name of the account, or its number.
pub fn name() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(variable);
    named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}
