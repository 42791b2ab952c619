"""The models: networks whose convolution slots are filled by a factory."""

from convnn.models.resnet import ResNet
from convnn.models.vgg import VGG

__all__ = ["VGG", "ResNet"]
