//! Key and allow file together.

use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dipc_wire::frame::FrameError;
use thiserror::Error;

use crate::allow::{Allow, BadAllow};
use crate::channel::Channel;
use crate::key::{BadKey, Key};
use crate::refusal::Refusal;
use crate::tls::Tls;

/// A frame without anything: how a side without a key says no to one that
/// encrypts, which finds that it is no TLS.
pub const EMPTY_FRAME: [u8; 8] = [0; 8];

/// What `--key` and `--allow` say.
#[derive(Clone, Debug, Default)]
pub struct Door {
    tls: Option<Tls>,
    allow: Option<Allow>,
}

/// Why a program does not start.
#[derive(Debug, Error)]
pub enum BadDoor {
    /// No key in `--key`.
    #[error("--key: {0}")]
    Key(#[from] BadKey),
    /// No list in `--allow`.
    #[error("--allow: {0}")]
    Allow(#[from] BadAllow),
    /// TLS cannot use the key.
    #[error("--key: TLS cannot use it: {0}")]
    Tls(#[from] rustls::Error),
}

impl Door {
    /// Reads both files, as far as they are given.
    pub fn load(key: Option<&Path>, allow: Option<&Path>) -> Result<Door, BadDoor> {
        let key = key.map(Key::load).transpose()?;
        let allow = allow.map(Allow::load).transpose()?;
        Ok(Door {
            allow,
            ..Door::with_key(key.as_ref())?
        })
    }

    /// With this key, or open; all names come in.
    pub fn with_key(key: Option<&Key>) -> Result<Door, BadDoor> {
        Ok(Door {
            tls: key.map(Tls::new).transpose()?,
            allow: None,
        })
    }

    /// Whether what passes is encrypted.
    pub fn has_key(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether this address may be listened at or connected to: one that is not
    /// loopback needs a key.
    pub fn may_use(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.has_key() || address.to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(Refusal::Exposed(address))
        }
    }

    /// Whether the node of this name may be at this address.
    pub fn admits(&self, name: &str, address: IpAddr) -> Result<(), Refusal> {
        match &self.allow {
            Some(allow) => allow.admits(name, address),
            None => Ok(()),
        }
    }

    /// What a side does that has connected. `patience` is for the handshake as a
    /// whole, and for all that is read until [`Channel::settle`].
    pub fn call(&self, stream: TcpStream, patience: Duration) -> Result<Channel, Refusal> {
        let (stream, deadline) = prepare(Arc::new(stream), patience)?;
        match &self.tls {
            Some(tls) => Channel::encrypted(stream, tls.caller()?, deadline),
            None => Ok(Channel::plain(stream, deadline)),
        }
    }

    /// What a side does that was connected to.
    pub fn answer(&self, stream: Arc<TcpStream>, patience: Duration) -> Result<Channel, Refusal> {
        let (stream, deadline) = prepare(stream, patience)?;
        match &self.tls {
            Some(tls) => Channel::encrypted(stream, tls.called()?, deadline),
            None => Ok(Channel::plain(stream, deadline)),
        }
    }
}

fn prepare(
    stream: Arc<TcpStream>,
    patience: Duration,
) -> Result<(Arc<TcpStream>, Instant), Refusal> {
    stream.set_write_timeout(Some(patience))?;
    Ok((stream, Instant::now() + patience))
}

/// Whether what was to be a frame is a record of TLS: content type 20 to 23,
/// version 3, read as the length of a header.
pub fn speaks_tls(error: &FrameError) -> bool {
    matches!(error, FrameError::HeaderTooLong(length)
        if (20..=23).contains(&(length & 0xff)) && length >> 8 & 0xff == 3)
}
