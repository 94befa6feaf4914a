//! The gallery of a command, and where its key comes from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::UsageError;
use crate::cli::network_arguments::NetworkArguments;
use crate::platform::network_threads::ThreadArguments;
use crate::platform::{account, key_file, passphrase};
use crate::recognition::counter;
use crate::recognition::embedder::Embedder;
use faceptor_gallery::{Gallery, GalleryError, ImpostorScores, KeySource, Network, PassphraseCost, Platform};
use faceptor_identity::PLATFORM;

/// Names the gallery and its key.
#[derive(Args, Clone)]
pub struct GalleryArguments {
    /// The gallery: one encrypted file.
    #[arg(long, value_name = "FILE", global = true)]
    gallery: Option<PathBuf>,
    /// The file that holds the gallery's key (`faceptor gallery make-key FILE` makes one); only its owner may read it. Without
    /// this option: $CREDENTIALS_DIRECTORY/faceptor.key of a systemd service, then the passphrase in $FACEPTOR_PASSPHRASE,
    /// then a passphrase typed on the terminal for a gallery that has one.
    #[arg(long, visible_alias = "key-file", value_name = "FILE", global = true)]
    key: Option<PathBuf>,
    /// The gallery has a passphrase: that of $FACEPTOR_PASSPHRASE, or typed on the terminal.
    #[arg(long, global = true, conflicts_with = "key")]
    passphrase: bool,
    /// Keep the newest generation of the gallery in this file, better on another disk: an older gallery file that is put back
    /// is then refused.
    #[arg(long, value_name = "FILE", global = true)]
    counter: Option<PathBuf>,
}

/// Says what is stored with the enrolment of a new person.
#[derive(Args)]
pub struct EnrolmentArguments {
    /// End of the enrolment: 12h, 30d, 2w, 6m, 1y from now, a date such as 2027-01-31, or never. After it the person is not
    /// matched any more, and the next change of the gallery removes the person. For a new person only.
    #[arg(long, value_name = "TIME", default_value = "never")]
    pub expires: String,
    /// Purpose of the enrolment; stored with it. For a new person only.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub purpose: String,
    /// Who enrols the person; stored with the enrolment [default: the account's name].
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
}

impl EnrolmentArguments {
    /// Returns who enrols: the option, or the account's name.
    pub fn by(&self) -> String {
        self.by.clone().unwrap_or_else(account::name)
    }
}

/// Selects the network that embeds the faces of photos.
#[derive(Args)]
pub struct EmbedderArguments {
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    threads: ThreadArguments,
    /// Each photo already is an aligned square crop; the face detector is not used.
    #[arg(long)]
    aligned: bool,
}

impl EmbedderArguments {
    /// Opens the network.
    ///
    /// # Errors
    /// When it cannot be opened, or has no recognition.
    pub fn open(&self) -> Result<Embedder> {
        Embedder::new(&self.network.open()?, &self.threads.threads()?, self.aligned)
    }
}

/// Prints results as JSON.
#[derive(Args, Clone, Copy)]
pub struct JsonArguments {
    /// Print JSON objects, each on a line.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Decides how similar is similar enough.
#[derive(Args, Clone, Copy)]
pub struct ThresholdArguments {
    /// The share of strangers that may get a name (false positive identification rate). With the size of the gallery and the
    /// network's table of impostor scores it gives the threshold.
    #[arg(long, value_name = "RATE", default_value = "0.01", value_parser = rate)]
    pub fpir: f64,
    /// The least cosine similarity for a name, in place of --fpir.
    #[arg(long, value_name = "COSINE", conflicts_with = "fpir", value_parser = cosine)]
    pub threshold: Option<f32>,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|rate| *rate > 0.0 && *rate < 1.0).ok_or("a rate above 0 and below 1 is needed")
}

fn cosine(text: &str) -> Result<f32, &'static str> {
    text.parse().ok().filter(|cosine| (-1.0..=1.0).contains(cosine)).ok_or("a number from -1 to 1 is needed")
}

impl ThresholdArguments {
    /// Returns the threshold for this many comparisons; `None` where neither option nor table gives one.
    pub fn threshold(&self, impostors: Option<&ImpostorScores>, comparisons: usize) -> Option<f32> {
        self.threshold.or_else(|| impostors.map(|table| table.threshold(self.fpir, comparisons)))
    }

    /// Returns the threshold for this many comparisons.
    ///
    /// # Errors
    /// When neither option nor table gives one.
    pub fn needed(&self, impostors: Option<&ImpostorScores>, comparisons: usize) -> Result<f32> {
        let threshold = self.threshold(impostors, comparisons);
        Ok(threshold.ok_or_else(|| {
            UsageError(
                "this network has no table of impostor scores, so --fpir gives no threshold: give --threshold, or a \
                 network whose manifest has the table (docs/identity.md)"
                    .into(),
            )
        })?)
    }
}

impl GalleryArguments {
    /// Returns the gallery's path.
    ///
    /// # Errors
    /// When there is no `--gallery`.
    pub fn path(&self) -> Result<&Path> {
        let path = self.gallery.as_deref();
        Ok(path.ok_or_else(|| UsageError("--gallery FILE is needed: the gallery to use".into()))?)
    }

    /// Reports whether a gallery is named.
    pub fn is_named(&self) -> bool {
        self.gallery.is_some()
    }

    /// Returns an option that has no meaning without `--gallery`, if one is given.
    pub fn option_without_gallery(&self) -> Option<&'static str> {
        let given =
            [("--key", self.key.is_some()), ("--passphrase", self.passphrase), ("--counter", self.counter.is_some())];
        given.into_iter().find(|(_, is_given)| *is_given && !self.is_named()).map(|(option, _)| option)
    }

    /// Returns the files of the gallery, which no output of a command may replace.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.gallery.iter().chain(&self.key).chain(&self.counter)
    }

    /// Opens the gallery for reading.
    ///
    /// # Errors
    /// When the key or the gallery cannot be read, or the gallery is older than it was.
    pub fn open(&self) -> Result<Gallery> {
        self.opened(Gallery::open)
    }

    /// Opens the gallery for reading, and also returns its key.
    ///
    /// # Errors
    /// As [`GalleryArguments::open`].
    pub fn open_with_key(&self) -> Result<(Gallery, KeySource)> {
        self.check_kind()?;
        let key = self.key(false)?;
        Ok((self.opened_by(Gallery::open, &key)?, key))
    }

    /// Opens the gallery again: with a key that is read anew, or with the passphrase that was typed before.
    ///
    /// # Errors
    /// As [`GalleryArguments::open`] and [`GalleryArguments::open_for_writing`].
    pub fn reopen(&self, former: &KeySource, for_writing: bool) -> Result<Gallery> {
        let key = if former.is_passphrase() { former.clone() } else { self.key(false)? };
        self.opened_by(if for_writing { Gallery::open_for_writing } else { Gallery::open }, &key)
    }

    /// Opens the gallery as its writer.
    ///
    /// # Errors
    /// As [`GalleryArguments::open`], and while another process changes it.
    pub fn open_for_writing(&self) -> Result<Gallery> {
        self.opened(Gallery::open_for_writing)
    }

    /// Opens the gallery as its writer; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`GalleryArguments::open_for_writing`].
    pub fn open_if_present(&self) -> Result<Option<Gallery>> {
        match self.path()?.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => self.open_for_writing().map(Some),
        }
    }

    /// Checks that a gallery can be made at the path, so that a mistake is reported before the work.
    ///
    /// # Errors
    /// When its folder is not there, or may not be written in.
    pub fn check_place(&self) -> Result<()> {
        let path = self.path()?;
        let checked = key_file::check_folder(path);
        let refused = |reason| GalleryError::Io { action: "cannot make the gallery", reason };
        checked.map_err(refused).with_context(|| format!("{}", path.display()))
    }

    /// Makes an empty gallery.
    ///
    /// # Errors
    /// When the key cannot be read, or the file cannot be made.
    pub fn create(&self, key: &KeySource, network: &Network, now: u64) -> Result<Gallery> {
        let path = self.path()?;
        let gallery = Gallery::create(path, key, network, PassphraseCost::default(), PLATFORM, now);
        gallery.with_context(|| format!("{}", path.display()))
    }

    /// Enters the gallery's generation after a change.
    ///
    /// # Errors
    /// When the counter cannot be written.
    pub fn count(&self, gallery: &Gallery) -> Result<()> {
        match &self.counter {
            Some(counter) => counter::check(counter, gallery),
            None => Ok(()),
        }
    }

    /// Reads the gallery's key; `is_new`: the gallery does not exist yet.
    ///
    /// # Errors
    /// When there is no key, or it cannot be used.
    pub fn key(&self, is_new: bool) -> Result<KeySource> {
        if let Some(path) = &self.key {
            return key_file::key(path);
        }
        if !self.passphrase
            && let Some(content) = key_file::read_credential()?
        {
            return KeySource::from_file_content(&content).context("the credential faceptor.key");
        }
        if let Some(text) = passphrase::from_environment() {
            return Ok(KeySource::from_passphrase(&text)?);
        }
        if self.passphrase || (!is_new && Gallery::needs_passphrase(self.path()?, PLATFORM).unwrap_or(false)) {
            return Ok(KeySource::from_passphrase(&passphrase::ask(is_new)?)?);
        }
        Err(UsageError(format!(
            "a key is needed: --key FILE (`faceptor gallery make-key FILE` makes one), --passphrase, ${} or a systemd \
             credential named faceptor.key",
            passphrase::VARIABLE
        ))
        .into())
    }

    fn opened(
        &self,
        open: impl FnOnce(&Path, &KeySource, Platform) -> Result<Gallery, GalleryError>,
    ) -> Result<Gallery> {
        self.check_kind()?;
        self.opened_by(open, &self.key(false)?)
    }

    /// Checks that the file is a gallery, so that any other file is reported before a key is asked for.
    fn check_kind(&self) -> Result<()> {
        let path = self.path()?;
        Gallery::needs_passphrase(path, PLATFORM).map(drop).with_context(|| format!("{}", path.display()))
    }

    fn opened_by(
        &self,
        open: impl FnOnce(&Path, &KeySource, Platform) -> Result<Gallery, GalleryError>,
        key: &KeySource,
    ) -> Result<Gallery> {
        let path = self.path()?;
        let within = || format!("{}", path.display());
        let gallery = open(path, key, PLATFORM).with_context(within)?;
        self.count(&gallery).with_context(within)?;
        for notice in gallery.notices() {
            log::warn!("{}: {notice}", path.display());
        }
        Ok(gallery)
    }
}
