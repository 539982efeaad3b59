"""Training on eight simulated devices is training on one: losses and parameters, with dropout and accumulation."""

from __future__ import annotations

from tests.devices import run_on_eight_devices

_CASE = """
    from jaxformer.config import Config, MeshConfig, replace
    from jaxformer.parallel.mesh import make_layout, place_batch
    from jaxformer.tasks.translation import TranslationTask
    from jaxformer.training import create_state, make_optimizer, make_train_step
    from jaxformer.types import Batch, Sequences

    class Sizes:
        source_vocabulary_size = target_vocabulary_size = 40

    CONFIG = replace(Config(), {
        "model": {"d_model": 32, "d_ff": 64, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 1,
                  "dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2, "max_length": 16},
        "data": {"max_length": 16},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "schedule": "constant", "warmup_steps": 0},
    })

    def side(seed):
        random = np.random.default_rng(seed)
        real = np.arange(12) < random.integers(1, 13, (32, 1))
        positions = np.broadcast_to(np.arange(12, dtype=np.int32), real.shape) * real
        tokens = random.integers(4, 40, real.shape).astype(np.int32) * real
        return Sequences(tokens, positions, real.astype(np.int32), real.astype(np.float32))

    BATCH = Batch(side(0), side(1))

    def make(devices, accumulate):
        layout = make_layout(MeshConfig(data=devices))
        task, optimizer = TranslationTask(CONFIG, Sizes(), layout), make_optimizer(CONFIG.optimizer, 10)
        state = create_state(lambda: task.new_params(0), optimizer, seed=3, ema=False, layout=layout)
        step = make_train_step(task.loss_function, optimizer, accumulate=accumulate, layout=layout)
        return step, state, place_batch(BATCH, layout)
"""


def test_devices_and_micro_batches_change_nothing():
    run_on_eight_devices(_CASE + """
    found = []
    for devices, accumulate in ((1, 1), (1, 4), (8, 1), (8, 2), (4, 2)):
        step, state, batch = make(devices, accumulate)
        losses = []
        for _ in range(4):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"].value()))
        found.append((losses, [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]))
    assert len(set(found[0][0])) == 4
    for losses, params in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=1e-5)
        for a, b in zip(params, found[0][1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    """)


def test_only_gradients_and_sums_travel():
    run_on_eight_devices(_CASE + """
    import re
    step, state, batch = make(8, 2)  # accumulating sends no more
    text = step.lower(state, batch).compile().as_text()
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in text, collective
    assert "all-reduce" in text
    moved = 0
    for line in re.findall(r"= (.*) all-reduce(?:-start)?\\(", text):
        for shape in re.findall(r"f32\\[([\\d,]*)\\]", line):
            moved += int(np.prod([int(n) for n in shape.split(",") if n]))
    # Every gradient once, and the sums and weights of the loss and three metrics.
    held = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert held < moved <= held + 8, (moved, held)
    """)
