//! Layers as they travel: plain, gzip or zstd.

use std::io::{BufRead, Read, Result};

/// How a layer's blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, of any number of members (RFC 1952).
    Gzip,
    /// zstd, of any number of frames (RFC 8878).
    Zstd,
}

/// Memory that one zstd frame may ask for, as a power of two: 32 MiB, which Podman's zstd:chunked does. RFC 8878 section
/// 3.1.1.1.2 recommends every decoder to support 8.
const ZSTD_WINDOW_LOG: u32 = 25;

/// The plain bytes of `reader`.
pub fn decoder<'a>(compression: Compression, reader: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn read(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        decoder(compression, bytes)?.read_to_end(&mut plain).map(|_| plain)
    }

    #[test]
    fn several_members_and_frames() {
        for (compression, bytes) in [
            (Compression::None, b"onetwo".to_vec()),
            (Compression::Gzip, [gzip(b"one"), gzip(b""), gzip(b"two")].concat()),
            (
                Compression::Zstd,
                [zstd(b"one"), b"\x50\x2a\x4d\x18\x03\0\0\0xxx".to_vec(), zstd(b"two")].concat(),
            ),
        ] {
            assert_eq!(read(compression, &bytes).unwrap(), b"onetwo", "{compression:?}");
        }
    }

    #[test]
    fn broken() {
        for (compression, bytes) in [
            (Compression::Gzip, gzip(b"one")[..15].to_vec()),
            (Compression::Gzip, [gzip(b"one"), b"junk".to_vec()].concat()),
            (Compression::Gzip, b"one".to_vec()),
            (Compression::Zstd, zstd(b"one")[..8].to_vec()),
            (Compression::Zstd, [zstd(b"one"), b"junk".to_vec()].concat()),
        ] {
            assert!(read(compression, &bytes).is_err(), "{compression:?} {bytes:?}");
        }
        // A frame that asks for a window of 128 MiB.
        assert!(read(Compression::Zstd, b"\x28\xb5\x2f\xfd\x00\x88\x01\0\0").is_err());
    }
}
