"""CIFAR-100."""

from functools import partial

from convnn.data.cifar import CIFAR100, open_cifar

open_set = partial(open_cifar, CIFAR100)
