//! The options that cover heads on pictures.

use clap::{Args, ValueEnum};

use crate::cli::UsageError;
use crate::live::shield::{Blur, Whom};
use faceptor_results::cover::Style;

/// Covers heads on every picture that leaves the program.
#[derive(Args, Clone, Copy)]
pub struct BlurArguments {
    /// Cover the heads on every picture that leaves the program: `all`, or `unknown` for everyone without a name of --gallery. A
    /// face whose name is not decided yet is unknown, and one that is missed stays covered for a second. In `run` the face
    /// detector then works on every frame that is shown.
    #[arg(long, value_name = "WHOM")]
    blur: Option<WhomArgument>,
    /// Look of a covered head: at most eight blocks across, or one colour.
    #[arg(long, value_name = "STYLE", default_value = "pixelate", requires = "blur")]
    blur_style: StyleArgument,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhomArgument {
    All,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StyleArgument {
    Pixelate,
    Solid,
}

impl BlurArguments {
    /// Returns what is covered; `None` if nothing is.
    ///
    /// # Errors
    /// When unknown people are to be covered and there is no gallery that knows any.
    pub fn blur(&self, has_gallery: bool) -> Result<Option<Blur>, UsageError> {
        let style = match self.blur_style {
            StyleArgument::Pixelate => Style::Pixelated,
            StyleArgument::Solid => Style::Solid,
        };
        let whom = match self.blur {
            None => return Ok(None),
            Some(WhomArgument::All) => Whom::All,
            Some(WhomArgument::Unknown) if has_gallery => Whom::Unknown,
            Some(WhomArgument::Unknown) => {
                let reason =
                    "--blur unknown needs --gallery FILE: without one everyone is unknown; --blur all covers everyone";
                return Err(UsageError(reason.into()));
            }
        };
        Ok(Some(Blur { whom, style }))
    }
}
