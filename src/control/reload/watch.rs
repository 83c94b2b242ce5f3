//! Whether files hold something else than they did.
//!
//! Looks, rather than waits to be told: what is at the end of all symbolic links is compared by device, inode, time and
//! length, and where that differs by a digest of the content. So it sees a swapped link, a file renamed over another,
//! and network file systems, and isn't bothered by a file written again as it was. Reads on threads that may wait.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Files that don't come to rest are looked at all the same after so many times what others have for that: somebody who
/// rewrites one of them for ever may not hide what becomes of the rest.
const MOST_DEBOUNCES: u32 = 10;

/// What a file held; `None` when it couldn't be read. Tells contents apart, and proves nothing.
pub(super) type Digest = Option<u64>;

/// What `path` holds.
pub(super) fn digest(path: &Path) -> Digest {
    fs::read(path).ok().map(|content| digest_of(&content))
}

/// The same; `None` when this process has no descriptor to read it with, which says nothing of the file.
fn readable_digest(path: &Path) -> Option<Digest> {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match fs::read(path) {
        Ok(content) => Some(Some(digest_of(&content))),
        Err(error) if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => None,
        Err(_) => Some(None),
    }
}

/// The digest of a file that holds `content`.
pub(super) fn digest_of(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

/// What changes with a file's content, nearly always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    }
}

/// When stamps were seen to change.
#[derive(Debug, Clone, Copy)]
struct Unsettled {
    first: Instant,
    last: Instant,
}

/// Files that are looked at.
#[derive(Debug)]
pub(super) struct Watch {
    settings: config::Reload,
    paths: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    digests: Vec<Digest>,
    /// What is changing, if what that means hasn't been looked at yet.
    unsettled: Option<Unsettled>,
}

impl Watch {
    /// Of no file yet.
    pub(super) fn new(settings: config::Reload) -> Self {
        Self {
            settings,
            paths: Vec::new(),
            stamps: Vec::new(),
            digests: Vec::new(),
            unsettled: None,
        }
    }

    /// Looks at this file as well, from which `digest` was read. One that is known already stays as it is.
    pub(super) fn add(&mut self, path: &Path, digest: Digest) {
        if !self.paths.iter().any(|known| known == path) {
            self.paths.push(path.to_owned());
            // The content may have changed since it was read: the first look compares it.
            self.stamps.push(None);
            self.digests.push(digest);
        }
    }

    /// Takes everything for known as it is now.
    pub(super) async fn note(&mut self) {
        let stamps = self.look(Stamp::of).await;
        let digests = self.look(digest).await;
        self.stamps = stamps;
        self.digests = digests;
        self.unsettled = None;
    }

    /// Waits until a file has changed, and stayed so for the time that was configured; for ever, if nobody is to look.
    ///
    /// May be dropped at any time and called again.
    pub(super) async fn changed(&mut self) {
        if !self.settings.watch {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.pause()).await;
            let now = Instant::now();
            let stamps = self.look(Stamp::of).await;
            if stamps != self.stamps {
                self.stamps = stamps;
                let first = self.unsettled.map_or(now, |unsettled| unsettled.first);
                self.unsettled = Some(Unsettled { first, last: now });
            }
            if self.settles_in(now) == Some(Duration::ZERO) {
                let digests: Option<Vec<_>> =
                    self.look(readable_digest).await.into_iter().collect();
                let Some(digests) = digests else {
                    tokio::time::sleep(PERIOD).await;
                    continue;
                };
                self.unsettled = None;
                if digests != self.digests {
                    self.digests = digests;
                    return;
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        let settled = self.settles_in(Instant::now());
        settled.map_or(PERIOD, |settled| settled.min(PERIOD))
    }

    /// `None`: nothing has changed.
    fn settles_in(&self, now: Instant) -> Option<Duration> {
        let Unsettled { first, last } = self.unsettled?;
        let debounce = self.settings.debounce;
        let settled = (last + debounce).min(first + debounce * MOST_DEBOUNCES);
        Some(settled.saturating_duration_since(now))
    }

    async fn look<T: Send + 'static>(&self, at: fn(&Path) -> Option<T>) -> Vec<Option<T>> {
        let paths = self.paths.clone();
        let look = move || paths.iter().map(|path| at(path)).collect();
        // Fails only when the process is about to end.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(100);

    async fn watching(path: &Path) -> Watch {
        let mut watch = Watch::new(config::Reload {
            watch: true,
            debounce: DEBOUNCE,
        });
        watch.add(path, digest(path));
        watch.note().await;
        watch
    }

    /// Whether a change is noticed in the time of several looks.
    async fn notices(watch: &mut Watch) -> bool {
        tokio::time::timeout(PERIOD * 4 + DEBOUNCE, watch.changed())
            .await
            .is_ok()
    }

    fn rename_over(path: &Path, content: &str) {
        let new = path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        type Change = fn(&Path);
        let ways: [(&str, Change); 5] = [
            ("write", |path| fs::write(path, "b").unwrap()),
            ("rename over", |path| rename_over(path, "b")),
            ("remove", |path| fs::remove_file(path).unwrap()),
            ("append", |path| fs::write(path, "ab").unwrap()),
            ("directory in its place", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ];
        for (way, change) in ways {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, "a").unwrap();
            let mut watch = watching(&path).await;
            change(&path);
            assert!(notices(&mut watch).await, "{way}");
        }
    }

    #[tokio::test]
    async fn a_file_that_comes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut watch = watching(&path).await;
        fs::write(&path, "a").unwrap();
        assert!(notices(&mut watch).await);
        assert!(!notices(&mut watch).await, "once is enough");
    }

    #[tokio::test]
    async fn a_swapped_directory_link_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let within = |name: &str| dir.path().join(name);
        for (version, content) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir(within(version)).unwrap();
            fs::write(within(version).join("file"), content).unwrap();
        }
        symlink("..1", within("..data")).unwrap();
        symlink("..data/file", within("file")).unwrap();
        let mut watch = watching(&within("file")).await;
        symlink("..2", within("..data_tmp")).unwrap();
        fs::rename(within("..data_tmp"), within("..data")).unwrap();
        assert!(notices(&mut watch).await);
    }

    #[tokio::test]
    async fn the_same_content_again_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "a").unwrap();
        let mut watch = watching(&path).await;
        rename_over(&path, "a");
        assert!(!notices(&mut watch).await);
    }

    #[tokio::test]
    async fn what_changed_before_the_first_look_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "a").unwrap();
        let read = digest(&path);
        fs::write(&path, "b").unwrap();
        let mut watch = Watch::new(config::Reload {
            watch: true,
            debounce: Duration::ZERO,
        });
        watch.add(&path, read);
        assert!(notices(&mut watch).await);
    }

    #[tokio::test]
    async fn nobody_looks_when_told_not_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut watch = watching(&path).await;
        watch.settings.watch = false;
        fs::write(&path, "a").unwrap();
        assert!(!notices(&mut watch).await);
    }

    #[tokio::test]
    async fn a_file_must_have_stayed_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "a").unwrap();
        let mut watch = watching(&path).await;
        fs::write(&path, "b").unwrap();
        let began = Instant::now();
        watch.changed().await;
        assert!(began.elapsed() >= PERIOD + DEBOUNCE);
    }

    #[tokio::test]
    async fn a_file_that_never_rests_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let within = |name: &str| dir.path().join(name);
        let (restless, other) = (within("restless"), within("other"));
        fs::write(&restless, "a").unwrap();
        fs::write(&other, "a").unwrap();
        let mut watch = watching(&other).await;
        watch.add(&restless, digest(&restless));
        watch.note().await;
        let rewriting = tokio::spawn(async move {
            loop {
                rename_over(&restless, "a");
                tokio::time::sleep(DEBOUNCE / 3).await;
            }
        });
        fs::write(&other, "b").unwrap();
        let patience = PERIOD * 8 + DEBOUNCE * MOST_DEBOUNCES;
        let noticed = tokio::time::timeout(patience, watch.changed()).await;
        rewriting.abort();
        assert!(noticed.is_ok());
    }
}
