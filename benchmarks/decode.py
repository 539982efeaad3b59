"""Decoding with jaxformer beside CTranslate2 (the same network, weights and sentences) and Hugging Face's generate.

    python -m benchmarks.decode [--experiment=multi30k:tiny] [--sentences=512] [--rounds=5] [--json=FILE]

Weights are random, and the embeddings of the special tokens 0, so that none of them is ever chosen: every sentence has
16 source and 16 target tokens, the work is the same for all. Greedy outputs must agree before anything is timed (a few
may differ where two logits are equal to the last digits). CTranslate2 is timed in both ways of using several cores:
all on one batch, or a batch on each. `transformers`, where it is installed, has the same shape, but weights of its own,
and its outputs are not compared. Sides take turns; rates, in sentences a second, are medians over rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from jaxformer.monitoring.huge_pages import restart_with_huge_pages

PACKAGES = ("jax", "flax", "ctranslate2", "transformers", "torch")
LENGTH = 16
AGREEMENT = 0.97  # share of equal greedy outputs


class Numbers:
    """A tokenizer whose pieces are numbers."""

    def __init__(self, size: int) -> None:
        self.source_vocabulary_size = self.target_vocabulary_size = size

    def encode_source(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids, the end of the sentence last."""
        return [[*map(int, text.split()), 3] for text in texts]

    encode_target = encode_source

    def decode_target(self, ids: Sequence[int]) -> str:
        """The numbers without the end of the sentence."""
        return " ".join(str(i) for i in ids if i != 3)


def our_side(sizes: Any, params: Any, sentences: list[str], beam: int, rows: int) -> Callable[[], list[str]]:
    """A function that translates all sentences with jaxformer."""
    from benchmarks.peers.our_training import config_of
    from jaxformer.config import DecodingConfig
    from jaxformer.tasks.translation import TranslationTask

    decoding = DecodingConfig(
        method="beam" if beam > 1 else "greedy", beam_size=beam, max_length=LENGTH, batch_tokens=rows * LENGTH
    )
    task = TranslationTask(config_of(sizes), Numbers(sizes.vocabulary))  # type: ignore[arg-type]
    translator = task.translator(params, decoding)
    return lambda: [found.text for found in translator.translate(sentences)]


def their_side(
    folder: Path, sentences: list[str], beam: int, rows: int, kind: str, *, at_once: bool
) -> Callable[[], list[str]]:
    """A function that translates all sentences with CTranslate2 in precision `kind`.

    Its cores share every batch or, with `at_once`, each has a batch of its own.
    """
    import os

    import ctranslate2

    cores = len(os.sched_getaffinity(0))
    inter, intra = (cores, 1) if at_once else (1, cores)
    translator = ctranslate2.Translator(
        str(folder), device="cpu", compute_type=kind, inter_threads=inter, intra_threads=intra
    )
    tokens = [[*sentence.split(), "</s>"] for sentence in sentences]

    def translate() -> list[str]:
        found = translator.translate_batch(
            tokens, max_batch_size=rows, beam_size=beam, max_decoding_length=LENGTH, length_penalty=1.0
        )
        return [" ".join(result.hypotheses[0]) for result in found]

    return translate


def agreement(ours: list[str], theirs: list[str]) -> float:
    """The share of outputs whose tokens are equal; the last may be an end forced by the limit."""
    pairs = zip(ours, theirs, strict=True)
    return sum(a.split()[: LENGTH - 1] == b.split()[: LENGTH - 1] for a, b in pairs) / len(ours)


def timed(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of each side; the sides take turns."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, translate in sides.items():
            start = time.perf_counter()
            translate()
            times[side].append(time.perf_counter() - start)
    return times


def sizes_of(experiment: str, vocabulary: int) -> Any:
    """The sizes of an experiment's network, without dropout; nothing is trained."""
    import experiments
    from benchmarks.peers.work import Sizes

    name, _, variant = experiment.partition(":")
    config = experiments.find(name).config(variant)
    model, optimizer = config.model, config.optimizer
    return Sizes(
        vocabulary, model.d_model, model.d_ff, model.num_heads, model.num_encoder_layers, model.num_decoder_layers,
        0.0, 0.0, optimizer.learning_rate, optimizer.b1, optimizer.b2, optimizer.eps,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="multi30k:tiny", help="whose sizes are used")
    parser.add_argument("--vocabulary", type=int, default=8000, help="pieces")
    parser.add_argument("--sentences", type=int, default=512, help="how many are translated")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is timed")
    parser.add_argument("--int8", action="store_true", help="CTranslate2 in int8 as well")
    report.add_json_flag(parser)
    options = parser.parse_args()

    import jax
    import numpy as np
    from flax import nnx

    from benchmarks.peers.ctranslate2_model import SPECIAL, convert
    from benchmarks.peers.our_training import config_of, named
    from benchmarks.peers.work import Work
    from jaxformer.ops import sinusoidal_positions
    from jaxformer.tasks.translation import TranslationTask

    sizes = sizes_of(options.experiment, options.vocabulary)
    random = np.random.default_rng(0)
    drawn = random.integers(len(SPECIAL), options.vocabulary, (options.sentences, LENGTH - 1))
    sentences = [" ".join(map(str, row)) for row in drawn]
    params: nnx.State = TranslationTask(config_of(sizes), Numbers(sizes.vocabulary)).init_params(0)  # type: ignore[arg-type]
    table = params["target_embedding"]["table"]
    table[...] = table[...].at[: len(SPECIAL)].set(0.0)
    positions = np.asarray(sinusoidal_positions(jax.numpy.arange(64), sizes.d_model))
    work = Work(sizes, named(params), [], positions)
    kinds = ["float32", "int8"] if options.int8 else ["float32"]
    print(report.heading(*PACKAGES), f"{dataclasses.asdict(sizes)}", sep="\n", end="\n\n", flush=True)
    rows, figures = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        convert(work, path)
        for beam, batch in ((1, 32), (1, 256), (4, 32), (4, 256)):
            sides: dict[str, Callable[[], Any]] = {"jaxformer": our_side(sizes, params, sentences, beam, batch)}
            for kind in kinds:
                for at_once in (False, True):
                    name = f"ctranslate2 {kind}{', a batch a core' if at_once else ''}"
                    sides[name] = their_side(path, sentences, beam, batch, kind, at_once=at_once)
            outputs = {side: translate() for side, translate in sides.items()}  # compiles as well
            if importlib.util.find_spec("transformers"):
                from benchmarks.peers.transformers_model import make_translate

                tokens = [[*map(int, sentence.split()), 3] for sentence in sentences]
                sides["transformers"] = make_translate(sizes, tokens, beam, batch, LENGTH)
            same = agreement(outputs["jaxformer"], outputs["ctranslate2 float32"])
            if beam == 1 and same < AGREEMENT:
                raise SystemExit(f"only {same:.0%} of the greedy outputs agree: the sides do not do the same work")
            times = timed(sides, options.rounds)
            search = "greedy" if beam == 1 else f"beam {beam}"
            for side, taken in times.items():
                rates = sorted(options.sentences / seconds for seconds in taken)
                rate, ours = statistics.median(rates), options.sentences / statistics.median(times["jaxformer"])
                rows.append([
                    f"{search}, {batch} rows: {side}", f"{rate:,.0f}", f"{rates[0]:,.0f} to {rates[-1]:,.0f}",
                    f"{ours / rate:.2f}",
                    f"{agreement(outputs['jaxformer'], outputs[side]):.0%}" if side in outputs else "",
                ])
                figures.append({
                    "name": f"{search}, {batch} rows: {side}", "value": rate, "unit": "sentences/s",
                    "lowest": rates[0], "highest": rates[-1],
                })
    print(report.table(["", "sentences/s", "lowest to highest", "jaxformer is faster by", "equal outputs"], rows))
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
