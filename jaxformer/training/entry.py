"""What a program calls: train, evaluate, predict, plan, prepare; each takes a configuration and a workdir.

Standard output carries the result; messages go through `logging`. User errors are `ValueError` and `OSError` with a
message for a person. Not for flags (`run.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import jax

from jaxformer.config import Config
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.workdir import Workdir

if TYPE_CHECKING:
    from jaxformer.tasks.translator import Translation

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
    with _claimed(workdir, config):
        if (result := workdir.result()) is not None:
            _say_finished(workdir, result)
            return result
        _use_compilation_cache(config)
        from jaxformer.data.prepare import prepare as prepare_data
        from jaxformer.training import scoring
        from jaxformer.training.session import Session, open_checkpoints

        prepared = prepare_data(config.data)
        _LOGGER.info("cleaning of the training split:\n%s", prepared.report)
        splits = {"validation": prepared.validation, "test": prepared.test}
        present = {split: pairs for split, pairs in splits.items() if pairs}
        scoring.read_references(config.data, present.get("test"))  # refuse before training, not after it
        _keep_tokenizer(workdir, prepared.tokenizer)
        with contextlib.closing(open_checkpoints(config, workdir)) as checkpoints:
            session = Session(config, workdir, prepared, checkpoints)
            _LOGGER.info("%s", session.describe())
            with Interruption() as interruption:
                try:
                    outcome = session.train(interruption)
                except Interrupted as interrupted:
                    _LOGGER.warning("%s: run the same command to continue", interrupted)
                    raise
            translator, described = _trained_translator(config, session.task, checkpoints, session.mesh)
        _LOGGER.info("final evaluation: %s, %s search", described, config.decoding.method)
        scored = scoring.score_splits(config, workdir, translator, present)
        result = _finish(config, workdir, outcome, scored, described, time.perf_counter() - began)
        _say_done(config, workdir, result, scored)
        return result


def evaluate(config: Config, workdir: Workdir | str | os.PathLike[str]) -> dict[str, float]:
    """Translates and scores the validation and test splits of a trained run; prints the scores.

    Needs the workdir and the text of the splits, not the prepared training data.

    Returns:
      The scores, such as `test/bleu`.

    Raises:
      ValueError: if there is nothing to evaluate on.
      OSError: if the run or its data cannot be read.
    """
    from jaxformer.training import scoring

    workdir = _as_workdir(workdir)
    _use_compilation_cache(config)
    splits = scoring.evaluation_splits(config.data)
    if not splits:
        raise ValueError("there is neither a validation nor a test split: name one with --config.data.test")
    translator, described = _load_translator(config, workdir)
    scored = scoring.score_splits(config, workdir, translator, splits)
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

    workdir = _as_workdir(workdir)
    _use_compilation_cache(config)
    translator, described = _load_translator(config, workdir)
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


def plan(config: Config, workdir: Workdir | str | os.PathLike[str]) -> None:
    """Prints what `train` would do, and what it would need; runs nothing and writes nothing."""
    from jaxformer.training.planning import describe_plan

    print(describe_plan(config, _as_workdir(workdir)), flush=True)


def _as_workdir(workdir: Workdir | str | os.PathLike[str]) -> Workdir:
    return workdir if isinstance(workdir, Workdir) else Workdir(workdir)


@contextlib.contextmanager
def _claimed(workdir: Workdir, config: Config) -> Iterator[None]:
    """Holds the workdir; one that was new and in which training never began is not bound to its configuration."""
    new = [] if workdir.config.exists() else [file for file in (workdir.config, workdir.tokenizer) if not file.exists()]
    if jax.process_index():  # the first process holds it for all
        yield
        return
    with workdir.claim(config):
        try:
            yield
        except BaseException:  # Ctrl-C while data is prepared, too
            if not workdir.metrics.exists() and not any(workdir.checkpoints.glob("*")):
                for file in new:
                    file.unlink(missing_ok=True)
            raise


def _use_compilation_cache(config: Config) -> None:
    """Compiled programs survive the process, so that a restart begins at once."""
    from jaxformer.data.cache import cache_folder

    folder = cache_folder(config.data.cache_dir) / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


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


def _trained_translator(config: Config, task: Any, checkpoints: Any, mesh: Any) -> tuple[Any, str]:
    from jaxformer.parallel.mesh import first_copy, replicated
    from jaxformer.training.averaging import select_params

    params, described = select_params(checkpoints, config.training, task.abstract_params(replicated(mesh)))
    return task.translator(first_copy(params), config.decoding), described


def _load_translator(config: Config, workdir: Workdir) -> tuple[Any, str]:
    from jaxformer.data.tokenizer import Tokenizer
    from jaxformer.parallel.mesh import make_mesh
    from jaxformer.tasks.translation import TranslationTask
    from jaxformer.training.session import open_checkpoints

    for needed in (workdir.tokenizer, workdir.checkpoints):
        if not needed.exists():
            raise FileNotFoundError(f"{needed} is not there: {workdir.path} holds no trained run; train it first")
    task = TranslationTask(config, Tokenizer.load(workdir.tokenizer))
    with contextlib.closing(open_checkpoints(config, workdir, read_only=True)) as checkpoints:
        return _trained_translator(config, task, checkpoints, make_mesh(config.mesh))


def _finish(
    config: Config, workdir: Workdir, outcome: Any, scored: Any, described: str, seconds: float
) -> dict[str, Any]:
    """Records the final scores, draws the learning curve, and marks the run as finished."""
    from jaxformer.monitoring.report import learning_curves
    from jaxformer.monitoring.trackers import JsonlTracker, read_metrics
    from jaxformer.training import scoring

    metrics, step = scoring.metrics_of(scored), outcome.progress.step
    if jax.process_index():
        return {"metrics": metrics, "step": step}
    with contextlib.closing(JsonlTracker(workdir.metrics)) as tracker:
        # Under another name than the validation on the way, which translates greedily.
        tracker.log(step, {name if name.startswith("test/") else f"final/{name}": v for name, v in metrics.items()})
    records = read_metrics(workdir.metrics)
    learning_curves(records, workdir.report / "learning-curve.png", title=config.experiment)
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    return workdir.write_result(
        {**metrics, **({"train/loss": losses[-1]} if losses else {})},
        signatures=scoring.signatures_of(scored),
        evaluated=described,
        step=step,
        stopped=outcome.progress.stopped,
        target_tokens=outcome.progress.tokens,
        training_seconds=outcome.progress.seconds,
        seconds=seconds,
        throughput=outcome.speed,
        padding_efficiency=outcome.efficiency,
    )


def _say_done(config: Config, workdir: Workdir, result: dict[str, Any], scored: Any) -> None:
    from jaxformer.monitoring.progress import duration
    from jaxformer.training import scoring

    if jax.process_index():
        return
    if samples := scoring.sample_table(scored, config.monitoring.samples):
        print(f"\nsample translations ({scored[-1].split})\n\n{samples}")
    print(f"scores of {result['evaluated']}, {config.decoding.method} search\n{scoring.score_table(scored)}\n")
    print(f"{result['step']:,} steps; {duration(result['seconds'])} in this process\n")
    print(_where(workdir, config), flush=True)


def _say_finished(workdir: Workdir, result: dict[str, Any]) -> None:
    print(f"the run in {workdir.path} is finished ({result.get('step', 0):,} steps); nothing to do\n")
    for name, value in result["metrics"].items():
        print(f"  {name}  {value:.4g}" if isinstance(value, float) else f"  {name}  {value}")
    print(f"\n{_where(workdir, workdir.load_config())}", flush=True)


def _where(workdir: Workdir, config: Config) -> str:
    path: Path = workdir.path
    name, flags = config.experiment, f"--workdir={workdir.path}"
    language = config.data.target_language if config.data.reverse else config.data.source_language
    command = f"python run.py --experiment={name}" if name else "python run.py"
    rows = [
        f"everything is in {path}:",
        "  result.json, metrics.jsonl, report/learning-curve.png, predictions/, checkpoints/, tokenizer.model",
        "what next:",
        f"  {command} --mode=predict {flags} < text.{language}",
        f"  {command} --mode=evaluate {flags} --config.decoding.beam_size=8",
    ]
    if config.monitoring.tensorboard:
        rows.append(f"  tensorboard --logdir {path}/tensorboard    # after pip install tensorboard")
    return "\n".join(rows)
