"""Networks with published weights: VGG16, AlexNet, SqueezeNet, and how each wants its pictures."""

from .alexnet import alexnet
from .preprocessing import caffe_pixels, torchvision_pixels
from .squeezenet import Fire, squeezenet
from .vgg import vgg16

__all__ = ["Fire", "alexnet", "caffe_pixels", "squeezenet", "torchvision_pixels", "vgg16"]
