"""How translations are found, and what a run shows and records of itself.

None of it changes what is learnt.
"""

from __future__ import annotations

import dataclasses

from jaxformer.config.checks import check_choice, check_not_negative, check_positive, check_seed, check_types


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """How translations are found.

    Attributes:
      method: `beam`, `greedy` or `sample`.
      beam_size: beam width, W.
      length_penalty: alpha of Wu et al. 2016, equation 14; 0 ranks by plain log-probability.
      n_best: hypotheses returned for each sentence: at most `beam_size` of a beam, 1 of `greedy`; `sample` draws as
        many as are wanted.
      temperature, top_k, top_p: of sampling; `top_k=0` and `top_p=1` keep the whole vocabulary.
      seed: of sampling.
      max_length: longest output in tokens; 0 for twice the source plus ten. Never more than `data.max_length`, the
        longest that the model was trained on.
      batch_tokens: source slots decoded at once.
      ensemble: folders of further runs, separated by commas, that translate together with this one: the mean of their
        probabilities; with `--mode=predict` and `evaluate`. They need the same vocabulary and direction, nothing else.
      processes: that translate at a time with `--mode=predict` on a CPU, each with cores of its own: the number of
        cores is fastest for more than some thousand lines; each takes some seconds to begin, and the memory of a run.
    """

    method: str = "beam"
    beam_size: int = 5
    length_penalty: float = 1.0
    n_best: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_length: int = 0
    batch_tokens: int = 4096
    ensemble: str = ""
    processes: int = 1

    def __post_init__(self) -> None:
        check_types("decoding", self)
        check_choice("decoding.method", self.method, "beam", "greedy", "sample")
        check_positive("decoding", self, "beam_size", "n_best", "temperature", "batch_tokens", "processes")
        check_seed("decoding", self)
        check_not_negative("decoding", self, "length_penalty", "top_k", "max_length")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"decoding.top_p must be greater than 0 and at most 1, got {self.top_p}")
        if self.method == "beam" and self.n_best > self.beam_size:
            raise ValueError(
                f"decoding.n_best={self.n_best} is more than decoding.beam_size={self.beam_size}: "
                "a beam holds no more hypotheses than its width"
            )
        if self.method == "greedy" and self.n_best > 1:
            raise ValueError(
                f"decoding.n_best={self.n_best} is more than the one hypothesis of decoding.method=greedy: set "
                "--config.decoding.n_best=1, or --config.decoding.method to beam or sample"
            )


@dataclasses.dataclass(frozen=True)
class MonitoringConfig:
    """What is shown and recorded.

    Attributes:
      progress: one live progress line on standard error.
      tensorboard: write event files to `tensorboard/` in the workdir.
      samples: sample translations printed at the end.
      breakdown: before training, time the forward pass, the backward pass and the update of one step apart.
    """

    progress: bool = True
    tensorboard: bool = True
    samples: int = 10
    breakdown: bool = False

    def __post_init__(self) -> None:
        check_types("monitoring", self)
        check_not_negative("monitoring", self, "samples")


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """A trace of a few steps by `jax.profiler`, in `profile/` of the workdir, for xprof.

    Attributes:
      start_step: the first step that is traced; a batch shape that comes for the first time compiles.
      num_steps: how many are traced; 0 for none.
    """

    start_step: int = 20
    num_steps: int = 0

    def __post_init__(self) -> None:
        check_types("profile", self)
        check_positive("profile", self, "start_step")
        check_not_negative("profile", self, "num_steps")
