import io
import pickle
import tarfile
from dataclasses import replace
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch

from convnn.data import DataOptions
from convnn.data.catalog import CIFAR
from convnn.data.cifar import CIFAR10, CIFAR100, open_cifar
from convnn.errors import Exit, UserError

NOWHERE = "http://127.0.0.1:9/none.tar.gz"  # the discard port: refused at once


def digest(content: bytes) -> str:
    return md5(content).hexdigest()


def small(original=CIFAR10, per_file=20, **changed):
    """A data set in the format of the original with few images: the files' contents, and its source."""
    pixels = np.random.default_rng(0)
    classes = 10 if original is CIFAR10 else 100
    files = {}
    for name in (*original.train, *original.test):
        data = pixels.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        batch = {"data": data, original.label_key: [i % classes for i in range(per_file)]}
        files[name] = pickle.dumps(batch | changed, protocol=2)
    files[original.meta[0]] = pickle.dumps({original.names_key: [f"c{i}" for i in range(classes)]}, protocol=2)
    return files, source_of(files, original)


def source_of(files, original=CIFAR10, **changed):
    sums = {name: digest(content) for name, content in files.items()}
    return replace(
        original,
        url=NOWHERE,
        train={name: sums[name] for name in original.train},
        test={name: sums[name] for name in original.test},
        meta=(original.meta[0], sums[original.meta[0]]),
        **changed,
    )


def written(root, files, source):
    folder = root / CIFAR[source.name][0]
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def archive_of(files, source):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR[source.name][0]}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def opened(source, root, **options):
    default = dict.fromkeys(("resize", "limit", "normalization"))
    default |= {"val_share": 0.0, "augment": False, "noise": 0.0, "batch_size": 16, "seed": 0, "device": "cpu"}
    return open_cifar(source, root, DataOptions(**{**default, "workers": 0, "splits": ("train", "test"), **options}))


def refused(source, root):
    with pytest.raises(UserError) as caught:
        opened(source, root)
    assert caught.value.code == Exit.DATA
    return str(caught.value)


@pytest.mark.parametrize("original", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_the_files_of_the_archive_become_batches(tmp_path, original):
    files, source = small(original)
    written(tmp_path, files, source)
    data = opened(source, tmp_path)
    assert (data.train.num_images, data.test.num_images) == (20 * len(original.train), 20)
    assert data.image_size == (32, 32)
    assert (data.mean, data.std) == original.normalization
    x = torch.cat([x for x, _ in data.test.epoch(1)])
    pixels = pickle.loads(files[next(iter(original.test))])["data"].reshape(-1, 3, 32, 32)
    mean, std = (torch.tensor(figures).view(3, 1, 1) for figures in original.normalization)
    torch.testing.assert_close(x, (torch.tensor(pixels) / 255 - mean) / std)


def test_resize_limit_and_validation(tmp_path):
    files, source = small()
    written(tmp_path, files, source)
    data = opened(source, tmp_path, resize=16, limit=50, val_share=0.2, augment=True)
    assert (data.train.num_images, data.val.num_images, data.test.num_images) == (40, 10, 20)
    assert next(data.train.epoch(1))[0].shape == (16, 3, 16, 16)
    assert data.train.flip and not data.val.flip


def test_a_test_only_evaluation_does_not_need_the_training_files(tmp_path):
    files, source = small()
    folder = written(tmp_path, files, source)
    for name in CIFAR10.train:
        (folder / name).unlink()
    assert opened(source, tmp_path, splits=("test",)).train is None


def test_a_file_that_is_not_the_known_one_is_refused_unread(tmp_path):
    files, source = small()
    folder = written(tmp_path, files, source)
    (folder / "data_batch_2").write_bytes(files["data_batch_2"][:-10])
    message = refused(source, tmp_path)
    assert f"{folder}/data_batch_2 is damaged or incomplete (its MD5 is not {source.train['data_batch_2']})" in message
    assert f"fix: remove {folder}" in message


def test_a_hostile_file_with_the_right_digest_does_nothing(tmp_path):
    files, _ = small()
    files["test_batch"] = b"cposix\nsystem\n(S'touch " + str(tmp_path / "canary").encode() + b"'\ntR."
    source = source_of(files)
    written(tmp_path, files, source)
    assert "names posix.system, which no data needs" in refused(source, tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"data": [1, 2, 3]},
        {"data": np.zeros((20, 3071), dtype=np.uint8)},
        {"data": np.zeros((20, 3072))},
        {"labels": [99] * 20},
        {"labels": ["cat"] * 20},
        {"labels": None},
    ],
    ids=["no array", "size", "type", "label", "text", "none"],
)
def test_files_of_another_form_are_refused(tmp_path, changed):
    files, source = small(**changed)
    written(tmp_path, files, source)
    assert "does not hold images and labels as CIFAR does" in refused(source, tmp_path)


def test_a_missing_file_is_named(tmp_path):
    files, source = small()
    folder = written(tmp_path, files, source)
    (folder / "test_batch").unlink()
    assert f"{folder}/test_batch cannot be read: No such file" in refused(source, tmp_path)


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    message = refused(small()[1], tmp_path / "Data")
    assert f"cifar10 is not at {tmp_path}/Data and could not be fetched" in message
    assert f"fix: download {NOWHERE} (170 MB) and put it into {tmp_path}/Data" in message
    assert list((tmp_path / "Data").iterdir()) == []


def test_a_path_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    assert "could not be fetched" in refused(small()[1], tmp_path / "file" / "Data")


def test_an_archive_that_was_put_there_is_unpacked(tmp_path):
    files, source = small()
    content = archive_of(files, source)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
    assert opened(replace(source, archive_md5=digest(content)), tmp_path).train.num_images == 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_an_archive_that_broke_off_is_refused(tmp_path):
    files, source = small()
    content = archive_of(files, source)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content[:-100])
    assert "cifar-10-python.tar.gz is damaged or incomplete" in refused(
        replace(source, archive_md5=digest(content)), tmp_path
    )
    broken = replace(source, archive_md5=digest(content[:-100]))
    assert "could not be fetched" in refused(broken, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cifar-10-python.tar.gz"]


@pytest.fixture
def served(tmp_path):
    """The address of a folder that is served on this machine alone, and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_the_archive_is_downloaded_where_it_is_not_there(tmp_path, served, capsys):
    files, source = small()
    content = archive_of(files, source)
    address, folder = served
    (folder / "cifar.tar.gz").write_bytes(content)
    from_there = replace(source, url=f"{address}/cifar.tar.gz", archive_md5=digest(content))
    assert opened(from_there, tmp_path / "Data").test.num_images == 20
    assert capsys.readouterr().out == ""  # stdout is for data
    assert opened(replace(source, url=NOWHERE), tmp_path / "Data").test.num_images == 20, "once is enough"


def test_sources_are_those_that_torchvision_lists():
    from torchvision import datasets

    for ours, theirs in ((CIFAR10, datasets.CIFAR10), (CIFAR100, datasets.CIFAR100)):
        assert (ours.url, ours.archive_md5) == (theirs.url, theirs.tgz_md5)
        assert list(map(list, ours.train.items())) == theirs.train_list
        assert list(map(list, ours.test.items())) == theirs.test_list
        assert ours.meta == (theirs.meta["filename"], theirs.meta["md5"])
        assert CIFAR[ours.name][:2] == (theirs.base_folder, theirs.filename)


def test_both_names_open_their_own_source():
    from convnn.data import cifar10, cifar100

    for module, source in ((cifar10, CIFAR10), (cifar100, CIFAR100)):
        assert isinstance(module.open_set, partial)
        assert module.open_set.args == (source,)
