"""Protein chains with their secondary structure: readers, cleaning, windows over long chains, and a bundled generator.

`read_splits` is where a run begins. Readers: `tsv`, `fasta`, `dssp`, `mmcif`; `sources` chooses among them. `alphabet`
knows the letters, `cleaning` counts what is wrong, `windows` cuts long chains, `synthetic` writes chains by itself.
"""

from jaxformer.data.proteins.chain import Chain
from jaxformer.data.proteins.cleaning import ChainCleaner, ChainReport
from jaxformer.data.proteins.sources import read_splits
from jaxformer.data.proteins.synthetic import SyntheticChains

__all__ = ["Chain", "ChainCleaner", "ChainReport", "SyntheticChains", "read_splits"]
