//! Keys: the gallery's own, from a file or a passphrase, and those of the people in it.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{GalleryError, Result};

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes of the salt of a passphrase.
pub(crate) const SALT: usize = 16;
/// The most memory that a header may ask for, KiB: a hostile one must not exhaust the machine.
const MOST_MEMORY_KIB: u32 = 1 << 20;
/// The most passes that a header may ask for.
const MOST_PASSES: u32 = 32;
/// The fewest characters of a passphrase for a new gallery.
const LEAST_PASSPHRASE: usize = 8;

/// 32 secret bytes, erased from memory when they are dropped.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; KEY]>);

impl Key {
    pub(crate) fn from_bytes(bytes: [u8; KEY]) -> Key {
        Key(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// The secret that opens a gallery: the content of a key file, or a passphrase. It is erased from memory when it is dropped.
#[derive(Clone)]
pub struct KeySource(Source);

#[derive(Clone)]
enum Source {
    File(Key),
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeySource({})", self.kind())
    }
}

impl KeySource {
    /// Reads the content of a key file: 32 bytes, or 64 hexadecimal digits with or without a line end.
    ///
    /// # Errors
    /// For any other content.
    pub fn from_file_content(content: &[u8]) -> Result<KeySource, GalleryError> {
        let text = content.strip_suffix(b"\n").unwrap_or(content);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let digits = || text.iter().map(|&byte| (byte as char).to_digit(16).map(|digit| digit as u8));
        let mut key = Key::from_bytes([0; KEY]);
        if content.len() == KEY {
            key.0.copy_from_slice(content);
        } else if text.len() == 2 * KEY && digits().all(|digit| digit.is_some()) {
            for (index, digit) in digits().flatten().enumerate() {
                key.0[index / 2] = key.0[index / 2] << 4 | digit;
            }
        } else {
            let length = content.len();
            return Err(GalleryError::Key(format!(
                "a key is 32 bytes or 64 hexadecimal digits, this has {length} bytes: `faceptor gallery make-key FILE` \
                 makes one"
            )));
        }
        if key.0.iter().all(|&byte| byte == key.0[0]) {
            return Err(GalleryError::Key(
                "this key is one byte repeated: make one with `faceptor gallery make-key FILE`".into(),
            ));
        }
        Ok(KeySource(Source::File(key)))
    }

    /// Takes a passphrase, from which argon2id derives the key.
    ///
    /// # Errors
    /// For a passphrase of fewer than eight characters.
    pub fn from_passphrase(passphrase: &str) -> Result<KeySource, GalleryError> {
        if passphrase.chars().count() < LEAST_PASSPHRASE {
            return Err(GalleryError::Key(format!("a passphrase needs at least {LEAST_PASSPHRASE} characters")));
        }
        Ok(KeySource(Source::Passphrase(Zeroizing::new(passphrase.to_owned()))))
    }

    /// Reports whether the secret is a passphrase.
    pub fn is_passphrase(&self) -> bool {
        matches!(self.0, Source::Passphrase(_))
    }

    /// Returns the kind of source in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.0 {
            Source::File(_) => "a key file",
            Source::Passphrase(_) => "a passphrase",
        }
    }

    /// Returns how a new gallery stores the way to its key.
    pub(crate) fn derivation(&self, salt: [u8; SALT], cost: PassphraseCost) -> Derivation {
        match self.0 {
            Source::File(_) => Derivation::File,
            Source::Passphrase(_) => Derivation::Passphrase { salt, cost },
        }
    }

    /// Computes the gallery's key.
    pub(crate) fn key(&self, derivation: &Derivation) -> Result<Key> {
        match (&self.0, derivation) {
            (Source::File(key), Derivation::File) => Ok(key.clone()),
            (Source::Passphrase(passphrase), Derivation::Passphrase { salt, cost }) => cost.derive(passphrase, salt),
            _ => Err(GalleryError::OtherKeySource { expected: derivation.kind(), found: self.kind() }),
        }
    }
}

/// Cost parameters of argon2id for a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassphraseCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
}

impl Default for PassphraseCost {
    /// Returns 64 MiB and three passes, as RFC 9106 recommends where memory is scarce: about a quarter of a second.
    fn default() -> PassphraseCost {
        PassphraseCost { memory_kib: 64 << 10, passes: 3 }
    }
}

impl PassphraseCost {
    fn derive(self, passphrase: &str, salt: &[u8; SALT]) -> Result<Key> {
        let refused = || GalleryError::DamagedHeader("it asks for more memory or passes than a passphrase may cost");
        if self.memory_kib > MOST_MEMORY_KIB || self.passes > MOST_PASSES {
            return Err(refused());
        }
        let parameters = Params::new(self.memory_kib, self.passes, 1, Some(KEY)).map_err(|_| refused())?;
        let mut key = Key::from_bytes([0; KEY]);
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
        argon.hash_password_into(passphrase.as_bytes(), salt, &mut *key.0).map_err(|_| refused())?;
        Ok(key)
    }
}

/// The way from a source to the gallery's key, as the header stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derivation {
    /// The file is the key.
    File,
    /// Argon2id of the passphrase is the key.
    Passphrase { salt: [u8; SALT], cost: PassphraseCost },
}

impl Derivation {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Derivation::File => "a key file",
            Derivation::Passphrase { .. } => "a passphrase",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &[u8]) -> [u8; KEY] {
        *KeySource::from_file_content(content).expect("a key").key(&Derivation::File).expect("a file's").bytes()
    }

    #[test]
    fn file_holds_bytes_or_digits() {
        let key: [u8; KEY] = std::array::from_fn(|index| index as u8);
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        for content in [digits.clone(), digits.to_uppercase(), format!("{digits}\n"), format!("{digits}\r\n")] {
            assert_eq!(bytes(content.as_bytes()), key);
        }
        assert_eq!(bytes(&key), key);
        for content in [&b""[..], b"secret", &[1; 31], &[1; 33], &[b'g'; 64], &[7; 32]] {
            let error = KeySource::from_file_content(content).expect_err("refused").to_string();
            assert!(error.contains("make-key"), "{error}");
        }
    }

    #[test]
    fn passphrase_gives_another_key_with_another_salt_and_cost() {
        let source = KeySource::from_passphrase("a long sentence").expect("long enough");
        let cost = PassphraseCost { memory_kib: 64, passes: 1 };
        let key = |salt, cost| *source.key(&Derivation::Passphrase { salt, cost }).expect("derived").bytes();
        assert_eq!(key([1; SALT], cost), key([1; SALT], cost));
        assert_ne!(key([1; SALT], cost), key([2; SALT], cost));
        assert_ne!(key([1; SALT], cost), key([1; SALT], PassphraseCost { passes: 2, ..cost }));
        assert!(KeySource::from_passphrase("short").is_err());
    }

    #[test]
    fn hostile_cost_and_other_sources_are_refused() {
        let source = KeySource::from_passphrase("a long sentence").expect("long enough");
        for cost in [PassphraseCost { memory_kib: u32::MAX, passes: 1 }, PassphraseCost { memory_kib: 64, passes: 99 }]
        {
            let derivation = Derivation::Passphrase { salt: [0; SALT], cost };
            assert!(matches!(source.key(&derivation), Err(GalleryError::DamagedHeader(_))));
        }
        let error = source.key(&Derivation::File).expect_err("another source").to_string();
        assert_eq!(error, "this gallery is opened with a key file, not with a passphrase");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let source = KeySource::from_passphrase("a long sentence").expect("long enough");
        assert_eq!(format!("{source:?} {:?}", Key::from_bytes([1; KEY])), "KeySource(a passphrase) Key(..)");
    }
}
