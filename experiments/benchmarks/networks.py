"""Which networks can be measured."""

DEEPID = "deepid"
PUBLIC = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenetv2": "MobileNetV2"}
NETWORKS = (DEEPID, *PUBLIC)
