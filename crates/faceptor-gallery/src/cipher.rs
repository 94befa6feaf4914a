//! Authenticated encryption: XChaCha20-Poly1305 with random nonces, which are long enough to be drawn at random.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::error::{GalleryError, Result};
use crate::key::Key;
use crate::platform::Platform;

/// Bytes of a nonce.
pub(crate) const NONCE: usize = 24;
/// Bytes of an authentication tag.
pub(crate) const TAG: usize = 16;
/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = NONCE + TAG;

/// Encrypts `plain` and authenticates it together with `context`. Returns nonce, ciphertext and tag.
pub(crate) fn seal(key: &Key, platform: &Platform, context: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE] = platform.bytes().map_err(GalleryError::io("cannot get random numbers"))?;
    let payload = Payload { msg: plain, aad: context };
    let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(|_| GalleryError::Refused("a record is too long to be encrypted".into()))?;
    Ok([&nonce[..], &sealed].concat())
}

/// Decrypts what [`seal`] returned. Returns `None` for another key, another context, or changed bytes.
pub(crate) fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: sealed, aad: context };
    cipher(key).decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PLATFORM;

    /// The test vector of draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn decrypts_the_published_test_vector() {
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.bytes().map(|b| (b as char).to_digit(16).expect("hexadecimal") as u8).collect();
            digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        };
        let key = Key::from_bytes(std::array::from_fn(|i| 0x80 + i as u8));
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let text = concat!(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39",
            "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
            "21f9664c97637da9768812f615c68b13b52e",
            "c0875924c1c7987947deafd8780acf49"
        );
        let context = hex("50515253c0c1c2c3c4c5c6c7");
        let plain = open(&key, &context, &[nonce, hex(text)].concat()).expect("authentic");
        assert!(plain.starts_with(b"Ladies and Gentlemen of the class of '99"), "{plain:?}");
    }

    #[test]
    fn any_change_is_noticed() {
        let key = Key::from_bytes([7; 32]);
        let sealed = seal(&key, &PLATFORM, b"place", b"secret").expect("sealed");
        assert_eq!(sealed.len(), 6 + OVERHEAD);
        assert_eq!(open(&key, b"place", &sealed).as_deref().map(Vec::as_slice), Some(&b"secret"[..]));
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert!(open(&key, b"place", &changed).is_none(), "byte {byte}");
        }
        assert!(open(&key, b"other", &sealed).is_none());
        assert!(open(&Key::from_bytes([8; 32]), b"place", &sealed).is_none());
        assert!((0..sealed.len()).all(|end| open(&key, b"place", &sealed[..end]).is_none()));
    }
}
