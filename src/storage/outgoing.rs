//! Content on its way out of the store: blobs as open files, layers compressed anew, blobs fetched only to be passed on.

use super::{Compression, Digest, Gzip, Store, decompress::decoder, disk::ByErrno};
use crate::error::Explain;
use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

/// A blob that can be read from any place at any time: in the store, or a draft that ends with the last of these.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Read it by position: clones share its offset.
    pub file: Arc<File>,
    _draft: Option<Arc<Draft>>,
}

/// A file of tmp/, removed when this is dropped.
#[derive(Debug)]
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays is garbage once nobody holds the store.
        let _ = fs::remove_file(&self.0);
    }
}

/// Written bytes, counted and hashed; becomes an [`Outgoing`].
pub struct Drafting {
    draft: Draft,
    file: BufWriter<File>,
    hasher: Sha256,
    size: u64,
}

impl Store {
    /// Blob `digest` for reading.
    ///
    /// # Errors
    /// It is not in the store.
    pub fn outgoing(&self, digest: &Digest) -> Result<Outgoing> {
        let path = self.blob_path(&digest.hex());
        let open = || -> io::Result<_> {
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            Ok(Outgoing { digest: *digest, size, file: Arc::new(file), _draft: None })
        };
        open().with_context(|| format!("open blob {}", path.display()))
    }

    /// Begin a blob that the store doesn't keep.
    pub fn draft_blob(&self) -> Result<Drafting> {
        let path = self.draft_path()?;
        let made = File::options().read(true).write(true).create_new(true).open(&path);
        let file = made.with_context(|| format!("make {}", path.display())).hint_by_errno()?;
        Ok(Drafting {
            draft: Draft(path),
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: Sha256::new(),
            size: 0,
        })
    }

    /// The layer `blob`, packed as `from`, packed as `to` with the compressor's `level`: in constant memory, and the same
    /// bytes each time.
    ///
    /// # Errors
    /// The blob isn't packed so; the disk.
    pub fn recompress(
        &self,
        blob: &Digest,
        from: Compression,
        to: Compression,
        level: Option<u32>,
    ) -> Result<Outgoing> {
        let source = self.outgoing(blob)?;
        let mut draft = self.draft_blob()?;
        let mut pack = || -> io::Result<()> {
            let mut plain = decoder(from, BufReader::with_capacity(1 << 18, &*source.file))?;
            match to {
                Compression::None => drop(io::copy(&mut plain, &mut draft)?),
                Compression::Gzip => {
                    let mut encoder = Gzip::new(&mut draft, level);
                    io::copy(&mut plain, &mut encoder)?;
                    encoder.finish()?;
                }
                Compression::Zstd => {
                    let level = level.and_then(|level| i32::try_from(level).ok()).unwrap_or(3);
                    let mut encoder = zstd::stream::write::Encoder::new(&mut draft, level)?;
                    encoder.include_checksum(true)?;
                    io::copy(&mut plain, &mut encoder)?;
                    encoder.finish()?;
                }
            }
            Ok(())
        };
        pack().with_context(|| format!("compress layer {blob} anew")).hint_by_errno()?;
        draft.finish()
    }
}

impl Drafting {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// No more is to come.
    pub fn finish(self) -> Result<Outgoing> {
        let Drafting { draft, file, hasher, size } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.with_context(|| format!("write {}", draft.0.display())).hint_by_errno()?;
        let digest = Digest::from(<[u8; 32]>::from(hasher.finalize()));
        Ok(Outgoing { digest, size, file: Arc::new(file), _draft: Some(Arc::new(draft)) })
    }
}

impl Write for Drafting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Outgoing {
    /// Hash it again.
    ///
    /// # Errors
    /// It is not what its digest says.
    pub fn verify(&self) -> Result<()> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        let mut at = 0;
        loop {
            let read = self.read_at(&mut buffer, at)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        if Digest::from(<[u8; 32]>::from(hasher.finalize())) != self.digest {
            return Err(anyhow!("blob {} of the store is damaged", self.digest))
                .hint("pull or load the image that needs it again");
        }
        Ok(())
    }

    /// Bytes from `at` on; 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<usize> {
        let read = self.file.read_at(buffer, at);
        read.with_context(|| format!("read blob {}", self.digest))
    }

    /// All of it.
    ///
    /// # Errors
    /// It is longer than `limit` bytes.
    pub fn bytes(&self, limit: u64) -> Result<Vec<u8>> {
        ensure!(self.size <= limit, "blob {} is larger than {limit} bytes", self.digest);
        let mut bytes = vec![0; self.size as usize];
        let whole = self.file.read_exact_at(&mut bytes, 0);
        whole.with_context(|| format!("read blob {}", self.digest))?;
        Ok(bytes)
    }

    /// Its first bytes, at most four.
    pub fn head(&self) -> Result<Vec<u8>> {
        let mut head = vec![0; 4];
        let read = self.read_at(&mut head, 0)?;
        head.truncate(read);
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::test_store;
    use super::*;
    use std::io::Read;

    #[test]
    fn packed_anew_and_back() {
        let (_temp, store) = test_store();
        let plain = store.put_blob(&b"content ".repeat(1000)).unwrap();
        let held = store.hold().unwrap();
        for to in [Compression::Gzip, Compression::Zstd] {
            let packed = store.recompress(&plain, Compression::None, to, Some(9)).unwrap();
            assert!(packed.size < 1000, "{to:?}");
            assert_eq!(
                packed.digest,
                store.recompress(&plain, Compression::None, to, Some(9)).unwrap().digest
            );
            let bytes = packed.bytes(1000).unwrap();
            assert_eq!(Digest::of(&bytes), packed.digest);
            packed.verify().unwrap();
            let mut back = Vec::new();
            decoder(to, &bytes[..]).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(Digest::of(&back), plain);
            assert!(store.recompress(&plain, to, Compression::None, None).is_err(), "it isn't packed so");
        }
        assert!(fs::read_dir(store.directory("tmp")).unwrap().next().is_none(), "no draft stays");
        drop(held);
        fs::write(store.blob_path(&plain.hex()), "other").unwrap();
        assert!(store.outgoing(&plain).unwrap().verify().is_err());
    }
}
