//! Why somebody does not come in.

use std::io;
use std::net::IpAddr;

use thiserror::Error;

/// Why a connection between two machines is not used. Each says what to do, on
/// both sides: whoever reads it may be the one who is refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It did not come to an end in time.
    #[error("it did not say in time who it is")]
    Slow,
    /// Too many came after it.
    #[error("others came, and it had not said yet who it is")]
    Crowded,
    /// It went away in the middle.
    #[error("it closed the connection before it had shown its key; its log may say why")]
    Truncated,
    /// We have a key, and it does not encrypt.
    #[error(
        "it does not encrypt, and this side has a key: start both with --key and the same file, \
         or both without"
    )]
    Plain,
    /// It encrypts, and we have no key.
    #[error(
        "it encrypts, and this side has no key: start both with --key and the same file, \
         or both without"
    )]
    Encrypted,
    /// It showed another key.
    #[error("it has another key: copy the file of one host to the other")]
    WrongKey,
    /// It says that ours is another.
    #[error("it does not accept this side's key: copy the file of one host to the other")]
    KeyNotAccepted,
    /// The TLS handshake does not add up.
    #[error("its TLS handshake is not sound: {0}")]
    Handshake(rustls::Error),
    /// No key, and a network between us.
    #[error(
        "{0} is not a loopback address, and without a key nothing goes out to a network: make a \
         key with `dipc keygen FILE`, copy it to every host, and start every dipcd and the \
         dipc-referee with --key FILE"
    )]
    Exposed(IpAddr),
    /// Not in the list.
    #[error("{name:?} is not in the allow file: add a line for it, or end it")]
    Unlisted {
        /// What it calls itself.
        name: String,
    },
    /// In the list, at another address.
    #[error("the allow file does not have {name:?} at {address}: add that line, or end it")]
    Elsewhere {
        /// What it calls itself.
        name: String,
        /// Where it is.
        address: IpAddr,
    },
}

impl Refusal {
    /// In one word, for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Io(_) => "broken",
            Refusal::Slow => "slow",
            Refusal::Crowded => "crowded",
            Refusal::Truncated => "truncated",
            Refusal::Plain => "plain",
            Refusal::Encrypted => "encrypted",
            Refusal::WrongKey => "key",
            Refusal::KeyNotAccepted => "key-not-accepted",
            Refusal::Handshake(_) => "handshake",
            Refusal::Exposed(_) => "exposed",
            Refusal::Unlisted { .. } => "unlisted",
            Refusal::Elsewhere { .. } => "elsewhere",
        }
    }

    /// Whether somebody has to change something before it can go well.
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            Refusal::Io(_) | Refusal::Slow | Refusal::Crowded | Refusal::Truncated
        )
    }
}

impl From<rustls::Error> for Refusal {
    fn from(error: rustls::Error) -> Self {
        use rustls::{AlertDescription, CertificateError, Error};
        match error {
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                Refusal::WrongKey
            }
            // What the other one says when its verifier finds the above.
            Error::AlertReceived(AlertDescription::AccessDenied) => Refusal::KeyNotAccepted,
            other => Refusal::Handshake(other),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Io(error) => error,
            Refusal::Slow => io::Error::new(io::ErrorKind::TimedOut, refusal.to_string()),
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}
