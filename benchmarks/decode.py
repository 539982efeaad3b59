"""Decoding with jaxformer beside CTranslate2 (the same network, weights and sentences) and Hugging Face's generate.

    python -m benchmarks.decode [--experiment=multi30k:tiny] [--sentences=512] [--rounds=5] [--json=FILE]
    python -m benchmarks.decode --search=1x32 --each --rounds=41
    python -m benchmarks.decode --workdir=runs/multi30k-tiny --input=test2016.en

Without `--workdir`, weights are random, and the embeddings of the special tokens 0, so that none of them is ever
chosen: every sentence has 16 source and 16 target tokens, the work is the same for all. With it, a trained run
translates a text, whose sentences end when they end. Greedy outputs must agree before anything is timed (a few may
differ where two logits are equal to the last digits). Both are timed in both ways of using several cores: together, or
each by itself (`decoding.processes`, CTranslate2's `inter_threads`), and both give every output its score.
`transformers`, where it is installed, has the same shape, but weights of its own, and its outputs are not compared.
Sides take turns; rates, in sentences a second, are medians over rounds, and so are the ratios of a round's times. A few
rounds tell nothing finer than a tenth on a machine that others use.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from operator import truediv
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report
from jaxformer.cores import available_cores
from jaxformer.monitoring.heap import restart_with_heap_settings

PACKAGES = ("jax", "flax", "ctranslate2", "transformers", "torch")
LENGTH = 16
AGREEMENT = 0.97  # share of equal greedy outputs
_EACH = ", each core by itself"
SEARCHES = ((1, 32), (1, 256), (4, 32), (4, 256))  # beam size, rows of a batch

Translate = Callable[[], list[list[int]]]
"""Translates all sentences of a subject; the tokens of each output, without the end of the sentence."""


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


class Subject(NamedTuple):
    """What is translated with which network.

    Attributes:
      task: of jaxformer, makes translators.
      params: of its network.
      sentences: text of each line.
      source: its tokens, the end of the sentence last.
      limit: longest output in tokens, the end of the sentence included; 0 for each line's own limit.
      longest: of any output.
    """

    task: Any
    params: Any
    sentences: list[str]
    source: list[list[int]]
    limit: int
    longest: int


def random_subject(experiment: str, vocabulary: int, sentences: int) -> Subject:
    """The network of an experiment with random weights, and random sentences."""
    import numpy as np

    import experiments
    from benchmarks.peers.ctranslate2_model import SPECIAL
    from jaxformer.tasks.translation import TranslationTask

    name, _, variant = experiment.partition(":")
    numbers = Numbers(vocabulary)
    task = TranslationTask(experiments.find(name).config(variant), numbers)  # type: ignore[arg-type]
    params = task.init_params(0)
    table = params["target_embedding"]["table"]
    table[...] = table[...].at[: len(SPECIAL)].set(0.0)
    drawn = np.random.default_rng(0).integers(len(SPECIAL), vocabulary, (sentences, LENGTH - 1))
    texts = [" ".join(map(str, row)) for row in drawn]
    return Subject(task, params, texts, numbers.encode_source(texts), LENGTH, LENGTH)


def trained_subject(workdir: str, text: Path) -> Subject:
    """A trained run and the lines of a file; those that are empty or too long are left out."""
    from jaxformer.data.tokenizer import Tokenizer
    from jaxformer.parallel.mesh import first_copy, make_layout
    from jaxformer.tasks.translation import TranslationTask
    from jaxformer.training.averaging import select_params
    from jaxformer.training.run_checkpoints import open_checkpoints
    from jaxformer.training.workdir import Workdir

    run = Workdir(workdir)
    config = run.load_config()
    tokenizer = Tokenizer.load(run.tokenizer)
    task = TranslationTask(config, tokenizer)
    with contextlib.closing(open_checkpoints(config, run, read_only=True)) as checkpoints:
        layout = make_layout(config.mesh)
        params = first_copy(select_params(checkpoints, config.training, task.abstract_params(layout))[0], layout)
    lines = [line for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    pairs = zip(lines, tokenizer.encode_source(lines), strict=True)
    kept = [(line, ids) for line, ids in pairs if len(ids) <= task.max_length]
    if not kept:
        raise ValueError(f"{text} has no line that the run in {workdir} can translate: give another --input")
    sentences, source = map(list, zip(*kept, strict=True))
    return Subject(task, params, sentences, source, 0, task.max_length)


def our_side(subject: Subject, beam: int, rows: int, stack: contextlib.ExitStack | None = None) -> Translate:
    """jaxformer. A batch has as many rows as asked for where they have 16 tokens, and fewer where they are longer.

    With `stack`, which ends them, processes translate, each on a core of its own.
    """
    from jaxformer.config import DecodingConfig
    from jaxformer.tasks.translator_pool import TranslatorPool

    decoding = DecodingConfig(
        method="beam" if beam > 1 else "greedy", beam_size=beam, max_length=subject.limit, batch_tokens=rows * LENGTH,
        length_penalty=1.0,
    )
    translator = subject.task.translator(subject.params, decoding)
    if stack is not None:
        translator = stack.enter_context(TranslatorPool(translator, available_cores()))

    def translate() -> list[list[int]]:
        return [found.n_best[0].tokens[:-1] for found in translator.translate(subject.sentences)]

    return translate


def their_side(folder: Path, subject: Subject, beam: int, rows: int, kind: str, *, at_once: bool) -> Translate:
    """CTranslate2 in precision `kind`; its cores share every batch or, with `at_once`, each has one of its own."""
    import ctranslate2

    cores = available_cores()
    inter, intra = (cores, 1) if at_once else (1, cores)
    translator = ctranslate2.Translator(
        str(folder), device="cpu", compute_type=kind, inter_threads=inter, intra_threads=intra
    )
    sentences = [[*map(str, ids[:-1]), "</s>"] for ids in subject.source]

    def translate() -> list[list[int]]:
        found = translator.translate_batch(
            sentences, max_batch_size=rows, beam_size=beam, max_decoding_length=subject.longest, length_penalty=1.0,
            return_scores=True,
        )
        return [[int(token) for token in result.hypotheses[0] if token.isdigit()] for result in found]

    return translate


def agreement(ours: list[list[int]], theirs: list[list[int]]) -> float:
    """The share of outputs whose tokens are equal, but for a last one that one side may have had to end with."""
    pairs = zip(ours, theirs, strict=True)
    return sum(a == b or a == b[:-1] for a, b in pairs) / len(ours)


def timed(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of each side; the sides take turns."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, translate in sides.items():
            start = time.perf_counter()
            translate()
            times[side].append(time.perf_counter() - start)
    return times


def convert(subject: Subject, folder: Path) -> Any:
    """Writes the network as a CTranslate2 model; returns its sizes."""
    import jax
    import numpy as np

    from benchmarks.peers import ctranslate2_model
    from benchmarks.peers.our_training import named, sizes_of
    from benchmarks.peers.work import Work
    from jaxformer.ops import sinusoidal_positions

    sizes = sizes_of(subject.task.config, subject.task.tokenizer.source_vocabulary_size)
    length = max(subject.longest, subject.task.max_length)
    positions = np.asarray(sinusoidal_positions(jax.numpy.arange(length), sizes.d_model))
    work = Work(sizes, named(subject.params), [], positions)
    ctranslate2_model.convert(work, folder, rotary=subject.task.config.model.position == "rotary")
    return sizes


def measure(
    subject: Subject, folder: Path, sizes: Any, beam: int, rows: int, kinds: Sequence[str], rounds: int, *, each: bool
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Rows of the table and of the JSON for one search; `each`: only of sides whose cores work by themselves."""
    ways = {_EACH: True} if each else {"": False, _EACH: True}
    with contextlib.ExitStack() as stack:
        sides: dict[str, Callable[[], Any]] = {
            f"jaxformer{way}": our_side(subject, beam, rows, stack if at_once else None)
            for way, at_once in ways.items()
        }
        for kind in kinds:
            for way, at_once in ways.items():
                sides[f"ctranslate2 {kind}{way}"] = their_side(folder, subject, beam, rows, kind, at_once=at_once)
        outputs = {side: translate() for side, translate in sides.items()}  # compiles as well
        if importlib.util.find_spec("transformers") and subject.limit and not each:
            from benchmarks.peers.transformers_model import make_translate

            sides["transformers"] = make_translate(sizes, subject.source, beam, rows, LENGTH)
        first = next(iter(outputs.values()))
        same = {side: agreement(first, output) for side, output in outputs.items()}
        exact = {side: share for side, share in same.items() if "int8" not in side}
        if beam == 1 and min(exact.values()) < AGREEMENT:
            raise SystemExit(f"greedy outputs do not agree, so it is not the same work: {exact}")
        times = timed(sides, rounds)
    search = "greedy" if beam == 1 else f"beam {beam}"
    table, figures = [], []
    for side, taken in times.items():
        rates = sorted(len(subject.sentences) / seconds for seconds in taken)
        rate, name = statistics.median(rates), f"{search}, {rows} rows: {side}"
        ratios = (statistics.median(map(truediv, taken, times[f"jaxformer{way}"])) for way in ways)
        table.append([
            name, f"{rate:,.0f}", f"{rates[0]:,.0f} to {rates[-1]:,.0f}", *(f"{ratio:.2f}" for ratio in ratios),
            f"{same[side]:.0%}" if side in same else "",
        ])
        figures.append({
            "name": name, "value": rate, "unit": "sentences/s", "lowest": rates[0], "highest": rates[-1],
            "seconds": taken,
        })  # fmt: skip
    return table, figures


def _search(text: str) -> tuple[int, int]:
    """`1x32`: beam size and rows."""
    beam, _, rows = text.partition("x")
    if not (beam.isdecimal() and rows.isdecimal() and int(beam) and int(rows)):
        raise argparse.ArgumentTypeError(f"{text!r} is not BEAMxROWS, such as 1x32")
    return int(beam), int(rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="multi30k:tiny", help="whose sizes are used")
    parser.add_argument("--vocabulary", type=report.positive, default=8000, help="pieces")
    parser.add_argument("--sentences", type=report.positive, default=512, help="how many are translated")
    parser.add_argument("--workdir", help="of a trained run, instead of random weights")
    parser.add_argument("--input", type=Path, help="text to translate, a sentence a line; with --workdir")
    parser.add_argument("--rounds", type=report.positive, default=5, help="how often each side is timed")
    parser.add_argument(
        "--search", action="append", type=_search, metavar="BEAMxROWS",
        help="beam size and rows of a batch, such as 1x32; may be repeated; all four by default",
    )  # fmt: skip
    parser.add_argument("--each", action="store_true", help="only sides whose cores work each by itself")
    parser.add_argument("--int8", action="store_true", help="CTranslate2 in int8 as well")
    report.add_json_flag(parser)
    options = parser.parse_args()
    if (options.workdir is None) != (options.input is None):
        parser.error("--workdir and --input go together: a trained run, and a text for it")
    try:
        subject = (
            trained_subject(options.workdir, options.input)
            if options.workdir
            else random_subject(options.experiment, options.vocabulary, options.sentences)
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    kinds = ["float32", "int8"] if options.int8 else ["float32"]
    rows, figures = [], []
    with tempfile.TemporaryDirectory() as folder:
        sizes = convert(subject, Path(folder) / "model")
        print(report.heading(*PACKAGES), f"{len(subject.sentences)} sentences; {sizes}\n", sep="\n", flush=True)
        for beam, batch in options.search or SEARCHES:
            table, found = measure(
                subject, Path(folder) / "model", sizes, beam, batch, kinds, options.rounds, each=options.each
            )
            rows += table
            figures += found
    ratios = ("jaxformer is faster by", "each core by itself by")[1 if options.each else 0 :]
    print(report.table(["", "sentences/s", "lowest to highest", *ratios, "equal outputs"], rows))
    report.write_json(options.json, figures, *PACKAGES)


if __name__ == "__main__":
    restart_with_heap_settings()
    main()
