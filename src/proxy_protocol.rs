//! The PROXY protocol, versions 1 and 2: what a balancer that forwards TCP says about its client
//! before the first byte.
//!
//! [`decode`] looks at the first bytes of a connection and either names what they are or refuses
//! them; [`encode_v1`] and [`encode_v2`] write what goes ahead of a connection to an upstream. The
//! decoder is strict, because a preamble that two parsers read differently is a forged client
//! address: one spelling of each line, no address without its family, no TLV that leaves its block.
//! It looks at no more than [`MAX_PREAMBLE_BYTES`] and never panics.
//!
//! It doesn't decide whose preamble is believed, nor whether one is required; that is up to the
//! caller, and so is a **second preamble**: after [`Decoded::Complete`] the caller asks
//! [`starts_with_signature`] about the bytes that follow and closes the connection when it says
//! yes, since one of two addresses would have to be a lie.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;

/// More bytes than this are never needed to decode a preamble, so a read buffer of this size is
/// enough.
pub const MAX_PREAMBLE_BYTES: usize = V2_HEADER_BYTES + MAX_BLOCK_BYTES;

/// Decodes the first bytes of a connection; `input` is all that has been read so far.
///
/// May be called again whenever more bytes have arrived: the answer for a longer input never
/// contradicts an earlier one other than [`Decoded::Incomplete`]. An empty `input` is `Incomplete`.
/// Allocates only for the TLVs it keeps.
///
/// # Errors
///
/// The bytes begin with a signature but break the protocol, or use a part of it that names no TCP
/// client (Unix sockets, datagrams). More bytes won't mend it: close the connection.
pub fn decode(input: &[u8]) -> Result<Decoded, DecodeError> {
    if let Some(rest) = input.strip_prefix(V1_SIGNATURE) {
        return decode_v1(rest);
    }
    if let Some(rest) = input.strip_prefix(V2_SIGNATURE) {
        return decode_v2(input, rest);
    }
    if V1_SIGNATURE.starts_with(input) || V2_SIGNATURE.starts_with(input) {
        return Ok(Decoded::Incomplete);
    }
    Ok(Decoded::Absent)
}

/// Whether `input` begins with the whole signature of either version, decodable or not.
///
/// Asked about the bytes behind a preamble: two of them back to back are refused.
pub fn starts_with_signature(input: &[u8]) -> bool {
    input.starts_with(V1_SIGNATURE) || input.starts_with(V2_SIGNATURE)
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per connection, taken apart at once: boxing would cost more"
)]
pub enum Decoded {
    /// So far a prefix of a preamble (or empty): read more and ask again.
    Incomplete,
    /// Not a PROXY preamble: the first bytes differ from both signatures, and all of them belong to
    /// the next protocol.
    Absent,
    /// A whole preamble.
    Complete {
        /// What it says.
        header: Header,
        /// How many bytes to remove from the front of the input.
        len: usize,
    },
}

/// What a preamble says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// `None` for LOCAL, UNKNOWN and UNSPEC: the sender speaks for itself or can't tell, so the
    /// socket peer stands.
    pub addresses: Option<Addresses>,
    /// Empty in version 1, and whenever `addresses` is `None`.
    pub tlvs: Tlvs,
}

/// The two ends of the connection that the sender accepted.
///
/// Decoded addresses are canonical: an IPv4-mapped IPv6 address is folded to IPv4, so the two may
/// differ in family. They are what the sender wrote otherwise; unspecified and multicast addresses
/// aren't refused here, nor is port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client, as the sender saw it.
    pub source: SocketAddr,
    /// The sender's own address that the client connected to.
    pub destination: SocketAddr,
}

/// The extensions of a version 2 header that have a use; others are checked for their framing and
/// dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tlvs {
    /// Whether the client spoke TLS to the sender, which tells the scheme; `None` when the sender
    /// didn't say.
    pub ssl: Option<bool>,
    /// The protocol negotiated by ALPN, as on the wire.
    pub alpn: Option<Bytes>,
    /// The host name the client asked for (SNI), as on the wire: neither lower-cased nor checked.
    pub authority: Option<Bytes>,
    /// The sender's identifier of the connection: opaque bytes.
    pub unique_id: Option<Bytes>,
    /// Clouds' own extensions in the order sent, as type and value: AWS 0xEA, Azure 0xEE, Google
    /// 0xE0.
    pub cloud: Vec<(u8, Bytes)>,
}

/// Why a preamble is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Version 1: no line end within 107 bytes.
    #[error("line longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    /// Version 1: a CR or LF that isn't part of CRLF.
    #[error("line end is not CR LF")]
    LineEnd,
    /// Version 1: not TCP4, TCP6 or UNKNOWN.
    #[error("protocol is none of TCP4, TCP6 and UNKNOWN")]
    Protocol,
    /// Version 1: not exactly two addresses and two ports, each behind a single space.
    #[error("line does not have two addresses and two ports")]
    Fields,
    /// Version 1: not an address of the family the line names.
    #[error("not an address of the family named")]
    Address,
    /// Version 1: not a decimal number up to 65535 without sign and leading zeroes.
    #[error("not a port")]
    Port,
    /// Version 2 signature with another version number.
    #[error("unknown version {0}")]
    Version(u8),
    /// Version 2: neither LOCAL nor PROXY.
    #[error("unknown command {0}")]
    Command(u8),
    /// Version 2: neither TCP over IPv4 or IPv6 nor UNSPEC; Unix sockets and datagrams too.
    #[error("unsupported address family and transport {0:#04x}")]
    Family(u8),
    /// Version 2: announces more than is read.
    #[error("block of {0} bytes is longer than {MAX_BLOCK_BYTES}")]
    BlockTooLong(u16),
    /// Version 2: announces less than the addresses of its family take.
    #[error("block of {0} bytes is too short for its addresses")]
    BlockTooShort(u16),
    /// Version 2: an extension that leaves its block or is shorter than its type needs.
    #[error("broken extension at byte {offset}")]
    Tlv {
        /// Where the extension begins, counted from the first byte of the preamble.
        offset: usize,
    },
    /// Version 2: an extension of which there can be one came twice.
    #[error("extension {0:#04x} is repeated")]
    RepeatedTlv(u8),
    /// Version 2: the checksum that the header carries isn't its own.
    #[error("checksum differs")]
    Checksum,
}

impl DecodeError {
    /// A fixed word for metrics and logs: lower case with underscores, never anything the peer
    /// wrote.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::LineTooLong => "v1_line_too_long",
            Self::LineEnd => "v1_line_end",
            Self::Protocol => "v1_protocol",
            Self::Fields => "v1_fields",
            Self::Address => "v1_address",
            Self::Port => "v1_port",
            Self::Version(_) => "v2_version",
            Self::Command(_) => "v2_command",
            Self::Family(_) => "v2_family",
            Self::BlockTooLong(_) => "v2_block_too_long",
            Self::BlockTooShort(_) => "v2_block_too_short",
            Self::Tlv { .. } => "v2_tlv",
            Self::RepeatedTlv(_) => "v2_repeated_tlv",
            Self::Checksum => "v2_checksum",
        }
    }
}

/// Appends a version 1 line to `out`; without addresses it says UNKNOWN.
///
/// Addresses of different families are both written as IPv6, the IPv4 one mapped: a line has one
/// family. IPv6 flow labels and zones have no place in the protocol and are left out.
pub fn encode_v1(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    // Writing to a Vec can't fail.
    let _ = match addresses.map(same_family) {
        None => out.write_all(b"PROXY UNKNOWN\r\n"),
        Some(Addresses {
            source,
            destination,
        }) => {
            let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            let (from_port, to_port) = (source.port(), destination.port());
            write!(
                out,
                "PROXY {protocol} {from} {to} {from_port} {to_port}\r\n"
            )
        }
    };
}

/// Appends a version 2 header without extensions to `out`; without addresses its command is LOCAL.
///
/// Families are made equal as in [`encode_v1`].
pub fn encode_v2(addresses: Option<Addresses>, out: &mut Vec<u8>) {
    out.extend_from_slice(V2_SIGNATURE);
    let Some(Addresses {
        source,
        destination,
    }) = addresses.map(same_family)
    else {
        out.extend_from_slice(&[V2_LOCAL, FAMILY_UNSPEC, 0, 0]);
        return;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[V2_PROXY, FAMILY_TCP4, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[V2_PROXY, FAMILY_TCP6, 0, 36]);
            out.extend_from_slice(&mapped(from).octets());
            out.extend_from_slice(&mapped(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// `rest` is what follows the signature.
fn decode_v1(rest: &[u8]) -> Result<Decoded, DecodeError> {
    let limit = MAX_LINE_BYTES - V1_SIGNATURE.len();
    let window = rest.get(..limit).unwrap_or(rest);
    let unfinished = if window.len() < limit {
        Ok(Decoded::Incomplete)
    } else {
        Err(DecodeError::LineTooLong)
    };

    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return unfinished;
    };
    let (line, line_end) = window.split_at(end);
    match line_end {
        [b'\r', b'\n', ..] => {}
        [b'\r'] => return unfinished,
        _ => return Err(DecodeError::LineEnd),
    }
    let header = Header {
        version: 1,
        addresses: parse_line(line)?,
        tlvs: Tlvs::default(),
    };
    Ok(Decoded::Complete {
        header,
        len: V1_SIGNATURE.len() + line.len() + 2,
    })
}

/// Reads a version 1 line without its signature and its line end.
fn parse_line(line: &[u8]) -> Result<Option<Addresses>, DecodeError> {
    // Whatever the sender adds to UNKNOWN must be ignored, so it isn't looked at.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let line = str::from_utf8(line).map_err(|_| DecodeError::Fields)?;
    let (protocol, fields) = line.split_once(' ').unwrap_or((line, ""));
    match protocol {
        "TCP4" => parse_fields::<Ipv4Addr>(fields).map(Some),
        "TCP6" => parse_fields::<Ipv6Addr>(fields).map(Some),
        _ => Err(DecodeError::Protocol),
    }
}

/// Reads `SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT`.
fn parse_fields<A: FromStr + Into<IpAddr>>(fields: &str) -> Result<Addresses, DecodeError> {
    let mut fields = fields.split(' ');
    let mut next = || fields.next();
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) =
        (next(), next(), next(), next(), next())
    else {
        return Err(DecodeError::Fields);
    };
    Ok(Addresses {
        source: canonical(parse_address::<A>(from)?, parse_port(from_port)?),
        destination: canonical(parse_address::<A>(to)?, parse_port(to_port)?),
    })
}

/// The standard library's grammar is the strict one: four decimal octets without leading zeroes, no
/// zone, no brackets.
fn parse_address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, DecodeError> {
    text.parse::<A>()
        .map(Into::into)
        .map_err(|_| DecodeError::Address)
}

fn parse_port(text: &str) -> Result<u16, DecodeError> {
    // `u16::from_str` would take `+80` and `0080`.
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(DecodeError::Port);
    }
    text.parse().map_err(|_| DecodeError::Port)
}

/// `rest` is what follows the signature in `input`.
fn decode_v2(input: &[u8], rest: &[u8]) -> Result<Decoded, DecodeError> {
    let Some((&[version_and_command, family, high, low], rest)) = rest.split_first_chunk::<4>()
    else {
        return Ok(Decoded::Incomplete);
    };
    if !matches!(version_and_command, V2_LOCAL | V2_PROXY) {
        let (version, command) = (version_and_command >> 4, version_and_command & 0x0f);
        return Err(if version == 2 {
            DecodeError::Command(command)
        } else {
            DecodeError::Version(version)
        });
    }
    let length = u16::from_be_bytes([high, low]);
    if usize::from(length) > MAX_BLOCK_BYTES {
        return Err(DecodeError::BlockTooLong(length));
    }
    let len = V2_HEADER_BYTES + usize::from(length);
    let (Some(preamble), Some(block)) = (input.get(..len), rest.get(..usize::from(length))) else {
        return Ok(Decoded::Incomplete);
    };

    let parsed = match family {
        // The whole block is to be discarded: LOCAL says nothing about a client, not even a family,
        // and in UNSPEC nobody can tell where addresses end and extensions begin.
        _ if version_and_command == V2_LOCAL => None,
        FAMILY_UNSPEC => None,
        FAMILY_TCP4 => Some(split_addresses::<4>(block).ok_or(DecodeError::BlockTooShort(length))?),
        FAMILY_TCP6 => {
            Some(split_addresses::<16>(block).ok_or(DecodeError::BlockTooShort(length))?)
        }
        other => return Err(DecodeError::Family(other)),
    };
    let header = match parsed {
        None => Header {
            version: 2,
            addresses: None,
            tlvs: Tlvs::default(),
        },
        Some((addresses, tlvs)) => Header {
            version: 2,
            addresses: Some(addresses),
            tlvs: parse_tlvs(preamble, tlvs)?,
        },
    };
    Ok(Decoded::Complete { header, len })
}

/// Takes two addresses of `N` bytes and two ports off the front of a block.
fn split_addresses<const N: usize>(block: &[u8]) -> Option<(Addresses, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (&source, rest) = block.split_first_chunk::<N>()?;
    let (&destination, rest) = rest.split_first_chunk::<N>()?;
    let (&source_port, rest) = rest.split_first_chunk::<2>()?;
    let (&destination_port, rest) = rest.split_first_chunk::<2>()?;
    let addresses = Addresses {
        source: canonical(source.into(), u16::from_be_bytes(source_port)),
        destination: canonical(destination.into(), u16::from_be_bytes(destination_port)),
    };
    Some((addresses, rest))
}

/// Reads the extensions at the end of `preamble`.
fn parse_tlvs(preamble: &[u8], mut rest: &[u8]) -> Result<Tlvs, DecodeError> {
    let mut tlvs = Tlvs::default();
    let mut checksum = None;
    while !rest.is_empty() {
        let broken = DecodeError::Tlv {
            offset: preamble.len() - rest.len(),
        };
        let (kind, value, tail) = split_tlv(rest).ok_or(broken)?;
        rest = tail;
        match kind {
            TLV_ALPN => set_once(kind, &mut tlvs.alpn, Bytes::copy_from_slice(value))?,
            TLV_AUTHORITY => set_once(kind, &mut tlvs.authority, Bytes::copy_from_slice(value))?,
            TLV_UNIQUE_ID => set_once(kind, &mut tlvs.unique_id, Bytes::copy_from_slice(value))?,
            TLV_SSL => set_once(kind, &mut tlvs.ssl, parse_ssl(value).ok_or(broken)?)?,
            TLV_CRC32C => {
                let expected = u32::from_be_bytes(value.try_into().map_err(|_| broken)?);
                set_once(kind, &mut checksum, expected)?;
                let end = preamble.len() - tail.len();
                if crc32c(preamble, &(end - value.len()..end)) != expected {
                    return Err(DecodeError::Checksum);
                }
            }
            TLV_GOOGLE | TLV_AWS | TLV_AZURE => {
                tlvs.cloud.push((kind, Bytes::copy_from_slice(value)));
            }
            _ => {}
        }
    }
    Ok(tlvs)
}

/// Takes one extension off the front: its type, its value and the rest.
fn split_tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, rest))
}

/// Two answers to one question could be taken differently by whoever reads the header after us.
fn set_once<T>(kind: u8, slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::RepeatedTlv(kind)),
    }
}

/// Whether the client spoke TLS; `None` when the value is malformed: flags, four bytes of
/// verification, extensions within.
fn parse_ssl(value: &[u8]) -> Option<bool> {
    let (&[client, ..], mut rest) = value.split_first_chunk::<5>()?;
    while !rest.is_empty() {
        (_, _, rest) = split_tlv(rest)?;
    }
    Some(client & SSL_CLIENT_BIT != 0)
}

/// The CRC-32C (Castagnoli, RFC 9260 appendix A) of `bytes`, counting those in `zeroed` as zero.
///
/// Bit by bit: a checksum is rare, and the block is bounded.
fn crc32c(bytes: &[u8], zeroed: &Range<usize>) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for (index, byte) in bytes.iter().enumerate() {
        if !zeroed.contains(&index) {
            crc ^= u32::from(*byte);
        }
        for _ in 0..8 {
            let carry = if crc & 1 == 1 { REVERSED_POLYNOMIAL } else { 0 };
            crc = (crc >> 1) ^ carry;
        }
    }
    !crc
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// Folds mapped addresses, then maps the IPv4 one if only one is left.
fn same_family(addresses: Addresses) -> Addresses {
    let source = canonical(addresses.source.ip(), addresses.source.port());
    let destination = canonical(addresses.destination.ip(), addresses.destination.port());
    if source.is_ipv4() == destination.is_ipv4() {
        return Addresses {
            source,
            destination,
        };
    }
    let promote = |addr: SocketAddr| SocketAddrV6::new(mapped(addr.ip()), addr.port(), 0, 0).into();
    Addresses {
        source: promote(source),
        destination: promote(destination),
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest version 1 line, its line end included: what the protocol asks a receiver to have
/// room for.
const MAX_LINE_BYTES: usize = 107;
/// Signature, command, family and length.
const V2_HEADER_BYTES: usize = 16;
/// The longest block that is read; the protocol would allow 65,535 bytes.
const MAX_BLOCK_BYTES: usize = 4096;

const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;

const FAMILY_UNSPEC: u8 = 0x00;
const FAMILY_TCP4: u8 = 0x11;
const FAMILY_TCP6: u8 = 0x21;

const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
const TLV_SSL: u8 = 0x20;
const TLV_GOOGLE: u8 = 0xe0;
const TLV_AWS: u8 = 0xea;
const TLV_AZURE: u8 = 0xee;

const SSL_CLIENT_BIT: u8 = 0x01;

#[cfg(test)]
mod tests;
