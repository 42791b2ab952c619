"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), downloaded and read by torchvision.

Their files are pickles, which can execute code when they are loaded: torchvision loads a file only after its MD5 has
been compared with the published one.
"""

from __future__ import annotations

import socket
import sys
import tarfile
import zlib
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset, Normalization
from convnn.data.catalog import DATASETS
from convnn.data.class_folders import data_error
from convnn.data.in_memory import load_in_memory, resize_images
from convnn.errors import Exit, UserError

if TYPE_CHECKING:  # takes a second to import
    from torchvision.datasets import CIFAR10

SIDE = 32  # pixels, unless resized
NETWORK_TIMEOUT = 20  # seconds without a byte
CIFAR10_NORMALIZATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_NORMALIZATION = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def open_cifar10(path: Path, options: DataOptions) -> LoadedDataset:
    """Open CIFAR-10 in `path`, downloading it if it is missing. Raises UserError if that fails or a file is damaged."""
    from torchvision.datasets import CIFAR10

    return _open(CIFAR10, "cifar10", CIFAR10_NORMALIZATION, path, options)


def open_cifar100(path: Path, options: DataOptions) -> LoadedDataset:
    from torchvision.datasets import CIFAR100

    return _open(CIFAR100, "cifar100", CIFAR100_NORMALIZATION, path, options)


def _open(
    dataset_class: type[CIFAR10], name: str, normalization: Normalization, path: Path, options: DataOptions
) -> LoadedDataset:
    if not (path / dataset_class.base_folder).is_dir():
        _download(dataset_class, name, path)
    datasets = {
        split: _read_split(dataset_class, path, split) for split in options.splits_to_read(measures_normalization=False)
    }
    labels = {split: dataset.targets for split, dataset in datasets.items()}
    classes = tuple(next(iter(datasets.values())).classes)
    side = options.resize or SIDE

    def read_images(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        images = torch.from_numpy(datasets[split].data).permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
        return resize_images(images[torch.tensor(positions)], side), positions

    return load_in_memory(options, classes, labels, read_images, size=(side, side), normalization=normalization)


def _read_split(dataset_class: type[CIFAR10], path: Path, split: str) -> CIFAR10:
    """Read one split. The files of the other are not checked: an evaluation needs the test images alone."""
    skipped_list = {"train": "test_list", "test": "train_list"}[split]
    split_class = type(dataset_class.__name__, (dataset_class,), {skipped_list: []})
    folder = path / dataset_class.base_folder
    try:
        return split_class(path, train=split == "train")
    except RuntimeError as error:  # an MD5 differs
        file, md5 = _damaged_file(dataset_class, folder, split)
        reason = f"is damaged or incomplete: its MD5 is not {md5}" if file.exists() else "is missing"
        raise data_error(file, reason, f"remove {folder}, so that it is downloaded again") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise data_error(error.filename or folder, reason, "check its permissions") from error


def _damaged_file(dataset_class: type[CIFAR10], folder: Path, split: str) -> tuple[Path, str]:
    """Return the first file of a split whose MD5 is not the published one, and that one."""
    from torchvision.datasets.utils import check_integrity

    meta = dataset_class.meta
    files = [*getattr(dataset_class, f"{split}_list"), (meta["filename"], meta["md5"])]
    return next((folder / file, md5) for file, md5 in files if not check_integrity(folder / file, md5))


def _download(dataset_class: type[CIFAR10], name: str, path: Path) -> None:
    """Unpack the archive that is in `path`, or else the one from the network.

    It is unpacked beside its destination and then renamed: an interrupted download leaves no folder that looks whole.
    """
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    url, archive, md5 = dataset_class.url, path / dataset_class.filename, dataset_class.tgz_md5
    download = DATASETS[name].download
    assert download is not None
    timeout = socket.getdefaulttimeout()
    is_new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if archive.is_file() and not check_integrity(archive, md5):
            fix = "remove it to download it again"
            raise data_error(archive, f"is damaged or incomplete: its MD5 is not {md5}", fix)
        socket.setdefaulttimeout(NETWORK_TIMEOUT)
        # torchvision may print, and stdout is for data; an archive that is in place is not downloaded again
        with TemporaryDirectory(dir=path, prefix=".download-") as folder, redirect_stdout(sys.stderr):
            root = path if archive.is_file() else folder
            download_and_extract_archive(url, root, extract_root=folder, filename=archive.name, md5=md5)
            (Path(folder) / dataset_class.base_folder).rename(path / dataset_class.base_folder)
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        message = f"{name} is not in {path} and could not be downloaded: {error}"
        fix = f"download {url} ({download.megabytes} MB) and put it into {path}, or use --dataset digits"
        raise UserError(message, Exit.DATA, key="data.path", value=str(path), fix=fix) from error
    finally:
        socket.setdefaulttimeout(timeout)
        if is_new:
            with suppress(OSError):  # not empty: the data set is there
                path.rmdir()
