//! What K-FAC is compared with, each with several settings of which the best counts.

use std::str::FromStr;

use clap::ValueEnum;

use super::peers::Peer;
use crate::methods::{FirstOrderConfig, FirstOrderOptimizer, MethodConfig, RateSchedule};

/// What to compare K-FAC with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rival {
    /// Nesterov's accelerated gradient.
    Nag,
    /// Adam.
    Adam,
    /// SGD with momentum 0.9.
    Sgd,
    /// kfac-jax with its autoencoder example's settings.
    KfacJax,
    /// The same NAG in PyTorch.
    TorchNag,
    /// PyTorch's Adam.
    TorchAdam,
}

/// A method or program with its settings.
#[derive(Clone, Debug)]
pub enum Contender {
    /// One of this command's own.
    Own(MethodConfig),
    /// Another program.
    Peer(Peer),
}

/// A rival with one setting, or with all of its own: `NAME[:SETTING]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RivalChoice {
    rival: Rival,
    /// Learning rate, or size of the batches for kfac-jax.
    setting: Option<f64>,
}

impl Rival {
    /// Learning rates, or sizes of the batches for kfac-jax.
    fn settings(self) -> &'static [f64] {
        match self {
            Self::Nag | Self::TorchNag => &[0.05, 0.02, 0.01, 0.005],
            Self::Adam | Self::TorchAdam => &[0.003, 0.001, 0.0003, 0.0001],
            Self::Sgd => &[0.2, 0.1, 0.05, 0.02],
            Self::KfacJax => &[500.0, 1000.0, 4000.0],
        }
    }

    fn contender(self, setting: f64, l2: f64, batch: usize) -> Contender {
        let rate = setting;
        let constant = |optimizer| {
            Contender::Own(MethodConfig::FirstOrder(FirstOrderConfig {
                optimizer,
                rate,
                schedule: RateSchedule::CONSTANT,
                decay: l2,
            }))
        };
        match self {
            Self::Nag => Contender::Own(MethodConfig::Nag {
                rate,
                max_momentum: 0.99,
                l2,
            }),
            Self::Adam => constant(FirstOrderOptimizer::Adam),
            Self::Sgd => constant(FirstOrderOptimizer::Sgd { momentum: 0.9 }),
            Self::KfacJax => Contender::Peer(Peer::KfacJax {
                batch: setting as usize,
            }),
            Self::TorchNag => Contender::Peer(Peer::TorchNag { rate, batch }),
            Self::TorchAdam => Contender::Peer(Peer::TorchAdam { rate, batch }),
        }
    }
}

impl RivalChoice {
    /// The rival with each of its settings, or with the one that was chosen, for a penalty and the batches
    /// of first-order methods.
    pub fn contenders(&self, l2: f64, batch: usize) -> Vec<Contender> {
        let settings = match &self.setting {
            Some(setting) => std::slice::from_ref(setting),
            None => self.rival.settings(),
        };
        let contender = |setting: &f64| self.rival.contender(*setting, l2, batch);
        settings.iter().map(contender).collect()
    }
}

impl FromStr for RivalChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, setting) = match text.split_once(':') {
            Some((name, setting)) => (name, Some(setting)),
            None => (text, None),
        };
        let rival = Rival::from_str(name, true).map_err(|_| {
            let variants = Rival::value_variants().iter();
            let names =
                variants.filter_map(|rival| Some(rival.to_possible_value()?.get_name().to_owned()));
            let names: Vec<_> = names.collect();
            format!(
                "expected one of {}, or one with a setting, as torch-adam:0.001",
                names.join(", ")
            )
        })?;
        let least = if rival == Rival::KfacJax {
            1.0
        } else {
            f64::MIN_POSITIVE
        };
        let parse = |setting: &str| {
            let value = setting.parse::<f64>().ok();
            let whole = |value: f64| rival != Rival::KfacJax || value.fract() == 0.0;
            let good = |value: &f64| value.is_finite() && *value >= least && whole(*value);
            value.filter(good).ok_or(format!(
                "the setting of {name} is {setting}, expected a learning rate above 0, or a whole number of \
                 cases for kfac-jax"
            ))
        };
        let setting = setting.map(parse).transpose()?;
        Ok(Self { rival, setting })
    }
}

impl Contender {
    /// The name in tables and pictures.
    pub fn label(&self) -> String {
        match self {
            Self::Own(method) => method.label(),
            Self::Peer(peer) => peer.label(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<String> {
        let choice: RivalChoice = text.parse().unwrap();
        let contenders = choice.contenders(1e-5, 250);
        contenders.iter().map(Contender::label).collect()
    }

    #[test]
    fn a_rival_comes_with_all_its_settings_or_with_one() {
        assert_eq!(labels("kfac-jax").len(), 3);
        assert_eq!(labels("torch-adam").len(), 4);
        assert_eq!(labels("kfac-jax:250"), ["kfac-jax, batch 250"]);
        assert_eq!(labels("torch-nag:0.02"), ["PyTorch NAG 0.02"]);
    }

    #[test]
    fn what_is_no_rival_is_refused() {
        for text in [
            "lbfgs",
            "nag:",
            "nag:-1",
            "nag:fast",
            "kfac-jax:0",
            "kfac-jax:250.5",
        ] {
            assert!(text.parse::<RivalChoice>().is_err(), "{text}");
        }
    }
}
