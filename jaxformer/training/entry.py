"""What a program calls: train, evaluate, predict, plan, prepare, tune; each takes a configuration and a workdir.

Standard output carries the result; messages go through `logging`. User errors are `ValueError` and `OSError` with a
message for a person. Not for flags (`run.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

import jax

from jaxformer.config import Config, to_dict
from jaxformer.parallel.processes import check_agreement, explained_loss
from jaxformer.paths import expanded
from jaxformer.training.closing import record_result, say_done, say_finished
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.workdir import Workdir

if TYPE_CHECKING:
    from jaxformer.data.prepare import PreparedData
    from jaxformer.tasks.translator import Translation
    from jaxformer.training.checkpoint import Checkpoints

_LOGGER = logging.getLogger(__name__)


def train(config: Config, workdir: Workdir | str | os.PathLike[str]) -> dict[str, Any]:
    """Trains `config` in `workdir`, or continues, and evaluates; prints the scores and where everything is.

    A run that is finished is left alone, and said so. SIGTERM and Ctrl-C save and end with `Interrupted`, a
    `SystemExit`.

    Returns:
      The result: what is in `result.json`.

    Raises:
      ValueError: for data or settings that cannot be used, or a loss that is no number.
      OSError: for a workdir that cannot be written, or is in use.
    """
    workdir = _as_workdir(workdir)
    began = time.perf_counter()
    with explained_loss():
        check_agreement(to_dict(config))
    from jaxformer.training.planner.record import keep
    from jaxformer.training.planner.resolve import adopt

    with explained_loss():
        asked, config = config, adopt(config, workdir)
    with explained_loss(), _claimed(workdir, config):
        if (result := workdir.result()) is not None:
            say_finished(workdir, result)
            return result
        _use_compilation_cache(config)
        _keep_attention_table(config, workdir)
        _use_attention_table(workdir)
        from jaxformer.data.prepare import prepare as prepare_data
        from jaxformer.training import scoring
        from jaxformer.training.session import Session, open_checkpoints
        from jaxformer.training.trained import best_translator

        scoring.reference_lines(config.data)  # refused before anything is prepared
        prepared = prepare_data(config.data)
        _LOGGER.info("cleaning of the training split:\n%s", prepared.report)
        splits = {"validation": prepared.validation, "test": prepared.test}
        present = {split: pairs for split, pairs in splits.items() if pairs}
        scoring.read_references(config.data, present.get("test"))  # refuse before training, not after it
        _keep_tokenizer(workdir, prepared.tokenizer)
        with contextlib.closing(open_checkpoints(config, workdir)) as checkpoints:
            config = _planned(config, prepared, checkpoints)
            if asked.left_open:
                keep(asked, config, workdir)
            session = Session(config, workdir, prepared, checkpoints)
            _LOGGER.info("%s", session.describe())
            with Interruption() as interruption:
                try:
                    outcome = session.train(interruption)
                except Interrupted as interrupted:
                    _LOGGER.warning("%s: run the same command to continue", interrupted)
                    raise
            translator, described = best_translator(config, session.task, checkpoints, session.layout)
        _LOGGER.info("final evaluation: %s, %s search", described, config.decoding.method)
        with _decoding_memory(config):
            scored = scoring.score_splits(config, workdir.predictions, translator, present)
        result = record_result(config, workdir, outcome, scored, described, time.perf_counter() - began)
        say_done(config, workdir, result, scored)
        return result


def evaluate(config: Config, workdir: Workdir | str | os.PathLike[str]) -> dict[str, float]:
    """Translates and scores the validation and test splits of a trained run; prints the scores.

    The translations go to `predictions/evaluate/`: those that `result.json` gives the scores of stay as they are. Needs
    the workdir and the text of the splits, not the prepared training data.

    Returns:
      The scores, such as `test/bleu`.

    Raises:
      ValueError: if there is nothing to evaluate on.
      OSError: if the run or its data cannot be read.
    """
    from jaxformer.training import scoring
    from jaxformer.training.trained import open_translator

    workdir = _as_workdir(workdir)
    _use_compilation_cache(config)
    _use_attention_table(workdir)
    splits = scoring.evaluation_splits(config.data)
    if not splits:
        raise ValueError("there is neither a validation nor a test split: name one with --config.data.test")
    translator, described = open_translator(config, workdir)
    with _decoding_memory(config):
        scored = scoring.score_splits(config, workdir.predictions / "evaluate", translator, splits)
    print(f"{workdir.path}: {described}\n{scoring.score_table(scored)}")
    print("\n".join(f"  translations of {one.split}: {one.file}" for one in scored), flush=True)
    return scoring.metrics_of(scored)


def predict(
    config: Config,
    workdir: Workdir | str | os.PathLike[str],
    lines: Iterable[str],
    output: TextIO,
    *,
    interactive: bool = False,
) -> None:
    """Translates `lines` with a trained run, one line out for each line in, in order.

    With `decoding.n_best` above 1, as many lines as were found for each line in, best first, in the form of Moses:
    `NUMBER ||| TEXT ||| SCORE`, lines counted from 0, the score normalised by length.

    Args:
      config: of the run.
      workdir: of the run; nothing else is needed.
      lines: without their line ends; read a part at a time, or with `interactive` one at a time.
      output: gets the translations.
      interactive: a person types: prompt on standard error and answer every line at once.

    Raises:
      OSError: if the run cannot be read.
    """
    import sys

    from jaxformer.training.trained import open_translator

    workdir = _as_workdir(workdir)
    _use_compilation_cache(config)
    _use_attention_table(workdir)
    translator, described = open_translator(config, workdir)
    _LOGGER.info("translating with %s", described)
    prompt = f"{config.data.target_language if config.data.reverse else config.data.source_language}> "

    def asked() -> Iterator[str]:
        rest = iter(lines)
        while True:
            sys.stderr.write(prompt)
            sys.stderr.flush()
            try:
                yield next(rest)
            except StopIteration:
                sys.stderr.write("\n")
                return

    stream = translator.translate_stream(asked(), chunk=1) if interactive else translator.translate_stream(lines)
    with _decoding_memory(config):
        for number, translation in enumerate(stream):
            output.write(_written(translation, number, n_best=config.decoding.n_best > 1))
            if interactive:
                output.flush()
    output.flush()


def _written(translation: Translation, number: int, *, n_best: bool) -> str:
    if not n_best:
        return translation.text + "\n"
    candidates = [(one.text, one.score) for one in translation.n_best] or [("", 0.0)]
    return "".join(f"{number} ||| {text} ||| {score:.6g}\n" for text, score in candidates)


def prepare(config: Config) -> None:
    """Downloads (TFDS sets only), cleans and caches the data of `config`; prints the cleaning table and where it is."""
    from jaxformer.data.prepare import prepare as prepare_data

    if config.data.source == "tfds":
        from jaxformer.data.tfds import download_and_prepare

        download_and_prepare(config.data)
    prepared = prepare_data(config.data)
    print(f"{prepared.report}\n{len(prepared.train):,} training pairs, ready in {prepared.cache_path}", flush=True)


def tune(config: Config, output: str = "") -> None:
    """Measures every implementation of attention on the calls that training `config` makes, on this device.

    Args:
      config: of the run; its data is prepared, because that decides the shapes.
      output: file that gets the table for `model.attention_table`, as JSON; standard output if empty.
    """
    from jaxformer.data.prepare import prepare as prepare_data
    from jaxformer.monitoring.streams import open_output
    from jaxformer.training import tuning

    _use_compilation_cache(config)
    with open_output(output) as file:  # first: what cannot be written is refused before anything is measured
        prepared = prepare_data(config.data)
        file.write(tuning.tune(_planned(config, prepared), prepared))
    if output:
        _LOGGER.info("train with what is fastest here: --config.model.attention_table=%s", output)


def plan(config: Config, workdir: Workdir | str | os.PathLike[str]) -> None:
    """Prints what `train` would do and need, and which layouts of the devices there are; writes nothing."""
    from jaxformer.ops.attention import load_measurements
    from jaxformer.training.planner.describe import describe_plan

    if config.model.attention_table:
        load_measurements(expanded(config.model.attention_table))
    print(describe_plan(config, _as_workdir(workdir)), flush=True)


_BATCHES = 16
"""Into how many batches an epoch is cut at least where the plan finds the batch."""


def _planned(config: Config, prepared: PreparedData, checkpoints: Checkpoints | None = None) -> Config:
    """`config` with what it leaves to the planner, which is said; a run with `checkpoints` keeps its batches."""
    from jaxformer.training.planner.record import shapes_before
    from jaxformer.training.planner.resolve import resolve

    if not config.left_open:
        return config
    data = prepared.train
    slots = max(int(lengths.sum()) for lengths in (data.source_lengths, data.target_lengths))
    longest = config.data.pack_length or config.data.max_length
    # A batch of most of an epoch would be mostly padding, a step or two of training.
    shapes = shapes_before(checkpoints) if checkpoints is not None else []
    config, said = resolve(config, prepared.tokenizer, limit=max(slots // _BATCHES, longest), shapes=shapes)
    _LOGGER.info("%s", said)
    return config


def _as_workdir(workdir: Workdir | str | os.PathLike[str]) -> Workdir:
    return workdir if isinstance(workdir, Workdir) else Workdir(workdir)


@contextlib.contextmanager
def _claimed(workdir: Workdir, config: Config) -> Iterator[None]:
    """Holds the workdir; the first process does so for all."""
    with contextlib.nullcontext() if jax.process_index() else workdir.claim(config):
        yield


def _use_compilation_cache(config: Config) -> None:
    """Compiled programs survive the process, so that a restart begins at once."""
    from jaxformer.data.cache import cache_folder

    folder = cache_folder(config.data.cache_dir) / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _decoding_memory(config: Config) -> contextlib.AbstractContextManager[None]:
    from jaxformer.training.memory import decoding_advice, explained_out_of_memory

    return explained_out_of_memory(lambda: decoding_advice(config.decoding))


def _keep_attention_table(config: Config, workdir: Workdir) -> None:
    """A copy in the workdir, so that the run needs nothing else and cannot change under way."""
    from jaxformer.monitoring.durable import atomic_write
    from jaxformer.ops.attention import load_measurements

    table = config.model.attention_table
    if table and not workdir.attention_table.exists():
        load_measurements(expanded(table))  # refused under the name that a person gave it
        if jax.process_index() == 0:
            atomic_write(workdir.attention_table, expanded(table).read_text(encoding="utf-8"))
    if table and jax.process_count() > 1:  # all must find the copy, or they would compile different programs
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("attention table")


def _use_attention_table(workdir: Workdir) -> None:
    from jaxformer.ops.attention import forget_measurements, load_measurements

    forget_measurements()
    if workdir.attention_table.exists():
        load_measurements(workdir.attention_table)


def _keep_tokenizer(workdir: Workdir, tokenizer: Any) -> None:
    from jaxformer.data.tokenizer import Tokenizer

    if workdir.tokenizer.exists():
        if Tokenizer.load(workdir.tokenizer).digest != tokenizer.digest:
            raise ValueError(
                f"the training text has changed since the run in {workdir.path} began: its vocabulary is another one; "
                "restore the text, or choose another --workdir"
            )
    elif jax.process_index() == 0:
        tokenizer.save(workdir.tokenizer)
