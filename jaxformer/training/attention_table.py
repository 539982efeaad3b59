"""The measurements that `model.attention_table` pins a run to: read from the file that was named, kept in the workdir.

Not for making them (`tuning`) nor for their format (`jaxformer.ops.attention.choice`).
"""

from __future__ import annotations

import jax

from jaxformer.config import Config
from jaxformer.paths import expanded
from jaxformer.training.workdir import Workdir


def load(config: Config) -> str:
    """Takes the file that `config` names into account, if it names one, and returns its text.

    Raises:
      OSError: if it cannot be read, saying what to do.
      ValueError: if it is no such table.
    """
    from jaxformer.ops.attention import load_measurements

    table = config.model.attention_table
    if not table:
        return ""
    try:
        load_measurements(expanded(table))
        return expanded(table).read_text(encoding="utf-8")
    except OSError as error:
        problem, kind = f"{error.strerror}", type(error)
    except UnicodeDecodeError:
        problem, kind = "it is not UTF-8", OSError
    raise kind(
        f"cannot read --config.model.attention_table={table}: {problem}; give a file that --mode=tune --output=FILE "
        "has written"
    )


def keep(config: Config, workdir: Workdir) -> None:
    """A copy in the workdir, so that the run needs nothing else and cannot change under way.

    Raises:
      OSError, ValueError: as of `load`.
    """
    from jaxformer.monitoring.durable import atomic_write

    if not config.model.attention_table:
        return
    if not workdir.attention_table.exists():
        text = load(config)  # refused under the name that a person gave it
        if jax.process_index() == 0:
            atomic_write(workdir.attention_table, text)
    if jax.process_count() > 1:  # all must find the copy, or they would compile different programs
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("attention table")


def use(workdir: Workdir) -> None:
    """The copy in the workdir, if there is one, and no other table."""
    from jaxformer.ops.attention import forget_measurements, load_measurements

    forget_measurements()
    if workdir.attention_table.exists():
        load_measurements(workdir.attention_table)
