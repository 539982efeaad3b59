"""The public names with their types: type checkers and editors do not see what is imported when it is first used."""

from jaxformer.config import (
    Config as Config,
    DataConfig as DataConfig,
    DecodingConfig as DecodingConfig,
    MemoryConfig as MemoryConfig,
    MeshConfig as MeshConfig,
    ModelConfig as ModelConfig,
    MonitoringConfig as MonitoringConfig,
    OptimizerConfig as OptimizerConfig,
    PlanConfig as PlanConfig,
    ProfileConfig as ProfileConfig,
    SeriesConfig as SeriesConfig,
    TaskConfig as TaskConfig,
    TrainingConfig as TrainingConfig,
    replace as replace,
)
from jaxformer.data.bundled import BundledCorpus as BundledCorpus
from jaxformer.data.labelled import LabelledDataset as LabelledDataset, Labels as Labels
from jaxformer.data.pipeline import BatchPipeline as BatchPipeline, evaluation_batches as evaluation_batches
from jaxformer.data.prepare import PreparedData as PreparedData, prepare as prepare
from jaxformer.data.proteins import Chain as Chain, SyntheticChains as SyntheticChains
from jaxformer.data.proteins.folded import Folded as Folded
from jaxformer.data.series.windows import (
    Patching as Patching,
    PriceWindows as PriceWindows,
    SeriesWindows as SeriesWindows,
)
from jaxformer.data.sources import Source as Source, open_splits as open_splits
from jaxformer.data.tokenizer import Tokenizer as Tokenizer, train_tokenizer as train_tokenizer
from jaxformer.decoding import (
    Hypotheses as Hypotheses,
    beam_search as beam_search,
    greedy_search as greedy_search,
    sample as sample,
)
from jaxformer.evaluation import (
    Score as Score,
    corpus_bleu as corpus_bleu,
    corpus_chrf as corpus_chrf,
    exact_match as exact_match,
    tokenized_bleu as tokenized_bleu,
)
from jaxformer.evaluation.classification import (
    classification_scores as classification_scores,
    confusion_matrix as confusion_matrix,
)
from jaxformer.evaluation.forecasting import (
    coverage as coverage,
    mean_absolute_error as mean_absolute_error,
    mean_squared_error as mean_squared_error,
    pinball_loss as pinball_loss,
)
from jaxformer.models import (
    Encoder as Encoder,
    EncoderDecoder as EncoderDecoder,
    EncoderWithHeads as EncoderWithHeads,
    Ensemble as Ensemble,
    TranslationEnsemble as TranslationEnsemble,
)
from jaxformer.monitoring.trackers import Tracker as Tracker
from jaxformer.nn import (
    ChannelHead as ChannelHead,
    CrossAttention as CrossAttention,
    DecoderBlock as DecoderBlock,
    Embedding as Embedding,
    EncoderBlock as EncoderBlock,
    FeedForward as FeedForward,
    LearnedWeights as LearnedWeights,
    Neighbourhood as Neighbourhood,
    PooledHead as PooledHead,
    Residual as Residual,
    SelfAttention as SelfAttention,
    Stack as Stack,
    TokenHead as TokenHead,
    ValueEmbedding as ValueEmbedding,
)
from jaxformer.ops import (
    Mask as Mask,
    absolute_error as absolute_error,
    apply_rotary as apply_rotary,
    attention as attention,
    binary_cross_entropy as binary_cross_entropy,
    cross_entropy as cross_entropy,
    dropout as dropout,
    huber_loss as huber_loss,
    linear_cross_entropy as linear_cross_entropy,
    multi_label_cross_entropy as multi_label_cross_entropy,
    quantile_loss as quantile_loss,
    r_drop_cross_entropy as r_drop_cross_entropy,
    shift_right as shift_right,
    sinusoidal_positions as sinusoidal_positions,
    squared_error as squared_error,
    uncertainty_total as uncertainty_total,
    weigh_classes as weigh_classes,
    weighted_total as weighted_total,
)
from jaxformer.ops.cross_entropy import CrossEntropy as CrossEntropy
from jaxformer.ops.linear_cross_entropy import RDrop as RDrop
from jaxformer.ops.losses import BinaryCrossEntropy as BinaryCrossEntropy
from jaxformer.parallel.mesh import make_mesh as make_mesh
from jaxformer.tasks.classification import ClassificationTask as ClassificationTask
from jaxformer.tasks.forecasting import ForecastingTask as ForecastingTask
from jaxformer.tasks.objectives import Classes as Classes, Numbers as Numbers, Quantiles as Quantiles, YesNo as YesNo
from jaxformer.tasks.tagging import TaggingTask as TaggingTask
from jaxformer.tasks.task import ModelTask as ModelTask, Task as Task
from jaxformer.tasks.translation import TranslationTask as TranslationTask
from jaxformer.tasks.translator import (
    Candidate as Candidate,
    PairScore as PairScore,
    Translation as Translation,
    Translator as Translator,
)
from jaxformer.tasks.translator_pool import TranslatorPool as TranslatorPool
from jaxformer.training.entry import train as train
from jaxformer.training.optimizer import make_optimizer as make_optimizer, make_schedule as make_schedule
from jaxformer.training.scored import Curves as Curves, Scored as Scored
from jaxformer.training.state import TrainState as TrainState, create_state as create_state
from jaxformer.training.step import make_train_step as make_train_step
from jaxformer.training.studies.chain_predictor import ChainPredictor as ChainPredictor
from jaxformer.training.studies.labelled import LabelledStudy as LabelledStudy
from jaxformer.training.studies.records import (
    LabelledData as LabelledData,
    LabelledFacts as LabelledFacts,
    LabelPredictor as LabelPredictor,
    Split as Split,
)
from jaxformer.training.studies.text_classifier import Classified as Classified, TextClassifier as TextClassifier
from jaxformer.training.studies.translation import TranslationStudy as TranslationStudy
from jaxformer.training.study import Study as Study
from jaxformer.training.trained import load_predictor as load_predictor, load_translator as load_translator
from jaxformer.types import (
    BOS_ID as BOS_ID,
    EOS_ID as EOS_ID,
    PAD_ID as PAD_ID,
    UNK_ID as UNK_ID,
    Batch as Batch,
    LabelledBatch as LabelledBatch,
    Mean as Mean,
    Pair as Pair,
    PositionLabels as PositionLabels,
    RowLabels as RowLabels,
    Sequences as Sequences,
    Series as Series,
)

__version__: str
__all__: list[str]
