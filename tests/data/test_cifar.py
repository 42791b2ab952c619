import gzip
import io
import pickle
import re
import tarfile
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from convnn.data.catalog import DATASETS
from convnn.data.cifar import CIFAR10_NORMALIZATION, CIFAR100_NORMALIZATION
from convnn.errors import Exit, UserError

CLOSED_PORT = "http://127.0.0.1:9/none.tar.gz"  # the discard port: refused at once
PER_FILE = 20


def class_of(name: str):
    """The data set of torchvision, whose import takes a second and loads the compiler."""
    from torchvision import datasets

    return getattr(datasets, name.upper())


class SmallCifar:
    """A data set in CIFAR's format with few images per file; torchvision is given its MD5s in place of CIFAR's."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset_class = class_of(name)
        self.dataset_class, self.monkeypatch = dataset_class, monkeypatch
        fine = name == "cifar100"
        self.num_classes = 100 if fine else 10
        self.label_key = "fine_labels" if fine else "labels"
        self.train_files = [name for name, _ in dataset_class.train_list]
        self.test_files = [name for name, _ in dataset_class.test_list]
        self.url = CLOSED_PORT
        random = np.random.default_rng(0)
        self.files = {name: self.batch(random) for name in (*self.train_files, *self.test_files)}
        names = {dataset_class.meta["key"]: [f"class {index}" for index in range(self.num_classes)]}
        self.files[dataset_class.meta["filename"]] = pickle.dumps(names, protocol=2)
        self.publish()

    def batch(self, random: np.random.Generator) -> bytes:
        pixels = random.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
        return pickle.dumps({"data": pixels, self.label_key: [i % self.num_classes for i in range(PER_FILE)]}, 2)

    def publish(self) -> None:
        """Make the MD5s of the present contents those that torchvision compares with."""
        sums = {name: digest(content) for name, content in self.files.items()}
        meta = self.dataset_class.meta
        for name, value in {
            "url": self.url,
            "tgz_md5": digest(self.archive()),
            "train_list": [[name, sums[name]] for name in self.train_files],
            "test_list": [[name, sums[name]] for name in self.test_files],
            "meta": {**meta, "md5": sums[meta["filename"]]},
        }.items():
            self.monkeypatch.setattr(self.dataset_class, name, value)

    def archive(self) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in self.files.items():
                member = tarfile.TarInfo(f"{self.dataset_class.base_folder}/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return gzip.compress(out.getvalue(), mtime=0)  # the same at any time

    def unpack(self, root: Path) -> Path:
        folder = root / self.dataset_class.base_folder
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder


def digest(content: bytes) -> str:
    return md5(content).hexdigest()


@pytest.fixture
def cifar10(monkeypatch):
    return SmallCifar("cifar10", monkeypatch)


@pytest.fixture
def cifar100(monkeypatch):
    return SmallCifar("cifar100", monkeypatch)


@pytest.fixture
def refused(opened):
    """Opens CIFAR-10 and returns the problem that it is refused with."""

    def call(path):
        with pytest.raises(UserError) as caught:
            opened("cifar10", path)
        assert caught.value.code == Exit.DATA
        (problem,) = caught.value.problems
        assert problem.key == "data.path" and problem.fix
        return problem

    return call


@pytest.mark.parametrize(
    ("name", "normalization"), [("cifar10", CIFAR10_NORMALIZATION), ("cifar100", CIFAR100_NORMALIZATION)]
)
def test_the_files_of_the_archive_become_batches(opened, tmp_path, request, name, normalization):
    small = request.getfixturevalue(name)
    small.unpack(tmp_path)
    data = opened(name, tmp_path)
    assert (data.train.num_images, data.test.num_images) == (PER_FILE * len(small.train_files), PER_FILE)
    assert data.image_size == (32, 32)
    assert data.classes == tuple(f"class {index}" for index in range(small.num_classes))
    assert (data.mean, data.std) == normalization
    x, y = (torch.cat(parts) for parts in zip(*data.test.epoch(1), strict=True))
    batch = pickle.loads(small.files[small.test_files[0]])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization)
    pixels = torch.tensor(batch["data"].reshape(-1, 3, 32, 32))
    torch.testing.assert_close(x, (pixels / 255 - mean) / std)
    assert y.tolist() == batch[small.label_key]


def test_training_images_are_in_the_order_of_the_files(opened, tmp_path, cifar10):
    cifar10.unpack(tmp_path)
    data = opened("cifar10", tmp_path, normalization=((0.0,) * 3, (1.0,) * 3), batch_size=100)
    data.train.shuffle = False
    ((x, _),) = data.train.epoch(1)
    pixels = [pickle.loads(cifar10.files[name])["data"] for name in cifar10.train_files]
    assert np.array_equal(x.mul(255).round().byte().numpy(), np.concatenate(pixels).reshape(-1, 3, 32, 32))


def test_resize_limit_and_validation(opened, tmp_path, cifar10):
    cifar10.unpack(tmp_path)
    data = opened("cifar10", tmp_path, resize=16, limit=50, val_share=0.2, augment=True)
    assert (data.train.num_images, data.val.num_images, data.test.num_images) == (40, 10, 20)
    assert next(data.train.epoch(1))[0].shape == (16, 3, 16, 16)
    assert data.train.flip and not data.val.flip


def test_a_test_only_evaluation_does_not_need_the_training_files(opened, tmp_path, cifar10):
    folder = cifar10.unpack(tmp_path)
    for name in cifar10.train_files:
        (folder / name).unlink()
    assert opened("cifar10", tmp_path, splits=("test",)).train is None


def test_a_damaged_file_is_named_with_its_md5(refused, tmp_path, cifar10):
    folder = cifar10.unpack(tmp_path)
    (folder / "data_batch_2").write_bytes(cifar10.files["data_batch_2"][:-10])
    problem = refused(tmp_path)
    assert problem.value == f"{folder}/data_batch_2"
    assert digest(cifar10.files["data_batch_2"]) in problem.message


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_tampered_file_executes_nothing(refused, tmp_path, cifar10, name):
    folder, canary = cifar10.unpack(tmp_path), tmp_path / "canary"
    malicious = b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    pickle.loads(malicious)
    assert canary.exists(), "it does execute code where it is loaded"
    canary.unlink()
    (folder / name).write_bytes(malicious)
    assert refused(tmp_path).value == f"{folder}/{name}"
    assert not canary.exists()


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_missing_file_is_named(refused, tmp_path, cifar10, name):
    folder = cifar10.unpack(tmp_path)
    (folder / name).unlink()
    problem = refused(tmp_path)
    assert problem.value == f"{folder}/{name}"
    assert "is missing" in problem.message


def test_a_file_that_cannot_be_read_is_named(refused, tmp_path, cifar10, monkeypatch):
    folder = cifar10.unpack(tmp_path)

    def read_md5(path, *arguments):
        raise PermissionError(13, "Permission denied", str(path))

    # file permissions do not stop the superuser, who may run this test
    monkeypatch.setattr("torchvision.datasets.utils.calculate_md5", read_md5)
    problem = refused(tmp_path)
    assert problem.value == f"{folder}/data_batch_1"
    assert "Permission denied" in problem.message


def test_without_a_network_the_problem_names_the_archive_to_fetch(refused, tmp_path, cifar10):
    problem = refused(tmp_path / "Data")
    assert f"{tmp_path}/Data" in problem.message
    assert CLOSED_PORT in problem.fix and "170 MB" in problem.fix
    assert not (tmp_path / "Data").exists()


def test_a_path_that_cannot_be_created_is_a_problem(refused, tmp_path, cifar10):
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/Data" in refused(tmp_path / "file" / "Data").message


def test_an_archive_in_place_is_unpacked_without_a_network(opened, tmp_path, cifar10):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar10.archive())
    assert opened("cifar10", tmp_path).train.num_images == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_a_damaged_archive_in_place_is_named_and_left_alone(refused, tmp_path, cifar10):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(cifar10.archive()[:-100])
    assert refused(tmp_path).value == str(archive)
    assert archive.read_bytes() == cifar10.archive()[:-100]
    assert list(tmp_path.iterdir()) == [archive]


@pytest.fixture
def server(tmp_path):
    """The address of a folder that is served on this machine alone, and the folder."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}", folder
        http_server.shutdown()


def test_a_missing_data_set_is_downloaded_once_and_stdout_stays_empty(opened, tmp_path, server, cifar10, capsys):
    address, folder = server
    (folder / "cifar.tar.gz").write_bytes(cifar10.archive())
    cifar10.url = f"{address}/cifar.tar.gz"
    cifar10.publish()
    assert opened("cifar10", tmp_path / "Data").test.num_images == PER_FILE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(r"100(\.0)?%", printed.err)  # with tqdm or without
    assert [path.name for path in (tmp_path / "Data").iterdir()] == ["cifar-10-batches-py"]
    cifar10.url = CLOSED_PORT
    cifar10.publish()
    assert opened("cifar10", tmp_path / "Data").test.num_images == PER_FILE


def test_an_incomplete_download_leaves_nothing(refused, tmp_path, server, cifar10):
    address, folder = server
    (folder / "cifar.tar.gz").write_bytes(cifar10.archive()[:-100])
    cifar10.url = f"{address}/cifar.tar.gz"
    cifar10.publish()
    refused(tmp_path / "Data")
    assert not (tmp_path / "Data").exists()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_catalog_names_folder_and_archive_as_torchvision_does(name):
    download, dataset_class = DATASETS[name].download, class_of(name)
    assert (download.folder, download.archive) == (dataset_class.base_folder, dataset_class.filename)
