"""Everything a person can set about a run: one frozen schema that flags, presets, form, help and README are views of.

A field holds its own documentation: help text, bounds, choices, unit, flag, and what it has an effect on
(`layers`, the layer types that use it; `when`, the values of other options that it needs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LAYERS = ("Conv2d", "Conv2d_New", "ConvNN", "ConvNN_Attn", "Branching", "Branching_Attn")
_CONV = ("Conv2d", "Conv2d_New", "Branching", "Branching_Attn")
_NN = ("ConvNN", "ConvNN_Attn", "Branching", "Branching_Attn")
_PLAIN_NN = ("ConvNN", "Branching")
_ATTENTION = ("ConvNN_Attn", "Branching_Attn")
_BRANCHING = ("Branching", "Branching_Attn")
_SHUFFLED = ("Conv2d_New", *_NN)

Model = Literal["vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34"]
Layer = Literal["Conv2d", "Conv2d_New", "ConvNN", "ConvNN_Attn", "Branching", "Branching_Attn"]
Dataset = Literal["cifar10", "cifar100", "imagenet", "digits", "folder"]
When = Mapping[str, tuple[Any, ...]]
SAFE_NAME = r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}"  # one component of a path on any system


def _option(
    default: Any,
    flag: str,
    help: str,
    *,
    unit: str | None = None,
    step: float | None = None,
    layers: tuple[str, ...] = LAYERS,
    when: When | None = None,
    hint: str | None = None,
    **bounds: Any,
) -> Any:
    """A field with its flag and documentation; `step` is what a form adds per key press, `hint` stands for choices."""
    extra: Any = {"flag": flag, "unit": unit, "step": step, "layers": layers, "when": when or {}, "hint": hint}
    finite = False if isinstance(default, float) else None
    return Field(default, description=help, json_schema_extra=extra, allow_inf_nan=finite, **bounds)


_Tuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
# TOML has no null: the word "none" stands for it
NoneWord = BeforeValidator(lambda value: None if value == "none" else value)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)  # built when first used


class ModelSection(Section):
    """The network that the layer is put into."""

    name: Model = _option("vgg11", "--model", "architecture")
    width: float = _option(
        1.0, "--width", "share of the channels and of the head's hidden units", step=0.25, gt=0, le=16
    )


class LayerSection(Section):
    """The layer in every convolution slot."""

    type: Layer = _option("ConvNN", "--layer", "layer in every convolution slot")
    kernel_size: int = _option(
        3, "--kernel_size", "kernel of Conv2d layers and of the Conv2d branch", unit="pixels", ge=1, le=31, layers=_CONV
    )
    padding: int = _option(1, "--padding", "zero padding of ConvNN layers", unit="pixels", ge=0, le=64, layers=_NN)
    K: int = _option(9, "--K", "neighbours per position, itself included", ge=1, layers=_NN)
    magnitude_type: Literal["cosine", "euclidean"] = _option(
        "cosine", "--magnitude_type", "how two positions are compared", layers=_NN
    )
    similarity_type: Literal["Loc", "Col", "Loc_Col"] = _option(
        "Col", "--similarity_type", "what is compared: coordinates, features, both", layers=_PLAIN_NN
    )
    aggregation_type: Literal["Col", "Loc_Col"] = _option(
        "Col", "--aggregation_type", "what is convolved: features, or features and coordinates", layers=_SHUFFLED
    )
    lambda_param: float = _option(
        0.5,
        "--lambda_param",
        "weight of features against coordinates in Loc_Col similarity",
        step=0.05,
        ge=0,
        le=1,
        layers=_PLAIN_NN,
        when={"layer.similarity_type": ("Loc_Col",)},
    )
    shuffle_pattern: Literal["BA", "NA"] = _option(
        "NA", "--shuffle_pattern", "pixel unshuffle before and shuffle after the layer, or none", layers=_SHUFFLED
    )
    shuffle_scale: int = _option(
        0,
        "--shuffle_scale",
        "scale of the shuffle, at least 1 with BA and 0 with NA",
        ge=0,
        layers=_SHUFFLED,
        when={"layer.shuffle_pattern": ("BA",)},
    )
    attention_dropout: float = _option(
        0.1, "--attention_dropout", "dropout on the attention weights", step=0.05, ge=0, lt=1, layers=_ATTENTION
    )


class SamplingSection(Section):
    """The positions that a query may choose its neighbours from."""

    type: Literal["all", "random", "spatial"] = _option("all", "--sampling_type", "pool of candidates", layers=_NN)
    num_samples: int = _option(
        -1,
        "--num_samples",
        "random: how many candidates; spatial: side of the grid; all: -1",
        ge=-1,
        layers=_NN,
        when={"sampling.type": ("random", "spatial")},
    )
    sample_padding: int = _option(
        0,
        "--sample_padding",
        "margin of the spatial grid",
        unit="pixels",
        ge=0,
        layers=_NN,
        when={"sampling.type": ("spatial",)},
    )


class BranchingSection(Section):
    """How a branching layer divides its output channels."""

    ratio: float = _option(
        0.5,
        "--branch_ratio",
        "share of the output channels from the ConvNN branch",
        step=0.125,
        ge=0,
        le=1,
        layers=_BRANCHING,
    )


class DataSection(Section):
    """What is learned from."""

    dataset: Dataset = _option("cifar10", "--dataset", "data set")
    path: str = _option(
        "./Data",
        "--data_path",
        "where the data set is or goes",
        min_length=1,
        when={"data.dataset": ("cifar10", "cifar100", "imagenet", "folder")},
    )
    resize: Annotated[int | None, NoneWord] = _option(
        None, "--resize", "side that images are resized to", unit="pixels", ge=8, le=4096
    )
    limit: Annotated[int | None, NoneWord] = _option(
        None, "--limit", "images per split, drawn evenly over the classes", unit="images", step=100, ge=1
    )
    val_share: float = _option(
        0.0, "--val_share", "share of the training images set aside for validation", step=0.05, ge=0, le=0.9
    )
    augment: bool = _option(False, "--augment", "random crop with padding 4 and horizontal flip")
    noise: float = _option(0.0, "--noise", "sd of Gaussian noise added to normalised training images", step=0.05, ge=0)
    workers: int = _option(
        4, "--workers", "processes that decode images", ge=0, le=256, when={"data.dataset": ("imagenet",)}
    )


class TrainingSection(Section):
    """The loop."""

    batch_size: int = _option(256, "--batch_size", "images per step", unit="images", step=16, ge=1)
    accumulate: int = _option(
        1, "--accumulate", "micro-batches a step is computed in, so that a large batch fits", ge=1
    )
    num_epochs: int = _option(150, "--num_epochs", "passes over the training images", unit="epochs", ge=1)
    criterion: Literal["CrossEntropy", "MSE"] = _option(
        "CrossEntropy", "--criterion", "loss; MSE is against one-hot targets"
    )
    clip_grad_norm: float = _option(
        1.0, "--clip_grad_norm", "largest global norm of the gradient; 0 turns clipping off", step=0.5, ge=0
    )
    seed: int = _option(0, "--seed", "seed of weights, order, candidates and augmentation", ge=0, lt=2**63)


class OptimizerSection(Section):
    """How weights are updated."""

    name: Literal["adam", "sgd", "adamw"] = _option("adamw", "--optimizer", "optimizer")
    lr: float = _option(1e-3, "--lr", "initial learning rate", gt=0)
    weight_decay: float = _option(
        1e-6, "--weight_decay", "decay of the weights: decoupled in adamw, L2 in adam and sgd", ge=0
    )
    momentum: float = _option(
        0.9, "--momentum", "momentum of sgd", step=0.05, ge=0, lt=1, when={"optimizer.name": ("sgd",)}
    )


class SchedulerSection(Section):
    """How the learning rate changes over the epochs."""

    name: Literal["step", "cosine", "plateau", "none"] = _option(
        "none", "--scheduler", "schedule of the learning rate; plateau watches accuracy"
    )
    step: int = _option(
        20, "--lr_step", "epochs between two cuts of the rate", unit="epochs", ge=1, when={"scheduler.name": ("step",)}
    )
    gamma: float = _option(
        0.1,
        "--lr_gamma",
        "factor of a cut of the rate",
        step=0.05,
        gt=0,
        lt=1,
        when={"scheduler.name": ("step", "plateau")},
    )


class RuntimeSection(Section):
    """Where and how the run is computed."""

    device: str = _option(
        "auto",
        "--device",
        "device; auto takes cuda, then mps, then cpu",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        hint="auto, cpu, cuda, cuda:N, mps",
    )
    amp: bool = _option(False, "--use_amp", "automatic mixed precision")
    amp_dtype: Literal["auto", "bf16", "fp16"] = _option(
        "auto", "--amp_dtype", "number format of mixed precision; cpu takes bf16 only", when={"runtime.amp": (True,)}
    )
    compile: bool = _option(False, "--use_compiled", "compile the model with torch.compile")
    compile_mode: Literal["default", "reduce-overhead", "reduce-memory", "max-autotune"] = _option(
        "default",
        "--compile_mode",
        "what compilation favours; reduce-memory recomputes activations",
        when={"runtime.compile": (True,)},
    )
    threads: int = _option(0, "--threads", "CPU threads of torch; 0 is torch's choice", ge=0, le=1024)
    deterministic: bool = _option(
        False, "--deterministic", "only algorithms that repeat bit for bit (cpu runs always do)"
    )


class CheckpointSection(Section):
    """When the state of a run is saved."""

    every_epochs: int = _option(1, "--checkpoint_epochs", "epochs between two checkpoints", unit="epochs", ge=1)
    every_minutes: Annotated[float | None, NoneWord] = _option(
        None, "--checkpoint_minutes", "minutes between two checkpoints inside an epoch", unit="minutes", gt=0
    )


class RunSection(Section):
    """What the run is called."""

    name: Annotated[str | None, NoneWord] = _option(
        None,
        "--name",
        "name of the run, part of its directory's name",
        pattern=f"^{SAFE_NAME}$",
        hint="letters, digits, . _ + = -",
    )
    tags: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\s,\x00-\x1f\x7f]{1,60}$")], ...], _Tuple] = _option(
        (), "--tag", "word to find the run by; may be given several times", hint="a word"
    )


class OutputSection(Section):
    """Where the run is written; never part of a preset."""

    dir: Annotated[str | None, NoneWord] = _option(
        None, "--output_dir", "directory of the run; none makes a fresh one under ./runs", min_length=1
    )
    test_only: bool = _option(False, "--test_only", "evaluate a checkpoint instead of training")


class RunConfig(Section):
    """One run, whole: what `config.toml` holds, and all that decides the numbers."""

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
