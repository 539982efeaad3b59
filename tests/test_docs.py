"""The documents: links lead somewhere, commands are ones that the program takes, examples run."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import jax
import pytest
from flax import nnx

import experiments
import run
from benchmarks import scaling
from jaxformer.config import replace
from jaxformer.data import cleaning
from jaxformer.training.workdir import MAY_DIFFER, evaluation_may_set
from tests.training import reversal

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
RECIPES = sorted(ROOT.glob("experiments/*.py"))


def _name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_lead_to_files(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.name} links to {target}"


def _commands(path):
    """The arguments of every complete `python run.py` command: without comment, redirection or shell loop."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for command in re.findall(r"python run\.py((?: +--[^\s`|<>;)]*)+)", text):
        yield shlex.split(command.replace("$s", "0"))


@pytest.mark.parametrize("path", DOCUMENTS + RECIPES, ids=_name)
def test_commands_are_taken(path):
    for arguments in _commands(path):
        values, overrides = run.parse(["run.py", *arguments])
        name, _, variant = values.experiment.partition(":")
        if name == "NAME" or (name == "news" and path.name == "extending.md"):
            continue
        if name:
            experiment = experiments.find(name)
            replace(experiment.config(variant or next(iter(experiment.variants))), overrides)
        else:
            assert values.list or values.workdir, f"{path.name}: {arguments} names neither experiment nor workdir"
        if values.mode in ("evaluate", "predict"):
            assert all(map(evaluation_may_set, overrides))


def test_the_network_of_a_billion_parameters_is_one():
    (planned,) = [one for one in _commands(ROOT / "docs/planning.md") if "--config.model.d_model=2048" in one]
    config = replace(experiments.find("wmt").config("big"), run.parse(["run.py", *planned])[1])
    assert replace(config, {"model.max_length": scaling.LENGTH}).model == scaling.MODELS["1B"].model
    assert f"{config.model.num_heads} heads and 8 + 8 layers" in (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


def test_what_is_said_of_scaling_is_what_its_tables_say():
    text = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if re.match(r"\| (big|1B) ", line)]
    growing, fixed = rows[:-6], rows[-6:]
    beside: dict[tuple[str, str], list[float]] = {}
    for name, devices, mesh, *_, hidden, _, _, _ in growing:
        if devices == "8" or "fsdp=8" not in mesh:  # one host has no mesh like those of `data` x `fsdp`
            beside.setdefault((name, re.sub(r"=\d+", "", mesh)), []).append(float(hidden))
    longer = [time / one - 1 for one, *more in beside.values() for time in more]
    assert f"take {min(longer):.0%} (`big`, `fsdp`) to {max(longer):.0%} (`1B`".replace("%", " %") in text
    (done,) = [512 * float(row[-1].strip("%")) / 100 for row in fixed if row[:2] == ["big", "512"]]
    assert f"512 do the work of about {done:.0f}"[:-1] in text  # its tens


def test_every_command_of_the_documents_was_looked_at():
    for path in DOCUMENTS + RECIPES:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        assert len(list(_commands(path))) == len(re.findall(r"python run\.py +--", text)), path.name


def test_every_line_of_the_cleaning_table_is_explained():
    text = (ROOT / "docs/own_text.md").read_text(encoding="utf-8")
    for line in cleaning.CleaningReport().table().splitlines():
        label = line.split("  ")[0]
        assert label.startswith("pairs ") or f"| {label} |" in text


def test_all_that_a_continued_run_may_change_is_listed():
    text = (ROOT / "docs/own_text.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"those that\s+change no number, but for rounding \((.*?)\)", text, re.DOTALL)
    fields = [f"{name}*" if name.endswith(".") else name for name in MAY_DIFFER]
    assert sorted(re.findall(r"`(.*?)`", listed)) == sorted(fields)


def test_every_document_is_linked_from_another():
    linked = {
        (path.parent / target.partition("#")[0]).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    }
    assert [path.name for path in DOCUMENTS if path.name != "README.md" and path not in linked] == []


def _blocks(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Examples write into a folder of their own, and leave no compilation cache behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", None)  # `train` has set it for the process


def test_the_examples_of_extending_work(own_folder):
    texts = _blocks("extending.md")
    recipe, block, task, tracker, _, source = (compile(text, "docs/extending.md", "exec") for text in texts)

    names: dict = {}
    exec(recipe, names)
    config = names["VARIANTS"]["small"]
    assert (config.data.target_language, config.model.d_model) == ("fr", 128)
    assert names["DESCRIPTIONS"].keys() == names["VARIANTS"].keys()

    names = {}
    exec(block, names)
    assert all(isinstance(layer, names["GatedEncoderBlock"]) for layer in names["model"].encoder)
    reversal.write_corpus(own_folder / "corpus", train=300, held_back=8)
    smaller = '"vocabulary_size": 20, "byte_fallback": False, "max_length": 16, "num_shapes": 1'
    text = texts[4].replace('"vocabulary_size": 1000', smaller)
    text = text.replace('"training"', '"decoding.method": "greedy", "training"')
    exec(tracker, names)
    exec(compile(text, "docs/extending.md", "exec"), names)
    assert names["result"]["step"] == 6
    trained = nnx.merge(names["translator"]._graph, names["translator"]._params, names["translator"]._rest)
    assert all(isinstance(layer, names["GatedEncoderBlock"]) for layer in trained.encoder)
    assert [row.split(",")[0] for row in (own_folder / "loss.csv").read_text().splitlines()] == ["2", "4", "6"]

    names = {}
    exec(task, names)
    assert names["right"] > 0.99

    names = {}
    exec(source, names)
    pairs = [("a house", "ein Haus"), ('a "tree", a dog', "ein Baum, ein Hund"), ("no", "nein")]
    for rows in (pairs[:2], pairs):
        with open(own_folder / f"{len(rows)}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    both, all_three = (names["CsvSource"](own_folder / f"{count}.csv") for count in (2, 3))
    assert len(all_three) == 3
    assert all_three[2] == pairs[2]
    assert all_three.read(1, 3) == pairs[1:]
    assert both.fingerprint() != all_three.fingerprint()
