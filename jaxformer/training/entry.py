"""What a program calls: train, evaluate, predict, plan, prepare, tune; each takes a configuration and a workdir.

Standard output carries the result; messages go through `logging`. User errors are `ValueError` and `OSError` with a
message for a person. Not for flags (`run.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import jax

from jaxformer.config import Config, to_dict
from jaxformer.monitoring.trackers import Tracker, Trackers, check_trackers, closed_in_the_end
from jaxformer.parallel.processes import check_agreement, explained_loss
from jaxformer.training import attention_table
from jaxformer.training.closing import record_result, say_done, say_finished
from jaxformer.training.interruption import Interrupted, Interruption
from jaxformer.training.shared_folder import check_shared
from jaxformer.training.workdir import Workdir

if TYPE_CHECKING:
    from jaxformer.training.study import MakeStudy, Study

_LOGGER = logging.getLogger(__name__)


def train(
    config: Config,
    workdir: Workdir | str | os.PathLike[str],
    *,
    trackers: Sequence[Tracker] = (),
    study: MakeStudy | None = None,
) -> dict[str, Any]:
    """Trains `config` in `workdir`, or continues, and evaluates; prints the scores and where everything is.

    A run that is finished is left alone, and said so. SIGTERM and Ctrl-C save and end with `Interrupted`, a
    `SystemExit`.

    Args:
      config: of the run.
      workdir: of the run.
      trackers: one's own, which get all that goes to `metrics.jsonl`, after it, on the first process alone. All are
        closed in the end; what one of them raises ends the run, which can be continued from its last checkpoint.
      study: what makes one's own `jf.Study` of a configuration, such as its class; by default that of `task.kind`.

    Returns:
      The result: what is in `result.json`.

    Raises:
      ValueError: for data or settings that cannot be used, a workdir that not all processes share, or a loss that is no
        number.
      OSError: for a workdir that cannot be written, or is in use.
    """
    from jaxformer.training.study import checked_maker

    _check_config(config)
    check_trackers(trackers)
    make_study = checked_maker(study)
    with closed_in_the_end(() if jax.process_index() else trackers) as beside:
        return _train(config, _as_workdir(workdir), beside, make_study)


def _train(config: Config, workdir: Workdir, beside: Trackers, make_study: MakeStudy) -> dict[str, Any]:
    began = time.perf_counter()
    _check_alone(config)
    with explained_loss():
        check_agreement(to_dict(config))
        check_shared(workdir)
    from jaxformer.training.planner.record import keep
    from jaxformer.training.planner.resolve import adopt

    with explained_loss():
        asked, config = config, adopt(config, workdir)
    with explained_loss(), _claimed(workdir, config):
        if (result := workdir.result()) is not None:
            say_finished(make_study(workdir.load_config()), workdir, result)
            return result
        _use_compilation_cache(config)
        attention_table.keep(config, workdir)
        attention_table.use(workdir)
        from jaxformer.training.preparing import planned, prepare_run, with_own_vocabulary
        from jaxformer.training.run_checkpoints import open_checkpoints
        from jaxformer.training.session import Session
        from jaxformer.training.trained import best_predictor

        prepared = prepare_run(make_study(with_own_vocabulary(config, workdir)), workdir, make_study)
        with contextlib.closing(open_checkpoints(config, workdir)) as checkpoints:
            config = planned(make_study(config), prepared, make_study, checkpoints)
            study = make_study(config)
            if asked.left_open:
                keep(asked, config, workdir)
            session = Session(
                config, workdir, study, prepared, checkpoints, beside=[beside], make_study=make_study
            )
            _LOGGER.info("%s", session.describe())
            with Interruption() as interruption:
                try:
                    outcome = session.train(interruption)
                except Interrupted as interrupted:
                    _LOGGER.warning("%s: run the same command to continue", interrupted)
                    raise
            predictor, described = best_predictor(study, session.task, prepared.facts, checkpoints, session.layout)
        _LOGGER.info("final evaluation: %s%s", described, study.searching())
        with _predicting_memory(study):
            scored = study.score(
                predictor, prepared.splits, predictions=workdir.predictions, report=workdir.report, prepared=prepared
            )
        seconds = time.perf_counter() - began
        result = record_result(study, workdir, outcome, scored, described, seconds, beside=[beside])
        say_done(study, workdir, result, scored)
        return result


def evaluate(config: Config, workdir: Workdir | str | os.PathLike[str]) -> dict[str, float]:
    """Predicts and scores the validation and test splits of a trained run; prints the scores.

    The predictions go to `predictions/evaluate/`: those that `result.json` gives the scores of stay as they are. Needs
    the workdir and the data of the splits, not the prepared training data.

    Returns:
      The scores, such as `test/bleu`.

    Raises:
      ValueError: if there is nothing to evaluate on.
      OSError: if the run or its data cannot be read.
    """
    from jaxformer.training.trained import open_predictor

    _check_config(config)
    workdir = _as_workdir(workdir)
    _use_compilation_cache(config)
    attention_table.use(workdir)
    study, facts, predictor, described = open_predictor(config, workdir)
    splits = study.evaluation_splits(facts)
    if not splits:
        raise ValueError("there is neither a validation nor a test split: name one with --config.data.test")
    study.check()
    with _predicting_memory(study):
        scored = study.score(predictor, splits, predictions=workdir.predictions / "evaluate")
    print(f"{workdir.path}: {described}\n{scored.table}")
    print("\n".join(f"  {what}: {file}" for what, file in scored.files.items()), flush=True)
    return dict(scored.metrics)


def predict(
    config: Config,
    workdir: Workdir | str | os.PathLike[str],
    lines: Iterable[str],
    output: TextIO,
    *,
    interactive: bool = False,
) -> None:
    """Predicts from `lines` with a trained run: translates them, or classifies them, one line out for each line in.

    With a translation's `decoding.n_best` above 1, as many lines as were found for each line in, best first, in the
    form of Moses: `NUMBER ||| TEXT ||| SCORE`, lines counted from 0, the score normalised by length.

    Args:
      config: of the run.
      workdir: of the run; nothing else is needed.
      lines: without their line ends; read a part at a time, or with `interactive` one at a time.
      output: gets the predictions.
      interactive: a person types: prompt on standard error and answer every line at once.

    Raises:
      OSError: if the run cannot be read.
    """
    import sys

    from jaxformer.training.trained import open_predictor

    _check_config(config)
    workdir = _as_workdir(workdir)
    _use_compilation_cache(config)
    attention_table.use(workdir)
    study, _, predictor, described = open_predictor(config, workdir)
    _LOGGER.info("%s with %s", study.predicting(), described)
    prompt = study.prompt

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

    stream = study.predict(predictor, asked() if interactive else lines, interactive=interactive)
    with _predicting_memory(study):
        for text in stream:
            output.write(text)
            if interactive:
                output.flush()
    output.flush()


def prepare(config: Config) -> None:
    """Downloads (TFDS sets only), cleans and caches the data of `config`; prints the cleaning table and where it is."""
    from jaxformer.training.beginning import check_beginning
    from jaxformer.training.study import open_study

    _check_config(config)
    check_beginning(config)
    prepared = (study := open_study(config)).prepare(download=True)
    place = f"ready in {prepared.cache_path}" if prepared.cache_path else "made again by every run"
    print(f"{prepared.report}\n{prepared.size:,} training {study.noun}, {place}", flush=True)


def tune(config: Config, output: str = "") -> None:
    """Measures every implementation of attention on the calls that training `config` makes, on this device.

    Args:
      config: of the run; its data is prepared, because that decides the shapes.
      output: file that gets the table for `model.attention_table`, as JSON; standard output if empty.
    """
    from jaxformer.monitoring.streams import open_output
    from jaxformer.training import tuning
    from jaxformer.training.preparing import planned
    from jaxformer.training.study import check_settings, open_study

    _check_config(config)
    _use_compilation_cache(config)
    with open_output(output) as file:  # first: what cannot be written is refused before anything is measured
        study = open_study(config)
        check_settings(study)
        prepared = study.prepare()
        file.write(tuning.tune(open_study(planned(study, prepared, open_study)), prepared))
    if output:
        _LOGGER.info("train with what is fastest here: --config.model.attention_table=%s", output)


def plan(config: Config, workdir: Workdir | str | os.PathLike[str]) -> None:
    """Prints what `train` would do and need, and which layouts of the devices there are; writes nothing."""
    from jaxformer.training.planner.describe import describe_plan

    _check_config(config)
    _check_alone(config)
    attention_table.load(config)
    print(describe_plan(config, _as_workdir(workdir)), flush=True)


def _check_config(config: object) -> None:
    """Refuses, before anything is done, what is no whole configuration: `ValueError`."""
    if not isinstance(config, Config):
        raise ValueError(
            f"config is a jf.Config, got {config!r}: make one, as by jf.replace(jf.Config(), {{'data.path': 'DIR'}})"
        )


def _check_alone(config: Config) -> None:
    """Refuses to train, or to plan it, what only translates: several runs together."""
    if config.decoding.ensemble:
        raise ValueError(
            f"decoding.ensemble={config.decoding.ensemble} is for --mode=predict and evaluate: a run trains by itself"
        )


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


def _predicting_memory(study: Study) -> contextlib.AbstractContextManager[None]:
    from jaxformer.training.memory import explained_out_of_memory

    return explained_out_of_memory(study.memory_advice)
