//! What K-FAC is compared with, each with several settings of which the best counts.

use clap::ValueEnum;

use super::peers::Peer;
use crate::methods::MethodConfig;

/// What to compare K-FAC with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Nesterov's accelerated gradient, rates 0.05, 0.02, 0.01, 0.005
    Nag,
    /// Adam, rates 0.003, 0.001, 0.0003, 0.0001
    Adam,
    /// SGD with momentum 0.9, rates 0.2, 0.1, 0.05, 0.02
    Sgd,
    /// kfac-jax with its autoencoder example's settings, batches of 500, 1000, 4000
    KfacJax,
    /// The same nag in PyTorch
    TorchNag,
    /// PyTorch's Adam, the same rates
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

const NAG_RATES: [f64; 4] = [0.05, 0.02, 0.01, 0.005];
const ADAM_RATES: [f64; 4] = [0.003, 0.001, 0.0003, 0.0001];
const SGD_RATES: [f64; 4] = [0.2, 0.1, 0.05, 0.02];
const KFAC_JAX_BATCHES: [usize; 3] = [500, 1000, 4000];

impl Rival {
    /// Its settings, for a penalty and the batches of first-order methods.
    pub fn contenders(self, l2: f64, batch: usize) -> Vec<Contender> {
        let own = |methods: [MethodConfig; 4]| methods.map(Contender::Own).to_vec();
        let peers = |peers: Vec<Peer>| peers.into_iter().map(Contender::Peer).collect();
        match self {
            Self::Nag => own(NAG_RATES.map(|rate| MethodConfig::Nag {
                rate,
                max_momentum: 0.99,
                l2,
            })),
            Self::Adam => own(ADAM_RATES.map(|rate| MethodConfig::Adam { rate, l2 })),
            Self::Sgd => own(SGD_RATES.map(|rate| MethodConfig::Sgd {
                rate,
                momentum: 0.9,
                l2,
            })),
            Self::KfacJax => peers(
                KFAC_JAX_BATCHES
                    .map(|batch| Peer::KfacJax { batch })
                    .to_vec(),
            ),
            Self::TorchNag => peers(
                NAG_RATES
                    .map(|rate| Peer::TorchNag { rate, batch })
                    .to_vec(),
            ),
            Self::TorchAdam => peers(
                ADAM_RATES
                    .map(|rate| Peer::TorchAdam { rate, batch })
                    .to_vec(),
            ),
        }
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
