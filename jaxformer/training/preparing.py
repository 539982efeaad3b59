"""What comes between a configuration and a session: the data, and what is left to the planner.

Not for how data is read (`studies`) or layouts are compared (`planner`).
"""

from __future__ import annotations

import logging

from jaxformer.config import Config, replace
from jaxformer.parallel.mesh import make_layout
from jaxformer.training.beginning import check_beginning
from jaxformer.training.checkpoint import Checkpoints
from jaxformer.training.planner.record import shapes_before
from jaxformer.training.planner.resolve import resolve
from jaxformer.training.same_data import check_same_everywhere, keep_facts
from jaxformer.training.study import MakeStudy, Prepared, Study, task_maker
from jaxformer.training.workdir import Workdir

_LOGGER = logging.getLogger(__name__)


def prepare_run(study: Study, workdir: Workdir, make_study: MakeStudy) -> Prepared:
    """The data of a run, and its facts kept in the workdir; what can be refused is refused as early as it is known."""
    study.check()
    if not workdir.began:
        check_beginning(study.config, workdir, make_study)
    if not study.config.left_open:
        make_layout(study.config.mesh)
    prepared = study.prepare()
    _LOGGER.info("cleaning of the training split:\n%s", prepared.report)
    study.check_prepared(prepared)
    check_same_everywhere(prepared)
    keep_facts(study, prepared.facts, workdir)
    return prepared


def with_own_vocabulary(config: Config, workdir: Workdir) -> Config:
    """A run that was given a vocabulary has it in its folder when it goes on: where it came from may be gone."""
    if config.data_with_vocabulary.vocabulary and workdir.tokenizer.exists():
        return replace(config, {"data.vocabulary": str(workdir.tokenizer)})
    return config


def planned(
    study: Study, prepared: Prepared, make_study: MakeStudy, checkpoints: Checkpoints | None = None
) -> Config:
    """The configuration with what the planner chooses, which is said; a run with `checkpoints` keeps its batches."""
    if not study.config.left_open:
        return study.config
    shapes = shapes_before(checkpoints) if checkpoints is not None else []
    config, said = resolve(
        study.config, task_maker(prepared.facts, make_study), slots=study.slots(prepared), shapes=shapes
    )
    _LOGGER.info("%s", said)
    return config
