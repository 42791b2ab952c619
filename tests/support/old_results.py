"""Result directories as the original tool left them, made for tests."""

from __future__ import annotations

from pathlib import Path

ARGUMENTS = {
    "model": "vgg11",
    "layer": "Branching",
    "K": 9,
    "kernel_size": 3,
    "padding": 1,
    "sampling_type": "all",
    "num_samples": -1,
    "sample_padding": 0,
    "attention_dropout": 0.1,
    "shuffle_pattern": "NA",
    "shuffle_scale": 0,
    "magnitude_type": "cosine",
    "similarity_type": "Col",
    "aggregation_type": "Col",
    "lambda_param": 0.5,
    "branch_ratio": 0.5,
    "dataset": "cifar10",
    "resize": None,
    "augment": False,
    "noise": 0.0,
    "data_path": "./Data",
    "use_compiled": False,
    "compile_mode": "default",
    "batch_size": 256,
    "num_epochs": 3,
    "use_amp": False,
    "clip_grad_norm": 1.0,
    "criterion": "CrossEntropy",
    "optimizer": "adamw",
    "momentum": 0.9,
    "weight_decay": 0.01,
    "lr": 0.0001,
    "lr_step": 20,
    "lr_gamma": 0.1,
    "scheduler": "none",
    "device": "cuda",
    "seed": 42,
    "output_dir": "./Final_Output/elsewhere",
    "test_only": False,
    "num_classes": 10,
    "img_size": (3, 32, 32),
    "total_params": 130015690,
    "trainable_params": 130015690,
}
COMPLEXITY = "Model Complexity (Profiler): GFLOPs: 0.33130096, Trainable Parameters: 130.01569000 M\n"


def args(**changed: object) -> str:
    """The text of args.txt; an option that is `...` is left out."""
    arguments = {**ARGUMENTS, **changed}
    return "".join(f"{name}: {value}\n" for name, value in arguments.items() if value is not ...)


def epoch(number: int, top1: float, *, seconds: float = 16.0, loss: str = "1.64432178") -> str:
    """A line of train_eval_results.txt."""
    return (
        f"[Epoch {number:03d}] Time: {seconds:.4f}s "
        f"| [Train] Loss: {loss} Accuracy: Top1: {top1 / 2:.4f}%, Top5: 88.6017% "
        f"| [Test] Loss: 1.54460554 Accuracy: Top1: {top1:.4f}%, Top5: 89.9512%\n"
    )


def results(*top1: float) -> str:
    """The text of train_eval_results.txt of a run that ended."""
    best = max(top1)
    lines = [epoch(number, value) for number, value in enumerate(top1, 1)]
    end = f"\nAverage Epoch Time: 16.0000s\nMax Accuracy: {best:.4f}% at Epoch {top1.index(best) + 1}\n"
    return COMPLEXITY + "".join(lines) + end


def directory(path: Path, text: str | None = None, **changed: object) -> Path:
    """A result directory; three epochs unless the text of its results is given."""
    path.mkdir(parents=True)
    (path / "args.txt").write_text(args(**changed))
    (path / "train_eval_results.txt").write_text(results(40.0, 60.0, 55.0) if text is None else text)
    return path
