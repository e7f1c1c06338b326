//! The cluster's key: an Ed25519 key pair in a file (PKCS#8, PEM).
//!
//! Every host has the same file. Who can sign with it is in, and nobody else:
//! there are no names in it, nobody else vouches for it, and it does not expire.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::SigningKey;
use thiserror::Error;

use crate::file::{self, BadFile, Guard};

/// A key pair that was read or made.
#[derive(Clone)]
pub struct Key {
    pub(crate) signing: Arc<dyn SigningKey>,
    pub(crate) public: SubjectPublicKeyInfoDer<'static>,
}

/// Why there is no key. Each says what to do.
#[derive(Debug, Error)]
pub enum BadKey {
    /// The file is not believed.
    #[error(transparent)]
    File(#[from] BadFile),
    /// It holds something else.
    #[error("{0} holds no Ed25519 private key: give the file that `dipc keygen` made")]
    NoKey(String),
    /// It is there already.
    #[error(
        "{0} is there already, and a key is never overwritten: name another file, or remove it"
    )]
    Exists(String),
    /// It cannot be written.
    #[error("cannot write {path}: {error}")]
    Unwritable {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The kernel has no random numbers.
    #[error("the kernel gives no random numbers to make a key of")]
    NoRandom,
}

impl Key {
    /// Reads the key from a file that nobody else may read.
    pub fn load(path: &Path) -> Result<Key, BadKey> {
        let text = file::read(path, Guard::Secret)?;
        Key::parse(&text).ok_or_else(|| BadKey::NoKey(path.display().to_string()))
    }

    /// Makes a key and writes it to a new file, mode 0600, which is on the disk
    /// when this returns.
    pub fn generate(path: &Path) -> Result<Key, BadKey> {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let text = pem(pair.map_err(|_| BadKey::NoRandom)?.as_ref());
        let key = Key::parse(&text).ok_or(BadKey::NoRandom)?;
        let name = path.display().to_string();
        write(path, &text).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BadKey::Exists(name),
            _ => BadKey::Unwritable { path: name, error },
        })?;
        Ok(key)
    }

    fn parse(pem: &str) -> Option<Key> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let signing = any_eddsa_type(&der).ok()?;
        let public = SubjectPublicKeyInfoDer::from(signing.public_key()?.to_vec());
        Some(Key { signing, public })
    }

    /// The first 16 hex digits of the public key, for people who compare hosts.
    pub fn fingerprint(&self) -> String {
        // RFC 8410: the last 32 bytes are the key itself.
        let start = self.public.len().saturating_sub(32);
        let digits = self.public[start..].iter().take(8);
        digits.map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path));
    if written.is_err() {
        // Half a key would be in the way of a whole one.
        let _ = fs::remove_file(path);
    }
    written
}

/// A new name is on the disk with its folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    const WIDTH: usize = 64;
    let text = base64(der);
    let mut lines = vec!["-----BEGIN PRIVATE KEY-----"];
    // Base64 is ASCII, so every cut is between characters.
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(WIDTH.min(rest.len()));
        lines.push(line);
        rest = more;
    }
    lines.push("-----END PRIVATE KEY-----\n");
    lines.join("\n")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let all = group.iter().chain([&0; 2]).take(3);
        let bits = all.fold(0, |bits, &byte| bits << 8 | u32::from(byte));
        for place in 0..4 {
            let digit = bits >> (18 - 6 * place) & 63;
            let here = place <= group.len();
            text.push(if here {
                DIGITS[digit as usize].into()
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("dipc-key-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(folder);
            fs::create_dir(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_key_is_read_back_as_it_was_made_and_is_its_owners_alone() {
        let folder = Folder::new("made");
        let path = folder.0.join("key");
        let made = Key::generate(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = Key::load(&path).unwrap();
        assert_eq!(made.public, read.public);
        assert_eq!(made.fingerprint().len(), 16);
        let other = Key::generate(&folder.0.join("other")).unwrap();
        assert_ne!(made.public, other.public);
        assert_ne!(made.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = Folder::new("kept");
        let path = folder.0.join("key");
        Key::generate(&path).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(Key::generate(&path), Err(BadKey::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_ed25519_key_is_refused() {
        for text in [
            "",
            "key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(Key::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in table {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
