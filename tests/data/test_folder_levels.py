"""Folds, years and magnifications are no classes, nor are images beside their masks."""

from __future__ import annotations

import os

import pytest

from convnn.data.class_folders import list_image_folders
from convnn.errors import Exit, UserError


@pytest.mark.parametrize(
    "folders",
    [
        ["fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog", "fold3/cat", "fold3/dog"],
        ["40X/benign", "40X/malignant", "100X/benign", "100X/malignant"],
        ["2019/cat", "2019/dog", "2020/cat", "2020/dog", "2020/bird"],
        ["photo/cat", "photo/dog", "art/cat", "art/bird"],
        ["train/a/cat", "train/a/dog", "train/b/cat", "train/b/dog", "test/a/cat", "test/b/cat"],
    ],
)
def test_folders_that_contain_the_classes_are_a_level_too_high(tree, folders):
    root = tree(dict.fromkeys(folders, 5))
    with pytest.raises(UserError) as raised:
        list_image_folders(root)
    [problem] = raised.value.problems
    assert raised.value.code == Exit.DATA and "a level too high" in problem.message
    first = sorted(folder.rsplit("/", 1)[0] for folder in folders if not folder.startswith("test"))[0]
    assert f"--data_path {root / first}" in problem.fix


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/images", "dog/images"],
        ["animal/cat", "animal/dog", "vehicle/car", "vehicle/truck"],
        ["cat/a", "dog"],
        ["cat/1", "cat/2", "dog/3", "dog/4"],
        ["mask", "no_mask"],
    ],
)
def test_subfolders_of_a_class_are_part_of_it(tree, folders):
    listed = list_image_folders(tree(dict.fromkeys(folders, 5)))
    assert listed.classes == tuple(sorted({folder.partition("/")[0] for folder in folders}))


@pytest.mark.parametrize(
    ("folders", "parent"),
    [
        (["images", "masks"], "."),
        (["cat/Images", "cat/Masks", "dog/Images", "dog/Masks"], "cat"),
        (["cat", "dog/images", "dog/masks"], "dog"),
    ],
)
def test_images_beside_masks_are_refused(tree, folders, parent):
    root = tree(dict.fromkeys(folders, 5))
    with pytest.raises(UserError, match="segmentation") as raised:
        list_image_folders(root)
    assert raised.value.problems[0].value == str(root / parent)


def test_the_folder_of_a_class_is_read_once(tree):
    root, visited = tree({"train/cat": 2, "train/dog": 2, "test/cat": 2, "test/dog": 2}), []
    list_image_folders(root, visited)
    assert visited.count(str(root / "train" / "dog")) == 1


def test_a_pipe_and_a_folder_with_the_name_of_an_image_are_counted(tree):
    root = tree({"cat": 5, "dog": 5})
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "dog" / "folder.png").mkdir()
    assert list_image_folders(root).notes == ("passed over: 1 folder named as an image, 1 special file",)
