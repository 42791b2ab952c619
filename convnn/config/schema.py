"""Everything a person can set about a run: one frozen schema that flags, presets, form, help and docs are views of.

A field holds its own documentation: help text, bounds, choices, unit, flag, and the values of other options that it
needs (`when`). Which layers use an option is in the layer table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from convnn.data.catalog import DATASETS
from convnn.files import expand_home
from convnn.layer_table import LAYER_TABLE
from convnn.models.architectures import ARCHITECTURES

LAYERS = tuple(LAYER_TABLE)
When = Mapping[str, tuple[Any, ...]]
SAFE_NAME = r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}"  # one component of a path on any system

if TYPE_CHECKING:
    Model = str
    Layer = str
    Dataset = str
else:  # the choices are the rows of the tables
    Model = Literal[tuple(ARCHITECTURES)]
    Layer = Literal[LAYERS]
    Dataset = Literal[tuple(DATASETS)]


def _option(
    default: Any,
    flag: str,
    help: str,
    *,
    unit: str | None = None,
    step: float | None = None,
    when: When | None = None,
    hint: str | None = None,
    **bounds: Any,
) -> Any:
    """Return a field with its flag and documentation.

    `step` is what a key press adds in the form, and `hint` says what is allowed where there are no choices.
    """
    extra: Any = {"flag": flag, "unit": unit, "step": step, "when": when or {}, "hint": hint}
    finite = False if isinstance(default, float) else None
    return Field(default, description=help, json_schema_extra=extra, allow_inf_nan=finite, **bounds)


AsTuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
# TOML has no null: the word "none" stands for it
NoneAsWord = BeforeValidator(lambda value: None if value == "none" else value)
HomeExpanded = AfterValidator(lambda path: None if path is None else expand_home(path))


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)  # built when first used


class ModelSection(Section):
    """The network whose convolutions are replaced by the layer."""

    name: Model = _option("vgg11", "--model", "model architecture")
    width: float = _option(
        1.0, "--width", "width multiplier of the channels and of the head's hidden units", step=0.25, gt=0, le=16
    )


class LayerSection(Section):
    """The layer in every convolution slot."""

    type: Layer = _option("ConvNN", "--layer", "layer in every convolution slot")
    kernel_size: int = _option(
        3, "--kernel_size", "kernel size of Conv2d layers and of the Conv2d branch", unit="pixels", ge=1, le=31
    )
    padding: int = _option(1, "--padding", "zero padding before the neighbor search", unit="pixels", ge=0, le=64)
    K: int = _option(9, "--K", "neighbors per position, itself included", ge=1)
    magnitude_type: Literal["cosine", "euclidean"] = _option(
        "cosine", "--magnitude_type", "similarity of two positions"
    )
    similarity_type: Literal["Loc", "Col", "Loc_Col"] = _option(
        "Col", "--similarity_type", "what is compared: coordinates (Loc), features (Col) or both"
    )
    aggregation_type: Literal["Col", "Loc_Col"] = _option(
        "Col", "--aggregation_type", "what is convolved: features (Col), or features and coordinates"
    )
    lambda_param: float = _option(
        0.5,
        "--lambda_param",
        "weight of features against coordinates in Loc_Col similarity",
        step=0.05,
        ge=0,
        le=1,
        when={"layer.similarity_type": ("Loc_Col",)},
    )
    shuffle_pattern: Literal["BA", "NA"] = _option(
        "NA", "--shuffle_pattern", "pixel unshuffle before and shuffle after the layer (BA), or none (NA)"
    )
    shuffle_scale: int = _option(
        0,
        "--shuffle_scale",
        "scale of the pixel shuffle: at least 1 with BA, 0 with NA",
        ge=0,
        when={"layer.shuffle_pattern": ("BA",)},
    )
    attention_dropout: float = _option(
        0.1, "--attention_dropout", "dropout of the attention weights", step=0.05, ge=0, lt=1
    )


class SamplingSection(Section):
    """The candidates that a query chooses its neighbors from."""

    type: Literal["all", "random", "spatial"] = _option(
        "all", "--sampling_type", "candidates of the neighbor search: all positions, a random draw, or a spatial grid"
    )
    num_samples: int = _option(
        -1,
        "--num_samples",
        "number of random candidates, or side of the spatial grid; -1 with all",
        ge=-1,
        when={"sampling.type": ("random", "spatial")},
    )
    sample_padding: int = _option(
        0, "--sample_padding", "margin of the spatial grid", unit="pixels", ge=0, when={"sampling.type": ("spatial",)}
    )


class BranchingSection(Section):
    """How a branching layer divides its output channels."""

    ratio: float = _option(
        0.5, "--branch_ratio", "fraction of the output channels from the ConvNN branch", step=0.125, ge=0, le=1
    )


class DataSection(Section):
    """The data set, and what is done to its images."""

    dataset: Dataset = _option("cifar10", "--dataset", "data set")
    path: Annotated[str, HomeExpanded] = _option(
        "./Data",
        "--data_path",
        "directory of the data set; CIFAR is downloaded to it",
        hint="text: a path, where ~ is a home directory",
        min_length=1,
        when={"data.dataset": ("cifar10", "cifar100", "imagenet", "folder")},
    )
    resize: Annotated[int | None, NoneAsWord] = _option(
        None, "--resize", "side to which images are resized", unit="pixels", ge=8, le=4096
    )
    limit: Annotated[int | None, NoneAsWord] = _option(
        None, "--limit", "maximum number of images per split, balanced over the classes", unit="images", step=100, ge=1
    )
    val_share: float = _option(
        0.0, "--val_share", "fraction of the training images held out for validation", step=0.05, ge=0, le=0.9
    )
    augment: bool = _option(False, "--augment", "random crop with padding 4 and random horizontal flip")
    noise: float = _option(
        0.0, "--noise", "standard deviation of Gaussian noise added to normalized training images", step=0.05, ge=0
    )
    workers: int = _option(
        4, "--workers", "processes that decode images", ge=0, le=256, when={"data.dataset": ("imagenet",)}
    )


class TrainingSection(Section):
    """The training loop."""

    batch_size: int = _option(256, "--batch_size", "images per step", unit="images", step=16, ge=1)
    drop_last: bool = _option(False, "--drop_last", "leave out a smaller last batch of training images")
    accumulate: int = _option(
        1, "--accumulate", "gradient accumulation: micro-batches per step, each normalized by BatchNorm alone", ge=1
    )
    num_epochs: int = _option(150, "--num_epochs", "passes over the training images", unit="epochs", ge=1)
    criterion: Literal["CrossEntropy", "MSE"] = _option(
        "CrossEntropy", "--criterion", "loss function; MSE takes one-hot targets"
    )
    label_smoothing: float = _option(
        0.0,
        "--label_smoothing",
        "label smoothing of the training loss; evaluation takes the labels as they are",
        step=0.05,
        ge=0,
        lt=1,
        when={"training.criterion": ("CrossEntropy",)},
    )
    clip_grad_norm: float = _option(
        1.0, "--clip_grad_norm", "maximum global norm of the gradient; 0 disables clipping", step=0.5, ge=0
    )
    early_stop: Annotated[int | None, NoneAsWord] = _option(
        None,
        "--early_stop",
        "epochs without a better validation accuracy after which training ends",
        unit="epochs",
        ge=1,
    )
    ema_decay: Annotated[float | None, NoneAsWord] = _option(
        None,
        "--ema",
        "decay per step of an exponential moving average of the weights, which is evaluated beside them",
        step=0.01,
        ge=0,
        lt=1,
    )
    bn_recalibrate: int = _option(
        0,
        "--bn_recalibrate",
        "training batches from which BatchNorm takes its running statistics anew before each evaluation; 0 keeps those "
        "of training",
        unit="batches",
        ge=0,
    )
    seed: int = _option(0, "--seed", "seed of weights, data order, random candidates and augmentation", ge=0, lt=2**63)


class OptimizerSection(Section):
    """How weights are updated."""

    name: Literal["adam", "sgd", "adamw"] = _option("adamw", "--optimizer", "optimizer")
    lr: float = _option(1e-3, "--lr", "initial learning rate", gt=0)
    weight_decay: float = _option(
        1e-6, "--weight_decay", "weight decay: decoupled in adamw, L2 penalty in adam and sgd", ge=0
    )
    momentum: float = _option(
        0.9, "--momentum", "momentum of sgd", step=0.05, ge=0, lt=1, when={"optimizer.name": ("sgd",)}
    )


class SchedulerSection(Section):
    """How the learning rate changes over the epochs."""

    name: Literal["step", "cosine", "plateau", "none"] = _option(
        "none", "--scheduler", "learning rate schedule; plateau monitors the accuracy"
    )
    step: int = _option(
        20,
        "--lr_step",
        "epochs between two decays of the learning rate",
        unit="epochs",
        ge=1,
        when={"scheduler.name": ("step",)},
    )
    gamma: float = _option(
        0.1,
        "--lr_gamma",
        "factor of a decay of the learning rate",
        step=0.05,
        gt=0,
        lt=1,
        when={"scheduler.name": ("step", "plateau")},
    )
    warmup_epochs: int = _option(
        0, "--warmup_epochs", "epochs of a learning rate that rises linearly, before the schedule", unit="epochs", ge=0
    )


class RuntimeSection(Section):
    """Where and how the run is computed."""

    device: str = _option(
        "auto",
        "--device",
        "device; auto selects cuda, then mps, then cpu",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        hint="auto, cpu, cuda, cuda:N, mps",
    )
    amp: bool = _option(False, "--use_amp", "automatic mixed precision")
    amp_dtype: Literal["auto", "bf16", "fp16"] = _option(
        "auto", "--amp_dtype", "number format of mixed precision; cpu supports bf16 only", when={"runtime.amp": (True,)}
    )
    matmul: Literal["auto", "tf32", "fp32"] = _option(
        "auto",
        "--matmul",
        "float32 products and convolutions on cuda: tf32 rounds their factors to 10 bits; auto is tf32",
    )
    cuda_graph: Literal["auto", "off"] = _option(
        "auto",
        "--cuda_graph",
        "run forward and backward as one CUDA graph: auto does on cuda where a step is small",
        when={"runtime.compile": (False,), "runtime.deterministic": (False,)},
    )
    compile: bool = _option(False, "--use_compiled", "compile the model with torch.compile")
    compile_mode: Literal["default", "reduce-overhead", "reduce-memory", "max-autotune"] = _option(
        "default",
        "--compile_mode",
        "mode of torch.compile; reduce-memory recomputes activations in the backward pass",
        when={"runtime.compile": (True,)},
    )
    threads: int = _option(
        0,
        "--threads",
        "CPU threads of torch, shared by the processes; 0: those it may use, at a resume as before",
        ge=0,
        le=1024,
    )
    processes: int = _option(
        1,
        "--processes",
        "processes that share the images of each step, one GPU each; with more runs than GPUs, one GPU a run is faster",
        ge=1,
        le=4096,
    )
    deterministic: bool = _option(
        False, "--deterministic", "only deterministic algorithms (cpu runs always repeat bit for bit)"
    )


class CheckpointSection(Section):
    """When the state of a run is saved."""

    every_epochs: int = _option(1, "--checkpoint_epochs", "epochs between two checkpoints", unit="epochs", ge=1)
    every_minutes: Annotated[float | None, NoneAsWord] = _option(
        None, "--checkpoint_minutes", "minutes between two checkpoints within an epoch", unit="minutes", gt=0
    )
    keep_optimizer: bool = _option(
        True, "--keep_optimizer", "a finished run keeps the optimizer state in its last checkpoint, for a fork"
    )


class RunSection(Section):
    """What the run is called, and what it records beside its metrics."""

    name: Annotated[str | None, NoneAsWord] = _option(
        None,
        "--name",
        "name of the run, part of its directory's name",
        pattern=f"^{SAFE_NAME}$",
        hint="letters, digits, . _ + = -",
    )
    tags: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\s,\x00-\x1f\x7f]{1,60}$")], ...], AsTuple] = _option(
        (), "--tag", "tag to find the run by; can be repeated", hint="a word"
    )
    neighbor_stats: bool = _option(
        True, "--neighbor_stats", "record after each epoch what layers with neighbors or branches choose"
    )


class OutputSection(Section):
    """Where the run is written; never part of a preset."""

    dir: Annotated[str | None, NoneAsWord, HomeExpanded] = _option(
        None,
        "--output_dir",
        "directory of the run, empty or not there yet; none creates one under ./runs",
        hint="text: a path, where ~ is a home directory",
        min_length=1,
    )
    test_only: bool = _option(False, "--test_only", "evaluate a checkpoint instead of training")


class RunConfig(Section):
    """The whole configuration of a run, as its `config.toml` holds it."""

    model: ModelSection = Field(default_factory=ModelSection)
    layer: LayerSection = Field(default_factory=LayerSection)
    sampling: SamplingSection = Field(default_factory=SamplingSection)
    branching: BranchingSection = Field(default_factory=BranchingSection)
    data: DataSection = Field(default_factory=DataSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    scheduler: SchedulerSection = Field(default_factory=SchedulerSection)
    runtime: RuntimeSection = Field(default_factory=RuntimeSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    run: RunSection = Field(default_factory=RunSection)
    output: OutputSection = Field(default_factory=OutputSection)

    def with_values(self, values: Mapping[str, Any]) -> RunConfig:
        """Return a copy with other values of some options, by key; they are not checked."""
        sections = {
            name: getattr(self, name).model_copy(update=fields) for name, fields in section_tables(values).items()
        }
        return self.model_copy(update=sections)


def section_tables(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return values by option key as values by section and field, as TOML holds them."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, field = key.partition(".")
        sections.setdefault(section, {})[field] = value
    return sections
