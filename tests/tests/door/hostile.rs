//! What strangers and impostors bring along.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dipc_door::{Channel, Door, Key};
use dipc_wire::frame::{Encoded, FrameBuffer};
use dipc_wire::peer::{self, Hello};
use dipc_wire::referee::{self, Answer, Join, Membership};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A connection from another address of this host than the first.
pub(crate) fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = format!("{from}:0").parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// One who has the key, up to the end of the handshake.
pub(crate) fn with_key(key: &Path, stream: TcpStream) -> Channel {
    let door = Door::with_key(Some(&Key::load(key).unwrap())).unwrap();
    door.call(stream, LONG).unwrap()
}

/// Joins as the node of this name; the referee's answer.
pub(crate) fn join(channel: &mut Channel, name: &str) -> Result<Membership, String> {
    let join = Join {
        magic: referee::MAGIC,
        versions: referee::VERSIONS,
        name,
        address: "127.0.0.1:9",
        member: None,
    };
    say(channel, &join);
    let mut buffer = FrameBuffer::new();
    loop {
        if let Some(frame) = buffer.next_frame().unwrap() {
            return match frame.message().unwrap() {
                Answer::Welcome { member, .. } => Ok(member),
                Answer::Refused { reason, .. } => Err(reason.to_owned()),
            };
        }
        let count = channel.read(buffer.space()).unwrap();
        assert!(count > 0, "no answer");
        buffer.filled(count);
    }
}

/// Sends a message as a frame.
pub(crate) fn say<M: serde::Serialize>(channel: &Channel, message: &M) {
    let frame = Encoded::new(message, 0).unwrap();
    channel.send_blocking([frame.as_ref(), &[]]).unwrap();
}

/// What that member says to another life.
pub(crate) fn hello(me: Membership, to: Membership) -> Hello {
    Hello {
        magic: peer::MAGIC,
        versions: peer::VERSIONS,
        cluster: me.cluster,
        node: me.node,
        incarnation: me.incarnation,
        to: to.node,
        to_incarnation: to.incarnation,
    }
}

/// Shakes hands without looking at the other's key: shows the public half of one
/// key, signs with another or the same. What that came to when the other had all
/// of it.
pub(crate) fn intrude(shown: &Path, signing: &Path, mut stream: TcpStream) -> io::Result<usize> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let load = |path| {
        let der = PrivatePkcs8KeyDer::from_pem_file(path).unwrap();
        rustls::crypto::ring::sign::any_eddsa_type(&der).unwrap()
    };
    let public = load(shown).public_key().unwrap().to_vec();
    let ours = Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(public)],
        load(signing),
    ));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(ours)));
    let name = ServerName::try_from("dipc").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    rustls::Stream::new(&mut tls, &mut stream).read(&mut [0; 64])
}

/// Believes everybody.
#[derive(Debug)]
struct Careless;

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("only TLS 1.3 is offered")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
