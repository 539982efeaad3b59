"""jaxformer's command line: flags -> experiment -> one call.

  python run.py --list                                          the experiments and their variants
  python run.py --experiment=wmt                                assess the machine, train, evaluate
  python run.py --experiment=wmt:base --mode=prepare            download and prepare the data set
  python run.py --experiment=wmt --mode=plan                    what would run
  python run.py --experiment=wmt --mode=tune --output=FILE      find the fastest attention for it on this device
  python run.py --mode=evaluate --workdir=W                     score a trained run
  python run.py --mode=predict --workdir=W < in.en > out.de     translate, one line out for each line in
  python run.py --experiment=wmt --config.optimizer.learning_rate=1e-3    set any field of the configuration
  python run.py --experiment=wmt --sweep=optimizer.learning_rate=1e-3,3e-4 --sweep=training.seed=0,1,2    compare values
"""

from __future__ import annotations

import sys
from typing import Any

from jaxformer.monitoring.early import begin

if __name__ == "__main__":
    begin("run.py")  # before the imports below, which take a moment

from absl import flags
from ml_collections import config_dict, config_flags

import experiments
from jaxformer import training
from jaxformer.config import Config, nearest, replace, to_dict
from jaxformer.config_reference import checked_flags, overview, refused
from jaxformer.monitoring.console import exit_code, log_to_stderr
from jaxformer.monitoring.machine import assess
from jaxformer.monitoring.streams import check_streams, open_lines, open_output
from jaxformer.training.sweep.options import SWEEP_FLAGS, read_sweep
from jaxformer.training.workdir import Workdir, evaluation_config

MODES = ("train", "prepare", "plan", "tune", "evaluate", "predict")
TEXT_FLAGS = {
    "experiment": "NAME or NAME:VARIANT; may be left out when the workdir holds a run",
    "mode": "one of " + ", ".join(MODES),
    "workdir": "folder of the run; runs/NAME-VARIANT if empty",
    "input": "for predict, the text to translate; standard input if empty",
    "processes": "for train on a CPU: as many processes at once, each with cores of its own; faster than one",
    "join": "NUMBER/COUNT@HOST:PORT, for one of several processes that no cluster has started",
    "output": "for predict, where translations go, for tune the table; standard output if empty",
}
SWITCHES = {"list": "list the experiments", "debug": "show the stack trace of an error", "help": "show this text"}


def parse(argv: list[str]) -> tuple[flags.FlagValues, dict[str, Any]]:
    """The flags and the overridden config fields of a command line; refuses what it does not know with `ValueError`."""
    values = flags.FlagValues()
    for name, text in TEXT_FLAGS.items():
        flags.DEFINE_string(name, "train" if name == "mode" else "", text, flag_values=values)
    for name, text in SWITCHES.items():
        flags.DEFINE_boolean(name, False, text, flag_values=values)
    for name, text in SWEEP_FLAGS.items():
        flags.DEFINE_multi_string(name, [], text, flag_values=values)
    argv = [*argv[:1], *checked_flags(argv[1:])]
    schema = {name: value for name, value in to_dict(Config()).items() if name != "experiment"}
    try:
        config_flags.DEFINE_config_dict("config", config_dict.ConfigDict(schema), flag_values=values, sys_argv=argv)
        if extra := values(argv)[1:]:
            raise ValueError(f"unexpected argument {extra[0]!r}: everything is said with --NAME=VALUE, see --help")
    except flags.Error as error:
        raise refused(error, (*TEXT_FLAGS, *SWITCHES, *SWEEP_FLAGS)) from None
    if values.mode not in MODES:
        raise ValueError(f"unknown mode {values.mode!r}: {nearest(values.mode, MODES)}")
    check_streams(values.mode, values.input, values.output)
    return values, config_flags.get_override_values(values["config"])


def select(values: flags.FlagValues, overrides: dict[str, Any]) -> tuple[Config, Workdir, str]:
    """The configuration, the workdir and the reason for the variant: from the experiment, or the run in the workdir."""
    stored_only, workdir, stored = values.mode in ("evaluate", "predict"), Workdir(values.workdir), None
    if stored_only and not (values.workdir or values.experiment):
        raise ValueError(f"--mode={values.mode} needs a trained run: give its folder with --workdir=DIR")
    if values.workdir and (stored_only or workdir.config.exists()):
        stored = workdir.load_config()
        experiments.check_agrees(values.experiment, stored.experiment)
    if stored and (stored_only or not values.experiment):
        config, reason = stored, "the run in the workdir"
    else:
        before, place = stored.experiment if stored else "", values.workdir or "runs"
        config, reason = experiments.select(values.experiment, before, lambda: assess(Config().data, place))
        workdir = Workdir(values.workdir or "runs/" + config.experiment.replace(":", "-"))
    return evaluation_config(workdir, overrides) if stored_only else replace(config, overrides), workdir, reason


def run(values: flags.FlagValues, overrides: dict[str, Any]) -> None:
    """Carries out a parsed command line."""
    if values.help or values.list:
        print(f"{__doc__}\n{overview(TEXT_FLAGS | SWITCHES | SWEEP_FLAGS)}" if values.help else experiments.listing())
        return
    from jaxformer.parallel import gpu_flags, local, processes  # import JAX only where they start some
    gpu_flags.set_gpu_flags()
    sweep = read_sweep(values.flag_values_dict(), overrides, lambda flag: parse(["run.py", flag])[1])
    local.start(values.processes, values.mode != "train" or values.join or sweep, lambda: select(values, overrides))
    process = processes.start_processes(values.join, alone=values.mode != "train" or sweep is not None)
    log_to_stderr(quiet=process > 0)
    if sweep:
        training.run_sweep(sweep, lambda held, look: experiments.select(values.experiment, held, look), __file__)
        return
    config, workdir, reason = select(values, overrides)
    if values.mode in ("train", "plan") and not process:
        print(assess(config.data, workdir).table(chosen=config.experiment, reason=reason), flush=True)
    if values.mode == "predict":
        with open_lines(values.input) as lines, open_output(values.output) as output:
            training.predict(config, workdir, lines, output, interactive=not values.input and sys.stdin.isatty())
    else:
        getattr(training, values.mode)(config, *{"prepare": (), "tune": (values.output,)}.get(values.mode, (workdir,)))


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit code: 0 only when the work was done."""
    return exit_code("run.py", lambda: run(*parse(argv)), debug="--debug" in argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
