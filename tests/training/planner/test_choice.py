"""Which layouts are considered, what rules them out, and which one is taken."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from jaxformer.config import replace
from jaxformer.training.planner.candidates import REMAT, candidates, meshes
from jaxformer.training.planner.choice import Plan, describe_option, judge, make_plan
from jaxformer.training.planner.footprint import footprint
from jaxformer.training.planner.hardware import Hardware, hardware_for
from jaxformer.training.planner.roofline import products, traffic
from jaxformer.training.planner.share import Candidate, batch_shape
from jaxformer.training.planner.table import describe_arithmetic, describe_layouts
from tests.training.planner.sizes import CONFIG, ROWS, SLOTS, model_of, share


def _hardware(**changes) -> Hardware:
    return dataclasses.replace(hardware_for(CONFIG.plan, "fp32"), **changes)


def _plan(changes=None, **hardware) -> Plan:
    return make_plan(model_of(changes), _hardware(**hardware))


def test_all_meshes_are_considered_once():
    found = list(meshes(8))
    assert len(found) == len(set(found)) == math.comb(3 + 3, 3)  # three factors of 2 among four axes
    assert all(math.prod(mesh) == 8 for mesh in found)


def test_every_candidate_is_usable_or_has_a_reason():
    plan = _plan()
    considered = sum(len(group) for group in candidates(CONFIG, plan.hardware))
    assert len(plan.options) + len(plan.too_large) + sum(refusal.count for refusal in plan.refused) == considered
    # Four heads do not divide over eight devices of tensor; over those of context they need not.
    heads = [refusal for refusal in plan.refused if "num_heads=4 does not divide" in refusal.reason]
    assert len(heads) == 1
    assert not [option for option in plan.options if option.candidate.tensor == 8]
    shared = [option.share for option in plan.options if option.candidate.tensor * option.candidate.context == 8]
    assert shared
    assert all(one.gathers_keys and one.heads == 4 // one.candidate.tensor for one in shared)


def test_the_first_is_the_fastest_or_as_good_and_simpler():
    plan = _plan()
    fastest = max(option.slots_per_second for option in plan.options)
    assert plan.best.slots_per_second > 0.98 * fastest
    rest = [option.slots_per_second for option in plan.options[1:]]
    assert rest == sorted(rest, reverse=True)
    alike = [option for option in plan.options if option.slots_per_second > 0.98 * fastest]
    assert plan.best.complexity == min(option.complexity for option in alike)


def test_a_state_too_large_for_one_device_is_split():
    whole = _plan(memory=1e12)
    assert whole.best.candidate == Candidate(data=8)
    need = whole.best.memory.total
    plan = _plan(memory=0.6 * need)
    assert plan.best.memory.total <= 0.6 * need
    assert plan.best.candidate != Candidate(data=8)
    assert [one.memory.total for one in plan.too_large] == sorted(one.memory.total for one in plan.too_large)
    assert min(one.memory.total for one in plan.too_large) > 0.6 * need


def test_a_slow_network_keeps_activations_within_a_host():
    base = _hardware(count=16, per_host=8)
    slow = dataclasses.replace(base, rates=dataclasses.replace(base.rates, network=1e6, latency=0.0, start=0.0))
    best = make_plan(model_of({"data.batch_tokens": 64 * SLOTS}), slow).best
    assert best.candidate.context * best.candidate.tensor <= 8


def test_where_nothing_fits_the_nearest_and_the_way_out_are_said():
    plan = _plan({"data.batch_tokens": 8000 * SLOTS}, memory=1000.0)
    assert not plan.options
    with pytest.raises(ValueError, match=r"no layout of 8 x H200 fits: the nearest, .*, needs .* and a step may use"):
        plan.best  # noqa: B018
    with pytest.raises(ValueError, match=r"are parameters and optimizer: use more devices, or a smaller --config"):
        _plan({"model.d_model": 512, "data.batch_tokens": 8 * SLOTS}, memory=1000.0).best  # noqa: B018
    with pytest.raises(ValueError, match=r"are for the step: lower --config.data.batch_tokens"):
        plan.best  # noqa: B018


def test_where_nothing_divides_every_reason_is_said():
    with pytest.raises(ValueError, match=r"no layout of 7 x H200 divides this model and this batch:\n") as refused:
        _plan({"data.batch_tokens": SLOTS}, count=7, per_host=7).best  # noqa: B018
    text = str(refused.value)
    # Sequences in seven parts have 14 places, and rows over seven devices need seven: the first of these is said.
    assert "data.batch_tokens=12 does not hold 1 rows of 14 tokens" in text
    assert "raise --config.data.batch_tokens to 14 or more" in text
    assert "model.num_heads=4 does not divide" in text
    assert re.search(r"\n  [2-9]\d* layouts: ", text), "a count of layouts, no factor"


def test_batches_that_a_run_began_with_are_kept_and_must_divide():
    model = model_of({"data.batch_tokens": 64 * SLOTS})
    shapes = [(24, 12, 12), (60, 4, 6)]
    plan = make_plan(model, _hardware(count=4, per_host=4), shapes=shapes)
    for option in plan.options:
        candidate = option.candidate
        assert 12 % (candidate.data * candidate.fsdp * candidate.accumulate) == 0
        assert 2 % candidate.context == 0
        assert option.share.batch == (24, 12, 12), "the longest rows of them, not the most slots, are what needs most"
    assert plan.best.candidate.data == 4
    reasons = " ".join(refusal.reason for refusal in plan.refused)
    assert "have 60 rows, which do not divide into 8 (mesh.data x mesh.fsdp x memory.accumulate)" in reasons
    assert "are 6 tokens long, which do not divide into 4 (mesh.context)" in reasons
    # Of eight devices no axis of rows may have more than four: tensor or context have the rest.
    assert make_plan(model, _hardware(), shapes=shapes).best.candidate.sizes["data"] < 8


def test_where_no_layout_divides_the_batches_of_a_run_the_way_out_is_said():
    with pytest.raises(ValueError, match="no layout of 7 x H200 divides this model and this batch") as refused:
        make_plan(model_of(), _hardware(count=7, per_host=7), shapes=[(24, 12, 12), (60, 4, 6)]).best  # noqa: B018
    text = str(refused.value)
    assert " layouts: the batches of this run have 24 rows, which do not divide into " in text
    assert " layouts: the batches of this run are 12 tokens long, which do not divide into 7 (mesh.context)" in text
    assert "continue it on a number of devices that divides 12; or on some of these, with --config.mesh.data=6" in text
    assert text.endswith("or begin again in another --workdir")


def test_a_layout_that_makes_another_batch_is_ruled_out():
    # 12 rows: eight parts make 8 of them.
    model = model_of({"data.batch_tokens": 12 * SLOTS})
    plan = make_plan(model, _hardware())
    assert plan.options
    assert all(option.share.batch[0] >= 0.9 * 12 for option in plan.options)
    reasons = {refusal.reason for refusal in plan.refused}
    assert "rows must be a multiple of 8, which makes 8 of 12: another batch" in reasons
    # Eight parts of a sequence make 16 slots of 12.
    both = "rows must be a multiple of 1 and their 12 slots one of 8 (mesh.context), which makes 9 of 12: another batch"
    assert both in reasons
    given = make_plan(model, _hardware(), only=Candidate(context=8)).best.share
    assert (given.batch, given.slots) == ((9, 16, 16), 9 * SLOTS), "what a length is rounded up by is no throughput"


def test_the_largest_batch_fills_memory_and_no_more():
    memory = 64 * 1024**2
    for candidate in (Candidate(data=8), Candidate(data=2, tensor=2, context=2), Candidate(fsdp=8, remat="full")):
        model = model_of({"data.batch_tokens": 0})
        found = make_plan(model, _hardware(memory=memory), only=candidate).best
        step = candidate.data * candidate.fsdp
        assert found.memory.total <= memory < footprint(share(candidate, rows=found.share.batch[0] + step)).total
        assert found.share.batch[0] % step == 0
    limited = make_plan(model, _hardware(memory=memory), only=Candidate(data=8), limit=100 * SLOTS).best
    assert limited.share.batch[0] == 96


def test_with_the_batch_to_be_found_each_layout_has_its_own():
    plan = _plan({"data.batch_tokens": 0}, memory=64 * 1024**2)
    assert {option.candidate.accumulate for option in plan.options} == {1}
    assert len({option.share.batch for option in plan.options}) > 3
    assert all(option.memory.total <= 64 * 1024**2 for option in plan.options)


def test_batches_are_those_of_the_pipeline():
    assert batch_shape(CONFIG, 8) == (ROWS, SLOTS)
    assert batch_shape(CONFIG, 24, 5) == (24, 15)
    packed = model_of({"data.batching": "pack", "data.pack_length": 16, "data.batch_tokens": 32 * 16}).config
    assert batch_shape(packed, 8) == (32, 16)
    with pytest.raises(ValueError, match=r"data.pack_length=16 does not divide into 3 parts"):
        batch_shape(packed, 8, 3)
    with pytest.raises(ValueError, match=r"does not divide into rows of 16 tokens in multiples of 24"):
        batch_shape(packed, 24)


def test_all_layouts_compute_the_same_products_but_for_recomputation():
    one = products(share(Candidate()))
    layouts = ({"data": 8}, {"fsdp": 8}, {"tensor": 4}, {"tensor": 2, "context": 2}, {"data": 8, "accumulate": 2})
    for candidate in (Candidate(**sizes) for sizes in layouts):
        assert products(share(candidate)) * candidate.devices == pytest.approx(one)
    # Vaswani's layers by hand: products of weights with slots, scores and weighted sums, logits; 2 FLOPs, 3 passes.
    d, f, v, slots = 32, 64, 48, ROWS * SLOTS
    weights = slots * (2 * 4 * d * d + 4 * d * d + 2 * 2 * d * f) + slots * d * v
    scores = 3 * 2 * ROWS * SLOTS * SLOTS * d
    assert one == pytest.approx(3 * 2 * (weights + scores))
    layers = 3 * 2 * (weights - slots * d * v + scores)
    assert products(share(Candidate(remat="full"))) == pytest.approx(one + layers / 3)


def test_recomputing_saves_memory_and_costs_time():
    options = [judge(share(Candidate(data=8, remat=remat), rows=4096), _hardware()) for remat in REMAT[:3]]
    memory, time = [one.memory.total for one in options], [one.time.total for one in options]
    assert memory[0] > memory[1] > memory[2]
    assert time[0] < time[1] < time[2]
    offloaded = judge(share(Candidate(data=8, remat="offload"), rows=4096), _hardware())
    assert offloaded.memory.total < memory[1]
    assert offloaded.memory.host > 0
    assert offloaded.time.total > time[1]


def test_micro_batches_save_memory_and_cost_traffic():
    whole, parts = share(Candidate(data=8)), share(Candidate(data=8, accumulate=4))
    assert footprint(parts).kept == pytest.approx(footprint(whole).kept / 4)
    assert traffic(parts) > traffic(whole)


def test_the_table_shows_ten_with_reasons_and_what_was_asked_for():
    plan = _plan(memory=_plan().best.memory.total * 0.999)
    last = plan.options[-1]
    text = describe_layouts(plan, last.candidate)
    head, *rows = text.splitlines()
    assert head.split()[:2] == ["mesh", "micro-batches"]
    assert rows[0].lstrip().startswith("1  ")
    assert ("fastest: " in rows[0]) or ("as fast as any, and the simplest" in rows[0])
    assert all("slower: most in" in row or "faster, but less simple" in row for row in rows[1:10])
    assert rows[10].lstrip().startswith(f"{len(plan.options)} ")
    assert "(this configuration)" in rows[10]
    assert f"{len(plan.too_large)} need more than" in text
    assert "ruled out, such as: model.num_heads=4" in text


def test_the_arithmetic_adds_up():
    option = _plan().best
    memory = option.memory
    assert memory.total == memory.state + memory.kept + memory.working + memory.gradients + memory.copies
    assert option.time.total == pytest.approx(
        option.time.products + option.time.memory + option.time.starts + sum(option.time.exchanges.values())
    )
    text = describe_arithmetic(option, _hardware())
    assert f"together {1e3 * option.time.total:,.2f} ms" in text
    assert "rates: data sheet" in text
    assert describe_option(option) == "data=8, 1 micro-batch"


def test_a_batch_that_is_found_has_rows_in_the_multiple_that_is_asked_for():
    model = model_of({"data.batch_tokens": 0, "data.row_multiple": 24})
    for limit in (0, 100 * SLOTS, SLOTS):
        rows, length, _ = make_plan(model, _hardware(), only=Candidate(data=8), limit=limit).best.share.batch
        assert rows % 24 == 0
        found = replace(model.config, {"data.batch_tokens": rows * length})
        assert batch_shape(found, 8) == (rows, length), "what is planned is what is trained with"
