"""CIFAR-10."""

from functools import partial

from convnn.data.cifar import CIFAR10, open_cifar

open_set = partial(open_cifar, CIFAR10)
