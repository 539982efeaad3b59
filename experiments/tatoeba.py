"""Translation English-Spanish on short everyday sentences of Tatoeba.

Source: tatoeba.org through manythings.org/anki; 114,112 training pairs as `train.tsv.gz`, 2,000 in `dev.tsv`. The
recipe is that of `multi30k:tiny`, not tuned again.

    python run.py --experiment=tatoeba --config.data.path=DIR          # DIR/train.tsv.gz, dev.tsv
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
