"""Translation English-Spanish on short everyday sentences of Tatoeba.

Source: tatoeba.org through manythings.org/anki; 114,112 training pairs as `train.tsv.gz`, 2,000 in `dev.tsv`. The
recipe is that of `multi30k:tiny` with 12,000 steps, not tuned again.

    python run.py --experiment=tatoeba --config.data.path=DIR          # DIR/train.tsv.gz, dev.tsv

Measured once, on 2026-11-25: dev BLEU 46.42 cased, chrF 65.75, exact match 20.9 %, with beam 5, of the checkpoint that
was best on dev by greedy BLEU (45.43; it was the last). There is no test split. It took 136 minutes on 2 cores of an
Intel Xeon with AVX-512, in two pieces, other runs beside both; alone that machine does 4.2 steps a second, 48 minutes
in all.
"""

from __future__ import annotations

from experiments import multi30k
from jaxformer.config import Config, replace

VARIANTS: dict[str, Config] = {
    "tiny": replace(
        multi30k.VARIANTS["tiny"],
        {
            "data": {
                "path": "../shared/data/tatoeba_en_es",
                "source_language": "en",
                "target_language": "es",
                "references": "",
                "validation": "dev",
            },
            "training": {"num_steps": 12_000},
        },
    )
}

DESCRIPTIONS = {"tiny": "Tatoeba en-es, the recipe of multi30k:tiny"}
