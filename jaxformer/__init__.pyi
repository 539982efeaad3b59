"""The public names with their types: type checkers and editors do not see what is imported when it is first used."""

from jaxformer.config import (
    Config as Config,
)
from jaxformer.config import (
    DataConfig as DataConfig,
)
from jaxformer.config import (
    DecodingConfig as DecodingConfig,
)
from jaxformer.config import (
    MemoryConfig as MemoryConfig,
)
from jaxformer.config import (
    MeshConfig as MeshConfig,
)
from jaxformer.config import (
    ModelConfig as ModelConfig,
)
from jaxformer.config import (
    MonitoringConfig as MonitoringConfig,
)
from jaxformer.config import (
    OptimizerConfig as OptimizerConfig,
)
from jaxformer.config import (
    ProfileConfig as ProfileConfig,
)
from jaxformer.config import (
    TaskConfig as TaskConfig,
)
from jaxformer.config import (
    TrainingConfig as TrainingConfig,
)
from jaxformer.config import (
    replace as replace,
)
from jaxformer.data.bundled import BundledCorpus as BundledCorpus
from jaxformer.data.labelled import LabelledDataset as LabelledDataset
from jaxformer.data.labelled import Labels as Labels
from jaxformer.data.pipeline import BatchPipeline as BatchPipeline
from jaxformer.data.pipeline import evaluation_batches as evaluation_batches
from jaxformer.data.prepare import prepare as prepare
from jaxformer.data.proteins import Chain as Chain
from jaxformer.data.proteins import SyntheticChains as SyntheticChains
from jaxformer.data.series.windows import (
    Patching as Patching,
)
from jaxformer.data.series.windows import (
    PriceWindows as PriceWindows,
)
from jaxformer.data.series.windows import (
    SeriesWindows as SeriesWindows,
)
from jaxformer.data.sources import open_splits as open_splits
from jaxformer.data.tokenizer import Tokenizer as Tokenizer
from jaxformer.data.tokenizer import train_tokenizer as train_tokenizer
from jaxformer.decoding import (
    Hypotheses as Hypotheses,
)
from jaxformer.decoding import (
    beam_search as beam_search,
)
from jaxformer.decoding import (
    greedy_search as greedy_search,
)
from jaxformer.decoding import (
    sample as sample,
)
from jaxformer.evaluation import (
    Score as Score,
)
from jaxformer.evaluation import (
    corpus_bleu as corpus_bleu,
)
from jaxformer.evaluation import (
    corpus_chrf as corpus_chrf,
)
from jaxformer.evaluation import (
    exact_match as exact_match,
)
from jaxformer.evaluation import (
    tokenized_bleu as tokenized_bleu,
)
from jaxformer.evaluation.classification import (
    classification_scores as classification_scores,
)
from jaxformer.evaluation.classification import (
    confusion_matrix as confusion_matrix,
)
from jaxformer.evaluation.forecasting import (
    coverage as coverage,
)
from jaxformer.evaluation.forecasting import (
    mean_absolute_error as mean_absolute_error,
)
from jaxformer.evaluation.forecasting import (
    mean_squared_error as mean_squared_error,
)
from jaxformer.evaluation.forecasting import (
    pinball_loss as pinball_loss,
)
from jaxformer.models import (
    Encoder as Encoder,
)
from jaxformer.models import (
    EncoderDecoder as EncoderDecoder,
)
from jaxformer.models import (
    EncoderWithHeads as EncoderWithHeads,
)
from jaxformer.models import (
    Ensemble as Ensemble,
)
from jaxformer.nn import (
    ChannelHead as ChannelHead,
)
from jaxformer.nn import (
    CrossAttention as CrossAttention,
)
from jaxformer.nn import (
    DecoderBlock as DecoderBlock,
)
from jaxformer.nn import (
    Embedding as Embedding,
)
from jaxformer.nn import (
    EncoderBlock as EncoderBlock,
)
from jaxformer.nn import (
    FeedForward as FeedForward,
)
from jaxformer.nn import (
    LearnedWeights as LearnedWeights,
)
from jaxformer.nn import (
    Neighbourhood as Neighbourhood,
)
from jaxformer.nn import (
    PooledHead as PooledHead,
)
from jaxformer.nn import (
    Residual as Residual,
)
from jaxformer.nn import (
    SelfAttention as SelfAttention,
)
from jaxformer.nn import (
    Stack as Stack,
)
from jaxformer.nn import (
    TokenHead as TokenHead,
)
from jaxformer.nn import (
    ValueEmbedding as ValueEmbedding,
)
from jaxformer.ops import (
    Mask as Mask,
)
from jaxformer.ops import (
    absolute_error as absolute_error,
)
from jaxformer.ops import (
    apply_rotary as apply_rotary,
)
from jaxformer.ops import (
    attention as attention,
)
from jaxformer.ops import (
    binary_cross_entropy as binary_cross_entropy,
)
from jaxformer.ops import (
    cross_entropy as cross_entropy,
)
from jaxformer.ops import (
    dropout as dropout,
)
from jaxformer.ops import (
    huber_loss as huber_loss,
)
from jaxformer.ops import (
    linear_cross_entropy as linear_cross_entropy,
)
from jaxformer.ops import (
    multi_label_cross_entropy as multi_label_cross_entropy,
)
from jaxformer.ops import (
    quantile_loss as quantile_loss,
)
from jaxformer.ops import (
    r_drop_cross_entropy as r_drop_cross_entropy,
)
from jaxformer.ops import (
    shift_right as shift_right,
)
from jaxformer.ops import (
    sinusoidal_positions as sinusoidal_positions,
)
from jaxformer.ops import (
    squared_error as squared_error,
)
from jaxformer.ops import (
    uncertainty_total as uncertainty_total,
)
from jaxformer.ops import (
    weigh_classes as weigh_classes,
)
from jaxformer.ops import (
    weighted_total as weighted_total,
)
from jaxformer.parallel.mesh import make_mesh as make_mesh
from jaxformer.tasks.classification import ClassificationTask as ClassificationTask
from jaxformer.tasks.forecasting import ForecastingTask as ForecastingTask
from jaxformer.tasks.objectives import Classes as Classes
from jaxformer.tasks.objectives import Numbers as Numbers
from jaxformer.tasks.objectives import Quantiles as Quantiles
from jaxformer.tasks.objectives import YesNo as YesNo
from jaxformer.tasks.tagging import TaggingTask as TaggingTask
from jaxformer.tasks.task import ModelTask as ModelTask
from jaxformer.tasks.task import Task as Task
from jaxformer.tasks.translation import TranslationTask as TranslationTask
from jaxformer.tasks.translator import Translator as Translator
from jaxformer.tasks.translator_pool import TranslatorPool as TranslatorPool
from jaxformer.training.entry import train as train
from jaxformer.training.optimizer import make_optimizer as make_optimizer
from jaxformer.training.optimizer import make_schedule as make_schedule
from jaxformer.training.state import TrainState as TrainState
from jaxformer.training.state import create_state as create_state
from jaxformer.training.step import make_train_step as make_train_step
from jaxformer.training.trained import load_predictor as load_predictor
from jaxformer.training.trained import load_translator as load_translator
from jaxformer.types import (
    BOS_ID as BOS_ID,
)
from jaxformer.types import (
    EOS_ID as EOS_ID,
)
from jaxformer.types import (
    PAD_ID as PAD_ID,
)
from jaxformer.types import (
    UNK_ID as UNK_ID,
)
from jaxformer.types import (
    Batch as Batch,
)
from jaxformer.types import (
    LabelledBatch as LabelledBatch,
)
from jaxformer.types import (
    Mean as Mean,
)
from jaxformer.types import (
    Pair as Pair,
)
from jaxformer.types import (
    PositionLabels as PositionLabels,
)
from jaxformer.types import (
    RowLabels as RowLabels,
)
from jaxformer.types import (
    Sequences as Sequences,
)
from jaxformer.types import (
    Series as Series,
)

__version__: str
__all__: list[str]
