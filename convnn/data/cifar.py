"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): the Python archives, downloaded where they are not there.

The archives hold pickles. Each is read by a restricted reader, and only after its MD5 is the known one.
"""

from __future__ import annotations

import socket
import sys
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from hashlib import file_digest, md5
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convnn.data import DataOptions, LoadedDataset, PerChannel, safe_pickle
from convnn.data.catalog import CIFAR
from convnn.data.class_folders import unusable
from convnn.data.in_memory import in_memory, resized
from convnn.errors import Exit, Problem, UserError
from convnn.text import escaped

SIDE = 32  # pixels, unless resized
TIMEOUT = 20  # seconds without a byte from the network


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and what its files must be: names and their MD5."""

    name: str
    url: str
    archive_md5: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: tuple[str, str]
    label_key: str
    names_key: str
    normalization: tuple[PerChannel, PerChannel]


CIFAR10 = Source(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    label_key="labels",
    names_key="label_names",
    normalization=((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
)
CIFAR100 = Source(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
    label_key="fine_labels",
    names_key="fine_label_names",
    normalization=((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
)


def open_cifar(source: Source, path: Path, want: DataOptions) -> LoadedDataset:
    """Read the splits that are wanted. Raises UserError if a file is missing and cannot be fetched, or is not right."""
    folder = path / CIFAR[source.name][0]
    if not folder.is_dir():
        fetch(source, path)
    names = _field(_load(folder / source.meta[0], source.meta[1]), source.names_key, folder / source.meta[0])
    classes = tuple(escaped(name) for name in names)
    arrays = {
        split: _split(folder, source.train if split == "train" else source.test, source.label_key, len(classes))
        for split in want.reads(measured=False)
    }
    side = want.resize or SIDE

    def read(split: str, positions: Sequence[int]) -> tuple[Tensor, Sequence[int]]:
        return resized(torch.from_numpy(arrays[split][0][np.asarray(positions)]), side), positions

    labels = {split: found for split, (_, found) in arrays.items()}
    return in_memory(want, classes, labels, read, size=(side, side), normalization=source.normalization)


def fetch(source: Source, path: Path) -> None:
    """Put the unpacked folder into `path`, from the archive that is there or from the network."""
    folder, archive, megabytes = CIFAR[source.name]
    fix = f"download {source.url} ({megabytes} MB) and put it into {escaped(path)}, or set data.dataset to digits"
    try:
        path.mkdir(parents=True, exist_ok=True)
        # beside its final place and renamed at the end: a broken download leaves nothing that looks whole
        with TemporaryDirectory(dir=path, prefix=".download-") as made:
            file = path / archive
            if not file.is_file():
                file = Path(made) / archive
                _download(source.url, file)
            _unpack(source, file, Path(made) / folder)
            (Path(made) / folder).rename(path / folder)
    except (OSError, HTTPException, RuntimeError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        message = f"{source.name} is not at {escaped(path)} and could not be fetched: {escaped(error)}"
        raise UserError(Problem(message, key="data.path", value=str(path), fix=fix), Exit.DATA) from error


def _download(url: str, file: Path) -> None:
    from torchvision.datasets.utils import download_url  # takes a second to import, and is needed once

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with redirect_stdout(sys.stderr):  # it prints what it does, and stdout is for data
            download_url(url, str(file.parent), file.name)
    finally:
        socket.setdefaulttimeout(before)


def _unpack(source: Source, archive: Path, into: Path) -> None:
    """Write the files that are needed, and nothing else that the archive may hold."""
    with archive.open("rb") as file:
        if (found := file_digest(file, "md5").hexdigest()) != source.archive_md5:
            raise OSError(f"{archive} is damaged or incomplete (its MD5 is {found}, not {source.archive_md5})")
    into.mkdir()
    with tarfile.open(archive) as tar:
        for name in (*source.train, *source.test, source.meta[0]):
            member = tar.extractfile(f"{into.name}/{name}")
            if member is None:
                raise OSError(f"{archive} holds no file {name}")
            (into / name).write_bytes(member.read())


def _split(folder: Path, files: Mapping[str, str], label_key: str, classes: int) -> tuple[np.ndarray, list[int]]:
    """Pixels uint8 (N, 3, 32, 32) and labels."""
    pixels, labels = [], []
    for name, expected in files.items():
        batch = _load(folder / name, expected)
        found, told = _field(batch, "data", folder / name), _field(batch, label_key, folder / name)
        if not (isinstance(told, list) and all(isinstance(label, int) and 0 <= label < classes for label in told)):
            raise _not_cifar(folder / name)
        if not (isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.shape == (len(told), 3 * SIDE**2)):
            raise _not_cifar(folder / name)
        pixels.append(found.reshape(-1, 3, SIDE, SIDE))
        labels += told
    return np.concatenate(pixels), labels


def _load(file: Path, expected: str) -> Any:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise unusable(file, f"cannot be read: {error.strerror}", f"remove {escaped(file.parent)}") from error
    if md5(content, usedforsecurity=False).hexdigest() != expected:
        fix = f"remove {escaped(file.parent)}, so that it is unpacked or downloaded again"
        raise unusable(file, f"is damaged or incomplete (its MD5 is not {expected})", fix)
    try:
        return safe_pickle.load(content)
    except UnpicklingError as error:
        raise unusable(file, f"is not what it should be: it {error}", f"remove {escaped(file.parent)}") from error


def _field(batch: Any, key: str, file: Path) -> Any:
    if not isinstance(batch, dict) or key not in batch:
        raise _not_cifar(file)
    return batch[key]


def _not_cifar(file: Path) -> UserError:
    return unusable(file, "does not hold images and labels as CIFAR does", f"remove {escaped(file.parent)}")
